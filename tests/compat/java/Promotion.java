package compat;

import static compat.Clients.*;
import static compat.Harness.*;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** A follower takes the leader's place while two producers and a group work; all know both nodes. */
final class Promotion {
    private Promotion() {}

    private static final int PARTITIONS = 3;
    private static final int ENOUGH = 2000;
    private static final String CLAIM = "two idempotent producers and a group lose and repeat nothing where a follower replaces a leader that ";

    static void afterKill(Harness h) {
        h.measured(CLAIM + "died", () -> goesOn(() -> control("replace")));
    }

    static void whileLeaderRuns(Harness h) {
        h.measured(CLAIM + "runs", () -> goesOn(() -> control("promote")));
        h.claim("a producer that knows only the old leader is led to the new one", Promotion::oldLeaderNamesNew);
        h.claim("a group that knows only the old leader goes on with what was committed on the new one", Promotion::groupThroughOldLeader);
    }

    /** One producer on its own thread, and what it was told. */
    private static final class Load {
        final Map<Integer, Map<Long, String>> acknowledged = new ConcurrentHashMap<>();
        final AtomicInteger acks = new AtomicInteger();
        final CompletableFuture<Exception> refusal = new CompletableFuture<>();
        private final String name;
        private final CompletableFuture<Integer> sent;
        private volatile boolean stopping;
        private long last;
        private long gap;

        Load(String topic, String name) {
            this.name = name;
            sent = CompletableFuture.supplyAsync(() -> work(topic));
        }

        private int work(String topic) {
            int count = 0;
            try (var producer = producer("linger.ms", 2, "batch.size", 2000, "buffer.memory", 1 << 20, "max.block.ms", 60_000, "compression.type", "lz4",
                    "delivery.timeout.ms", 60_000)) {
                for (; !stopping; count++) {
                    var value = value(count);
                    producer.send(new ProducerRecord<>(topic, count % PARTITIONS, null, null, utf8(value)), (metadata, problem) -> {
                        if (problem != null) {
                            refusal.complete(problem);
                            return;
                        }
                        // One thread of the producer calls this.
                        acknowledged.computeIfAbsent(metadata.partition(), x -> new ConcurrentHashMap<>()).put(metadata.offset(), value);
                        long now = System.nanoTime();
                        gap = last == 0 ? 0 : Math.max(gap, now - last);
                        last = now;
                        acks.incrementAndGet();
                    });
                    if (count % 20 == 0) {
                        TimeUnit.MILLISECONDS.sleep(1); // the pace of the load
                    }
                }
            } catch (InterruptedException e) {
                throw new AssertionError(e);
            }
            return count;
        }

        String value(int number) {
            return name + number;
        }

        int stop() throws Exception {
            stopping = true;
            return sent.get(90, TimeUnit.SECONDS);
        }

        long gapMillis() {
            return TimeUnit.NANOSECONDS.toMillis(gap);
        }
    }

    private static String goesOn(Body replace) throws Exception {
        var topic = topic("promotion", PARTITIONS);
        var still = Map.of(new TopicPartition(topic, 1), new OffsetAndMetadata(17, "before"));
        var seen = new ConcurrentLinkedQueue<ConsumerRecord<byte[], byte[]>>();
        var group = "promotion-" + RUN;
        Object[] settings = {"group.id", group, "heartbeat.interval.ms", 300, "default.api.timeout.ms", 60_000};
        var loads = new ArrayList<Load>();
        var counts = new HashMap<Load, Integer>();
        int repeated;
        try (var stays = new Member(topic, seen, settings); var goes = new Member(topic, seen, settings)) {
            eventually("two members share the partitions", Duration.ofSeconds(20), () -> yes(stays.owned.size() + goes.owned.size() == PARTITIONS && !goes.owned.isEmpty() && !stays.owned.isEmpty()));
            try (var other = consumer("group.id", group + "-still")) {
                other.commitSync(still);
            }
            control("synced");
            loads.add(new Load(topic, "a"));
            loads.add(new Load(topic, "b"));
            try {
                acknowledgements(loads);
                replace.run();
                acknowledgements(loads);
                // Who comes now begins where the others committed, before or after the promotion.
                goes.close();
                try (var comes = new Member(topic, seen, settings)) {
                    eventually("the new member has partitions", Groups.PATIENCE, () -> yes(!comes.owned.isEmpty()));
                    acknowledgements(loads);
                    for (var load : loads) {
                        counts.put(load, load.stop());
                    }
                    repeated = allSeen(seen, counts, stays, goes, comes);
                }
            } finally {
                for (var load : loads) {
                    load.stop();
                }
            }
        }
        for (var load : loads) {
            check(!load.refusal.isDone(), "a record was refused: " + load.refusal.getNow(null));
        }
        compare(topic, loads, counts);
        same(still, ADMIN.listConsumerGroupOffsets(group + "-still").partitionsToOffsetAndMetadata().get(), "what was committed before");
        same(0, repeated, "records that the group was given twice");
        return "the longest time without an acknowledgement was " + loads.stream().mapToLong(Load::gapMillis).max().orElseThrow() + " ms";
    }

