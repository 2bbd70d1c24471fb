package compat;

import static compat.Clients.*;
import static compat.Harness.*;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Topics, partitions, their records and the cluster, as Admin sees them. */
final class AdminTopics {
    private AdminTopics() {}

    static void claims(Harness h) {
        h.claim("createTopics answers with partitions, replication and configs", AdminTopics::create);
        h.claim("createTopics with validateOnly checks and creates nothing", AdminTopics::validateOnly);
        h.claim("bad topic names are refused", AdminTopics::badNames);
        h.claim("what createTopics cannot do is refused with Kafka's error", AdminTopics::badRequests);
        h.claim("describeTopics by name and by id agree; unknown ones have their own errors", AdminTopics::describe);
        h.claim("describeTopics pages through many partitions and topics", AdminTopics::describeMany);
        h.claim("createPartitions grows a topic and refuses to shrink it", AdminTopics::grow);
        h.claim("deleteTopics by name and by id; unknown ones are refused", AdminTopics::delete);
        h.claim("deleteRecords moves the start and what lies below is gone", AdminTopics::deleteRecords);
        h.claim("listOffsets: earliest, latest, max timestamp, by timestamp, local and tiered", AdminTopics::listOffsets);
        h.claim("describeLogDirs knows every partition and its size", AdminTopics::logDirs);
        h.claim("describeCluster names a controller among the nodes", AdminTopics::cluster);
        h.claim("describeProducers shows an idempotent producer", AdminTopics::producers);
        h.claim("describeMetadataQuorum names its leader among the voters", AdminTopics::quorum);
        h.claim("describeFeatures has a finalized metadata.version", AdminTopics::features);
    }

    private static void create() throws Exception {
        var name = "compat-java-create-" + RUN;
        var result = ADMIN.createTopics(List.of(new NewTopic(name, 5, (short) 1).configs(Map.of("retention.ms", "86400000"))));
        same(5, result.numPartitions(name).get(), "partitions in the answer");
        same(1, result.replicationFactor(name).get(), "replication factor in the answer");
        same("86400000", result.config(name).get().get("retention.ms").value(), "config in the answer");
        same("delete", result.config(name).get().get("cleanup.policy").value(), "default config in the answer");
        usable(name, 5);
        var described = ADMIN.describeTopics(List.of(name)).allTopicNames().get().get(name);
        same(result.topicId(name).get(), described.topicId(), "topic id");
        same(5, described.partitions().size(), "partitions");
        for (var p : described.partitions()) {
            check(p.leader() != null && p.replicas().size() == 1 && p.isr().equals(p.replicas()), "leader and replicas of " + p);
        }
        var defaults = "compat-java-create-defaults-" + RUN;
        same(1, ADMIN.createTopics(List.of(new NewTopic(defaults, Optional.empty(), Optional.empty()))).numPartitions(defaults).get(), "partitions by default");
        var assigned = "compat-java-create-assigned-" + RUN;
        int node = described.partitions().get(0).leader().id();
        same(2, ADMIN.createTopics(List.of(new NewTopic(assigned, Map.of(0, List.of(node), 1, List.of(node))))).numPartitions(assigned).get(), "partitions assigned");
    }

    private static void validateOnly() throws Exception {
        var name = "compat-java-validate-" + RUN;
        var only = new CreateTopicsOptions().validateOnly(true);
        same(3, ADMIN.createTopics(List.of(new NewTopic(name, 3, (short) 1)), only).numPartitions(name).get(), "partitions in the answer");
        check(!ADMIN.listTopics().names().get().contains(name), "the topic was created");
        refused(InvalidReplicationFactorException.class, () -> ADMIN.createTopics(List.of(new NewTopic(name, 3, (short) 9)), only).all().get());
    }

    private static void badNames() throws Exception {
        for (var name : List.of("a b", "a/b", ".", "..", "x".repeat(250), "tïtle", "a:b")) {
            refused(InvalidTopicException.class, () -> ADMIN.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all().get());
        }
        var longest = ("compat-java-longest-" + RUN + "-").concat("x".repeat(249)).substring(0, 249);
        ADMIN.createTopics(List.of(new NewTopic(longest, 1, (short) 1))).all().get();
        ADMIN.deleteTopics(List.of(longest)).all().get();
        topic("collide.a", 1);
        var collision = "compat-java-collide_a-" + RUN;
        refused(InvalidTopicException.class, () -> ADMIN.createTopics(List.of(new NewTopic(collision, 1, (short) 1))).all().get());
    }

