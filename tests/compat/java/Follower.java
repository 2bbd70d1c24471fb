package compat;

import static compat.Clients.*;
import static compat.Harness.*;

import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;

/** A follower is read and asked, with its leader alive, then dead. Racks are `a` for the leader and `b` for the follower. */
final class Follower {
    private static final int PARTITIONS = 2;
    private static final int LARGE = 200_000;

    private final String topic;
    private final String group = "follower-" + RUN;
    private final List<ProducerRecord<byte[], byte[]>> sent;
    private final List<RecordMetadata> acked;
    private final int leader;
    private final int follower;

    private Follower() throws Exception {
        topic = topic("follower", PARTITIONS, Map.of("retention.ms", "99999999"));
        leader = ADMIN.describeCluster().controller().get().id();
        follower = ADMIN.describeCluster().nodes().get().stream().map(node -> node.id()).filter(id -> id != leader).findFirst().orElseThrow();
        sent = samples(topic, PARTITIONS, 300);
        sent.add(new ProducerRecord<>(topic, 0, BASE_TIME + 300_000L, null, noise(1, LARGE)));
        try (var producer = producer()) {
            acked = send(producer, sent);
        }
    }

    /** A client that is connected to one node asks that one for the coordinator, again and again. */
    private void firstGroup() throws Exception {
        try (var member = consumer("bootstrap.servers", FOLLOWER, "group.id", group)) {
            member.subscribe(List.of(topic));
            equal(sent, acked, poll(member, sent.size()));
            member.commitSync(committed());
        }
    }