    private static Optional<Boolean> yes(boolean holds) {
        return holds ? Optional.of(true) : Optional.empty();
    }

    private static void acknowledgements(List<Load> loads) throws Exception {
        for (var load : loads) {
            int before = load.acks.get();
            eventually(ENOUGH + " more acknowledgements", Duration.ofSeconds(60), () -> {
                check(!load.refusal.isDone(), "a record was refused: " + load.refusal.getNow(null));
                return yes(load.acks.get() >= before + ENOUGH);
            });
        }
    }

    /** Waits until each record was given to some member; tells how many came again. */
    private static int allSeen(ConcurrentLinkedQueue<ConsumerRecord<byte[], byte[]>> seen, Map<Load, Integer> counts, Member... members) throws Exception {
        int all = counts.values().stream().mapToInt(x -> x).sum();
        var values = new HashSet<String>();
        var taken = new AtomicInteger();
        eventually("all " + all + " records are seen", Groups.PATIENCE, () -> {
            for (var member : members) {
                var problem = member.failure.get();
                if (problem != null) {
                    throw new AssertionError("a member failed", problem);
                }
            }
            for (ConsumerRecord<byte[], byte[]> record; (record = seen.poll()) != null; taken.incrementAndGet()) {
                values.add(text(record.value()));
            }
            return yes(values.size() >= all);
        });
        return taken.get() - values.size();
    }

    /** Each acknowledged record is at its offset, none is there twice, and each producer's are in order in their partition. */
    private static void compare(String topic, List<Load> loads, Map<Load, Integer> counts) {
        var got = new HashMap<Load, Map<Integer, Map<Long, String>>>();
        var next = new HashMap<Load, int[]>();
        for (var record : readAll(topic, PARTITIONS)) {
            var value = text(record.value());
            var load = loads.stream().filter(each -> value.startsWith(each.name)).findFirst().orElseThrow();
            var following = next.computeIfAbsent(load, x -> new int[PARTITIONS]);
            var place = value + " at " + record.partition() + "@" + record.offset();
            same(load.value(following[record.partition()]++ * PARTITIONS + record.partition()), value, place);
            got.computeIfAbsent(load, x -> new TreeMap<>()).computeIfAbsent(record.partition(), x -> new TreeMap<>()).put(record.offset(), value);
        }
        for (var load : loads) {
            same(counts.get(load), got.get(load).values().stream().mapToInt(Map::size).sum(), "records of " + load.name);
            for (int i = 0; i < PARTITIONS; i++) {
                same(new ConcurrentSkipListMap<>(load.acknowledged.get(i)), got.get(load).get(i), "records of " + load.name + " in partition " + i);
            }
        }
    }

    private static void oldLeaderNamesNew() throws Exception {
        control("fenced");
        var topic = topic("old-leader", 1);
        try (var producer = producer("bootstrap.servers", LEADER, "max.block.ms", 10_000); var reader = consumer("bootstrap.servers", FOLLOWER)) {
            var records = samples(topic, 1, 3);
            var acked = send(producer, records);
            reader.assign(partitions(topic, 1));
            equal(records, acked, poll(reader, records.size()));
        }
    }

    private static void groupThroughOldLeader() throws Exception {
        control("fenced");
        var topic = topic("old-leader-group", 1);
        var p = new TopicPartition(topic, 0);
        var records = samples(topic, 1, 10);
        try (var producer = producer("bootstrap.servers", FOLLOWER); var first = consumer("bootstrap.servers", FOLLOWER, "group.id", topic)) {
            send(producer, records.subList(0, 4));
            first.assign(List.of(p));
            poll(first, 4);
            first.commitSync(); // with the leader epoch of the new leader
            var acked = send(producer, records.subList(4, 10));
            // A consumer asks the node it happens to be connected to, and either must do.
            for (int i = 0; i < 8; i++) {
                try (var second = consumer("bootstrap.servers", LEADER, "group.id", topic)) {
                    second.assign(List.of(p));
                    equal(records.subList(4, 10), acked, poll(second, 6));
                }
            }
        }
    }
}