    private static void badRequests() throws Exception {
        var existing = topic("existing", 1);
        refused(TopicExistsException.class, () -> ADMIN.createTopics(List.of(new NewTopic(existing, 1, (short) 1))).all().get());
        var name = "compat-java-never-" + RUN;
        refused(InvalidReplicationFactorException.class, () -> ADMIN.createTopics(List.of(new NewTopic(name, 1, (short) 3))).all().get());
        refused(InvalidReplicationFactorException.class, () -> ADMIN.createTopics(List.of(new NewTopic(name, 1, (short) 0))).all().get());
        refused(InvalidPartitionsException.class, () -> ADMIN.createTopics(List.of(new NewTopic(name, 0, (short) 1))).all().get());
        refused(InvalidReplicaAssignmentException.class, () -> ADMIN.createTopics(List.of(new NewTopic(name, Map.of(0, List.of(4711))))).all().get());
        for (var config : List.of(Map.of("no.such.config", "1"), Map.of("retention.ms", "soon"), Map.of("cleanup.policy", "burn"), Map.of("min.insync.replicas", "0"))) {
            refused(InvalidConfigurationException.class, () -> ADMIN.createTopics(List.of(new NewTopic(name, 1, (short) 1).configs(config))).all().get());
        }
        check(!ADMIN.listTopics().names().get().contains(name), "a refused topic exists");
        var mixed = ADMIN.createTopics(List.of(new NewTopic(existing, 1, (short) 1), new NewTopic(name, 1, (short) 1))).values();
        refused(TopicExistsException.class, () -> mixed.get(existing).get());
        mixed.get(name).get();
    }

