package compat;

import static compat.Clients.*;
import static compat.Harness.*;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** The broker is killed without warning while clients work, and comes back on the same address. */
final class Restart {
    private Restart() {}

    private static final int PARTITIONS = 3;
    private static final String ONCE = "what an idempotent producer got acknowledged around a kill -9 is read once, in order";
    private static final String GROUP = "a group with members goes on around a kill -9 and misses nothing";
    private static final String STATE = "topics, configs, ends and committed offsets are the same after a kill -9";
    private static final String DELETED = "deleted records stay deleted after a kill -9";

    static void claims(Harness h) {
        if (CONTROL.isEmpty()) {
            List.of(ONCE, GROUP, STATE, DELETED).forEach(h::skip);
            return;
        }
        var shared = new Scene();
        h.claim(ONCE, shared::producedOnce);
        h.claim(GROUP, shared::groupGoesOn);
        h.claim(STATE, shared::stateIsTheSame);
        if (REFERENCE) {
            // Apache Kafka writes the start of a log down once a minute.
            h.skip(DELETED);
        } else {
            h.claim(DELETED, shared::deletedStaysDeleted);
        }
    }

    /** One kill serves the three claims; each looks at another side of it. */
    private static final class Scene {
        private final Map<Integer, Map<Long, String>> acknowledged = new ConcurrentHashMap<>();
        private final Queue<ConsumerRecord<byte[], byte[]>> seen = new ConcurrentLinkedQueue<>();
        private final String topic;
        private final String still;
        private final CompletableFuture<Integer> produced = new CompletableFuture<>();
        private final TopicPartition p;

        Scene() {
            try {
                topic = topic("restart", PARTITIONS);
                still = topic("restart-still", 2, Map.of("retention.ms", "99999999"));
                p = new TopicPartition(still, 0);
            } catch (Exception e) {
                throw new AssertionError(e);
            }
        }

        void producedOnce() throws Exception {
            var ids = new HashMap<String, Object>();
            try (var producer = producer(); var consumer = consumer("group.id", "restart-still-" + RUN)) {
                send(producer, samples(still, 2, 100));
                consumer.commitSync(Map.of(p, new OffsetAndMetadata(17, "before")));
                ADMIN.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(12))).all().get();
                ids.putAll(describe());
            }
            var refusal = new CompletableFuture<Exception>();
            var acks = new AtomicInteger();
            var count = new AtomicInteger();
            var stop = new CompletableFuture<Void>();
            var load = CompletableFuture.runAsync(() -> {
                try (var producer = producer("linger.ms", 2, "batch.size", 2000, "buffer.memory", 1 << 20, "max.block.ms", 60_000, "compression.type", "lz4",
                        "reconnect.backoff.max.ms", 200, "delivery.timeout.ms", 150_000)) {
                    for (int i = 0; !stop.isDone(); i++) {
                        var value = "v" + i;
                        producer.send(new ProducerRecord<>(topic, i % PARTITIONS, null, utf8("k"), utf8(value)), (metadata, problem) -> {
                            if (problem == null) {
                                acknowledged.computeIfAbsent(metadata.partition(), x -> new ConcurrentHashMap<>()).put(metadata.offset(), value);
                                acks.incrementAndGet();
                            } else {
                                refusal.complete(problem);
                            }
                        });
                        count.incrementAndGet();
                        if (i % 20 == 0) {
                            TimeUnit.MILLISECONDS.sleep(1);
                        }
                    }
                } catch (InterruptedException e) {
                    throw new AssertionError(e);
                }
            });
            try {
                eventually("the first 3000 acknowledgements", Duration.ofSeconds(30), () -> acks.get() >= 3000 ? Optional.of(true) : Optional.empty());
                control("kill");
                int before = acks.get();
                control("start");
                eventually("3000 more acknowledgements after the restart", Duration.ofSeconds(80), () -> acks.get() >= before + 3000 ? Optional.of(true) : Optional.empty());
            } finally {
                stop.complete(null);
                load.get();
                produced.complete(count.get());
            }
            check(!refusal.isDone(), "a record was refused: " + refusal.getNow(null));
            same(ids, describe(), "topics before and after");
            var got = new TreeMap<Integer, Map<Long, String>>();
            int next[] = new int[PARTITIONS];
            for (var record : readAll(topic, PARTITIONS)) {
                got.computeIfAbsent(record.partition(), x -> new TreeMap<>()).put(record.offset(), text(record.value()));
                var expected = "v" + (next[record.partition()]++ * PARTITIONS + record.partition());
                same(expected, text(record.value()), "value at " + record.partition() + "@" + record.offset());
            }
            for (int i = 0; i < PARTITIONS; i++) {
                same(new TreeMap<>(acknowledged.get(i)), got.get(i), "records of partition " + i);
            }
        }

        private Map<String, Object> describe() throws Exception {
            var all = new HashMap<String, Object>();
            for (var each : ADMIN.describeTopics(List.of(topic, still)).allTopicNames().get().values()) {
                all.put(each.name(), List.of(each.topicId(), each.partitions().size()));
            }
            all.put("cluster", ADMIN.describeCluster().clusterId().get());
            return all;
        }

        void groupGoesOn() throws Exception {
            Object[] settings = {"group.id", "restart-" + RUN, "heartbeat.interval.ms", 300, "reconnect.backoff.max.ms", 200, "default.api.timeout.ms", 120_000};
            try (var a = new Member(topic, seen, settings); var b = new Member(topic, seen, settings)) {
                int count = produced.get(150, TimeUnit.SECONDS);
                try {
                    eventually("all records are seen", Groups.PATIENCE, () -> {
                        var values = new java.util.HashSet<String>();
                        seen.forEach(r -> values.add(r.partition() + text(r.value())));
                        return values.size() == count ? Optional.of(true) : Optional.empty();
                    });
                } catch (AssertionError e) {
                    throw new AssertionError(count + " records, members: " + List.of(a.summary(), b.summary(), "" + a.failure.get(), "" + b.failure.get()), e);
                }
            }
        }

        void stateIsTheSame() throws Exception {
            produced.get(150, TimeUnit.SECONDS);
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, still);
            same("99999999", ADMIN.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value(), "retention.ms");
            same(50L, ADMIN.listOffsets(Map.of(p, OffsetSpec.latest())).partitionResult(p).get().offset(), "latest offset");
            same(Map.of(p, new OffsetAndMetadata(17, "before")), ADMIN.listConsumerGroupOffsets("restart-still-" + RUN).partitionsToOffsetAndMetadata().get(), "committed offsets");
            same(Set.of(0, 1), Set.copyOf(readAll(still, 2).stream().map(r -> r.partition()).toList()), "partitions read");
        }

        void deletedStaysDeleted() throws Exception {
            produced.get(150, TimeUnit.SECONDS);
            same(12L, ADMIN.listOffsets(Map.of(p, OffsetSpec.earliest())).partitionResult(p).get().offset(), "earliest offset");
            same(12L, readAll(still, 1).get(0).offset(), "first offset read");
        }
    }
}