    private Map<TopicPartition, OffsetAndMetadata> committed() {
        return Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(17, "before"));
    }

    static void claims(Harness h) throws Exception {
        var at = new Follower();
        h.claim("the first group of all may come through a follower", at::firstGroup);
        h.run(1);
        if (h.failed()) {
            return;
        }
        control("synced");
        h.claim("a consumer is served by the follower in its rack (KIP-392), and by the leader in its own", at::rack);
        h.claim("a consumer and a group that know only a follower read everything", at::readsThroughFollower);
        h.claim("admin: who knows only a follower describes topics, groups and offsets", at::described);
        h.claim("admin: who knows only a follower creates, configures and deletes a topic", Follower::createsThroughFollower);
        h.run(4);
        control("kill-leader");
        at.namesItself();
        h.claim("a consumer that knows only a follower reads everything while the leader is dead", at::reads);
        h.claim("admin: a follower describes topics, groups and offsets while the leader is dead", at::described);
        h.run(2);
    }

    private void rack() throws Exception {
        try (var near = consumer("client.rack", "b", "check.crcs", "true"); var home = consumer("client.rack", "a")) {
            equal(sent, acked, readFromStart(near));
            equal(sent, acked, readFromStart(home));
            double fromFollower = received(near, follower);
            check(fromFollower > LARGE, "the consumer in rack b received " + fromFollower + " bytes from the follower");
            check(received(near, leader) < LARGE, "the consumer in rack b received " + received(near, leader) + " bytes from the leader");
            check(received(home, leader) > LARGE, "the consumer in rack a received " + received(home, leader) + " bytes from the leader");
            check(received(home, follower) < LARGE, "the consumer in rack a received " + received(home, follower) + " bytes from the follower");
            // What is written later comes from there as well.
            try (var producer = producer()) {
                var later = "rack-" + RUN;
                ADMIN.createTopics(List.of(new NewTopic(later, 1, (short) 2))).all().get();
                usable(later, 1);
                near.assign(partitions(later, 1));
                var more = List.of(new ProducerRecord<byte[], byte[]>(later, 0, BASE_TIME, null, noise(2, LARGE)));
                var places = send(producer, more);
                equal(more, places, poll(near, 1));
            }
        }
    }

    private List<ConsumerRecord<byte[], byte[]>> readFromStart(KafkaConsumer<byte[], byte[]> consumer) {
        consumer.assign(partitions(topic, PARTITIONS));
        consumer.seekToBeginning(consumer.assignment());
        return poll(consumer, sent.size());
    }

    /** What the consumer says it received from a node over the connection that fetches. */
    private static double received(KafkaConsumer<byte[], byte[]> consumer, int node) {
        return consumer.metrics().values().stream()
            .filter(m -> m.metricName().name().equals("incoming-byte-total") && m.metricName().group().equals("consumer-node-metrics"))
            .filter(m -> m.metricName().tags().get("node-id").equals("node-" + node))
            .mapToDouble(m -> (Double) m.metricValue()).sum();
    }

    private void readsThroughFollower() throws Exception {
        reads();
        try (var member = consumer("bootstrap.servers", FOLLOWER, "group.id", group + "-reads")) {
            member.subscribe(List.of(topic));
            equal(sent, acked, poll(member, sent.size()));
            member.commitSync();
        }
    }

    private void reads() {
        equal(sent, acked, readAll(topic, PARTITIONS, "bootstrap.servers", FOLLOWER));
        try (var reader = consumer("bootstrap.servers", FOLLOWER, "client.rack", "b")) {
            equal(sent, acked, readFromStart(reader));
        }
    }

    /** An Admin that was once told of a node asks that one until its time is up, also where the node is dead. */
    private void namesItself() throws Exception {
        eventually("the follower names itself", Duration.ofSeconds(10), () -> {
            try (var admin = Admin.create(Map.of("bootstrap.servers", FOLLOWER, "default.api.timeout.ms", "30000"))) {
                var partitions = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions();
                return partitions.stream().allMatch(p -> p.leader().id() == follower) ? Optional.of(true) : Optional.empty();
            }
        });
    }

    private void described() throws Exception {
        try (var admin = Admin.create(Map.of("bootstrap.servers", FOLLOWER, "default.api.timeout.ms", "30000"))) {
            TopicDescription description = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            same(PARTITIONS, description.partitions().size(), "partitions");
            for (var partition : description.partitions()) {
                same(Set.of(leader, follower), ids(partition.replicas()), "replicas of " + partition);
                same(Set.of(leader, follower), ids(partition.isr()), "in-sync replicas of " + partition);
            }
            var p = new TopicPartition(topic, 0);
            long end = acked.stream().filter(m -> m.partition() == 0).count();
            same(0L, admin.listOffsets(Map.of(p, OffsetSpec.earliest())).partitionResult(p).get().offset(), "earliest offset");
            same(end, admin.listOffsets(Map.of(p, OffsetSpec.latest())).partitionResult(p).get().offset(), "latest offset");
            same(committed(), admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(), "committed offsets");
            ConsumerGroupDescription described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            same(GroupState.EMPTY, described.groupState(), "state of the group");
        }
    }

    private static Set<Integer> ids(List<Node> nodes) {
        var all = new HashSet<Integer>();
        nodes.forEach(node -> all.add(node.id()));
        return all;
    }

    private static void createsThroughFollower() throws Exception {
        var name = "compat-java-created-" + RUN;
        try (var admin = Admin.create(Map.of("bootstrap.servers", FOLLOWER, "default.api.timeout.ms", "30000"))) {
            admin.createTopics(List.of(new NewTopic(name, 2, (short) 2))).all().get();
            refused(TopicExistsException.class, () -> admin.createTopics(List.of(new NewTopic(name, 2, (short) 2))).all().get());
            usable(name, 2);
            try (var producer = producer("bootstrap.servers", FOLLOWER)) {
                var records = samples(name, 2, 20);
                equal(records, send(producer, records), readAll(name, 2, "bootstrap.servers", FOLLOWER));
            }
            admin.deleteTopics(List.of(name)).all().get();
            eventually("the topic is gone", Duration.ofSeconds(10), () -> {
                try {
                    return admin.listTopics().names().get().contains(name) ? Optional.empty() : Optional.of(true);
                } catch (ExecutionException e) {
                    throw new AssertionError(e);
                }
            });
        }
    }
}