    private static void describe() throws Exception {
        var name = topic("describe", 2);
        var byName = ADMIN.describeTopics(List.of(name)).allTopicNames().get().get(name);
        var byId = ADMIN.describeTopics(TopicCollection.ofTopicIds(List.of(byName.topicId()))).allTopicIds().get().get(byName.topicId());
        same(name, byId.name(), "name by id");
        for (int i = 0; i < 2; i++) {
            var one = byName.partitions().get(i);
            var other = byId.partitions().get(i);
            same(List.of(i, one.leader(), one.replicas(), one.isr()), List.of(other.partition(), other.leader(), other.replicas(), other.isr()), "partition by id");
        }
        check(!byName.isInternal(), "the topic is not internal");
        refused(UnknownTopicOrPartitionException.class, () -> ADMIN.describeTopics(List.of("compat-java-unknown-" + RUN)).allTopicNames().get());
        refused(UnknownTopicIdException.class, () -> ADMIN.describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).allTopicIds().get());
        var listing = ADMIN.listTopics(new ListTopicsOptions().listInternal(true)).namesToListings().get();
        same(byName.topicId(), listing.get(name).topicId(), "topic id in the listing");
    }

    private static void describeMany() throws Exception {
        var large = topic("describe-large", 300);
        var names = IntStream.range(0, 12).mapToObj(i -> "compat-java-describe-many-" + i + "-" + RUN).toList();
        ADMIN.createTopics(names.stream().map(n -> new NewTopic(n, 3, (short) 1)).toList()).all().get();
        for (var name : names) {
            usable(name, 3);
        }
        var all = new java.util.ArrayList<>(names);
        all.add(large);
        var described = ADMIN.describeTopics(all, new org.apache.kafka.clients.admin.DescribeTopicsOptions().partitionSizeLimitPerResponse(50)).allTopicNames().get();
        same(Set.copyOf(all), described.keySet(), "topics described");
        same(IntStream.range(0, 300).boxed().toList(), described.get(large).partitions().stream().map(p -> p.partition()).toList(), "partitions described");
        check(names.stream().allMatch(n -> described.get(n).partitions().size() == 3), "each small topic has three partitions");
    }

    private static void grow() throws Exception {
        var name = topic("partitions", 2);
        ADMIN.createPartitions(Map.of(name, NewPartitions.increaseTo(9)), new CreatePartitionsOptions().validateOnly(true)).all().get();
        same(2, ADMIN.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size(), "partitions after validateOnly");
        ADMIN.createPartitions(Map.of(name, NewPartitions.increaseTo(4))).all().get();
        eventually("four partitions", Duration.ofSeconds(10),
            () -> ADMIN.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size() == 4 ? Optional.of(true) : Optional.empty());
        refused(InvalidPartitionsException.class, () -> ADMIN.createPartitions(Map.of(name, NewPartitions.increaseTo(3))).all().get());
        refused(InvalidPartitionsException.class, () -> ADMIN.createPartitions(Map.of(name, NewPartitions.increaseTo(4))).all().get());
        refused(UnknownTopicOrPartitionException.class, () -> ADMIN.createPartitions(Map.of("compat-java-unknown-" + RUN, NewPartitions.increaseTo(3))).all().get());
    }

    private static void delete() throws Exception {
        var first = topic("delete-name", 2);
        var second = topic("delete-id", 2);
        var id = ADMIN.describeTopics(List.of(second)).allTopicNames().get().get(second).topicId();
        ADMIN.deleteTopics(List.of(first)).all().get();
        ADMIN.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
        eventually("both topics are gone", Duration.ofSeconds(15), () -> {
            var names = ADMIN.listTopics().names().get();
            return names.contains(first) || names.contains(second) ? Optional.empty() : Optional.of(true);
        });
        refused(UnknownTopicOrPartitionException.class, () -> ADMIN.deleteTopics(List.of(first)).all().get());
        refused(UnknownTopicIdException.class, () -> ADMIN.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get());
    }

    private static void deleteRecords() throws Exception {
        var name = topic("delete-records", 2);
        var p = new TopicPartition(name, 0);
        var q = new TopicPartition(name, 1);
        try (var producer = producer()) {
            send(producer, samples(name, 1, 100));
            same(30L, ADMIN.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(30))).lowWatermarks().get(p).get().lowWatermark(), "low watermark");
            var got = readAll(name, 2);
            same(70, got.size(), "records left");
            same(30L, got.get(0).offset(), "first offset left");
            same(30L, ADMIN.listOffsets(Map.of(p, OffsetSpec.earliest())).partitionResult(p).get().offset(), "earliest offset");
            same(30L, ADMIN.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(10))).lowWatermarks().get(p).get().lowWatermark(), "low watermark never goes back");
            refused(OffsetOutOfRangeException.class, () -> ADMIN.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(101))).all().get());
            same(100L, ADMIN.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(-1))).lowWatermarks().get(p).get().lowWatermark(), "low watermark at the end");
            same(0L, ADMIN.deleteRecords(Map.of(q, RecordsToDelete.beforeOffset(-1))).lowWatermarks().get(q).get().lowWatermark(), "low watermark of an empty partition");
            same(100L, producer.send(new ProducerRecord<>(name, 0, null, utf8("next"))).get().offset(), "next offset");
            same(100L, readAll(name, 1).get(0).offset(), "first offset after all was deleted");
        }
    }

    private static void listOffsets() throws Exception {
        var name = topic("list-offsets", 2);
        var p = new TopicPartition(name, 0);
        var empty = new TopicPartition(name, 1);
        try (var producer = producer("batch.size", 1)) {
            for (long t : new long[] {10, 50, 30, 20}) {
                producer.send(new ProducerRecord<>(name, 0, BASE_TIME + t, null, utf8("x"))).get();
            }
        }
        Function<OffsetSpec, List<Long>> ask = spec -> {
            try {
                var result = ADMIN.listOffsets(Map.of(p, spec, empty, spec)).all().get();
                return List.of(result.get(p).offset(), result.get(p).timestamp(), result.get(empty).offset(), result.get(empty).timestamp());
            } catch (Exception e) {
                throw new AssertionError(spec.getClass().getSimpleName() + ": " + e, e);
            }
        };
        same(List.of(0L, -1L, 0L, -1L), ask.apply(OffsetSpec.earliest()), "earliest");
        same(List.of(4L, -1L, 0L, -1L), ask.apply(OffsetSpec.latest()), "latest");
        same(List.of(1L, BASE_TIME + 50, -1L, -1L), ask.apply(OffsetSpec.maxTimestamp()), "max timestamp");
        same(List.of(1L, BASE_TIME + 50, -1L, -1L), ask.apply(OffsetSpec.forTimestamp(BASE_TIME + 11)), "for a timestamp");
        same(List.of(-1L, -1L, -1L, -1L), ask.apply(OffsetSpec.forTimestamp(BASE_TIME + 51)), "for a time after the last");
        same(List.of(0L, -1L, 0L, -1L), ask.apply(OffsetSpec.earliestLocal()), "earliest local");
        same(List.of(-1L, -1L, -1L, -1L), ask.apply(OffsetSpec.latestTiered()), "latest tiered");
    }

    private static void logDirs() throws Exception {
        var name = topic("log-dirs", 3);
        try (var producer = producer()) {
            send(producer, List.of(new ProducerRecord<>(name, 1, null, noise(1, 50_000))));
        }
        int node = ADMIN.describeCluster().nodes().get().iterator().next().id();
        var sizes = new HashMap<TopicPartition, Long>();
        for (var dir : ADMIN.describeLogDirs(List.of(node)).allDescriptions().get().get(node).values()) {
            check(dir.error() == null, "error of a log directory: " + dir.error());
            check(dir.totalBytes().getAsLong() > 0 && dir.usableBytes().getAsLong() > 0, "space of the volume");
            dir.replicaInfos().forEach((p, info) -> sizes.put(p, info.size()));
        }
        same(Set.copyOf(partitions(name, 3)), sizes.keySet().stream().filter(p -> p.topic().equals(name)).collect(Collectors.toSet()), "partitions");
        check(sizes.get(new TopicPartition(name, 1)) >= 50_000, "size " + sizes.get(new TopicPartition(name, 1)));
        same(0L, sizes.get(new TopicPartition(name, 0)), "size of an empty partition");
    }

    private static void cluster() throws Exception {
        var cluster = ADMIN.describeCluster();
        var ids = cluster.nodes().get().stream().map(n -> n.id()).toList();
        check(ids.contains(cluster.controller().get().id()), "controller " + cluster.controller().get() + " among " + ids);
        check(cluster.clusterId().get() != null && !cluster.clusterId().get().isEmpty(), "cluster id");
        var port = Integer.parseInt(BOOTSTRAP.substring(BOOTSTRAP.lastIndexOf(':') + 1));
        check(cluster.nodes().get().stream().anyMatch(n -> n.port() == port), "the address asked is one of the nodes");
    }

    private static void producers() throws Exception {
        var name = topic("producers", 1);
        var p = new TopicPartition(name, 0);
        same(0, ADMIN.describeProducers(List.of(p)).partitionResult(p).get().activeProducers().size(), "producers of an empty partition");
        try (var producer = producer("batch.size", 1)) {
            send(producer, samples(name, 1, 5));
            var states = ADMIN.describeProducers(List.of(p)).partitionResult(p).get().activeProducers();
            same(1, states.size(), "producers");
            var state = states.get(0);
            check(state.producerId() >= 0, "producer id " + state.producerId());
            same(0, state.producerEpoch(), "producer epoch");
            same(4, state.lastSequence(), "last sequence");
            check(state.currentTransactionStartOffset().isEmpty(), "no transaction");
        }
    }

    private static void quorum() throws Exception {
        var quorum = ADMIN.describeMetadataQuorum().quorumInfo().get();
        check(quorum.voters().stream().anyMatch(v -> v.replicaId() == quorum.leaderId()), "leader " + quorum.leaderId() + " among " + quorum.voters());
        check(quorum.leaderEpoch() >= 0 && quorum.highWatermark() >= 0, "epoch and high watermark of " + quorum);
    }

    private static void features() throws Exception {
        var features = ADMIN.describeFeatures().featureMetadata().get();
        check(features.finalizedFeatures().containsKey("metadata.version"), "finalized " + features.finalizedFeatures());
        check(features.supportedFeatures().containsKey("metadata.version"), "supported " + features.supportedFeatures());
        check(features.finalizedFeaturesEpoch().isPresent(), "epoch of the features");
        features.finalizedFeatures().forEach((name, range) ->
            check(range.maxVersionLevel() <= features.supportedFeatures().get(name).maxVersion(), name + " is finalized beyond what is supported"));
    }
}
