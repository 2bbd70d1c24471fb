package compat;

import static compat.Clients.*;
import static compat.Harness.*;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.InconsistentGroupProtocolException;
import org.apache.kafka.common.errors.InvalidSessionTimeoutException;
import org.apache.kafka.common.errors.OffsetMetadataTooLarge;

/** Groups of the classic protocol, from the members' side. */
final class Groups {
    private Groups() {}

    private static final String ASSIGNORS = "org.apache.kafka.clients.consumer.";
    static final Duration PATIENCE = Duration.ofSeconds(60);

    static void claims(Harness h) {
        for (var assignor : List.of("Range", "RoundRobin", "Sticky", "CooperativeSticky")) {
            h.claim("members that come and go under load see every record once with the assignor " + assignor, () -> comeAndGo(assignor));
        }
        h.claim("a cooperative rebalance leaves members what they keep", Groups::cooperativeKeeps);
        h.claim("a static member returns without a rebalance", Groups::staticReturns);
        h.claim("the elder of two static members of one name is fenced", Groups::staticFenced);
        h.claim("a member that stops polling loses its partitions", Groups::stopsPolling);
        h.claim("a member that dies is gone after its session timeout", Groups::dies);
        h.claim("committed offsets come back with metadata and leader epoch", Groups::commits);
        h.claim("a consumer goes on where its group committed", Groups::goesOn);
        h.claim("automatic commits are there after close", Groups::autoCommit);
        h.claim("an outsider cannot commit into a group that has members", Groups::outsider);
        h.claim("members without a common assignor are refused", Groups::inconsistent);
        h.claim("session timeouts out of bounds and large metadata are refused", Groups::limits);
        h.claim("one member reads two topics with different partition counts", Groups::twoTopics);
    }

    /** Waits until the members own every partition of the topic, each one only once, and none owns nothing. */
    private static void settled(String topic, int partitions, Collection<Member> members) throws Exception {
        try {
            eventually("settled", PATIENCE, () -> {
                var all = new ArrayList<TopicPartition>();
                for (var member : members) {
                    if (member.failure.get() != null) {
                        throw new AssertionError("a member failed", member.failure.get());
                    }
                    if (member.owned.isEmpty()) {
                        return Optional.empty();
                    }
                    all.addAll(member.owned);
                }
                return all.size() == partitions && new HashSet<>(all).equals(Set.copyOf(partitions(topic, partitions))) ? Optional.of(true) : Optional.empty();
            });
        } catch (AssertionError e) {
            throw new AssertionError(members.size() + " members did not share " + partitions + " partitions: " + members.stream().map(Member::summary).toList(), e);
        }
    }

    private static void comeAndGo(String assignor) throws Exception {
        var topic = topic("group-" + assignor, 6);
        var group = "come-and-go-" + assignor + "-" + RUN;
        Queue<ConsumerRecord<byte[], byte[]>> seen = new ConcurrentLinkedQueue<>();
        Object[] settings = {"group.id", group, "partition.assignment.strategy", ASSIGNORS + assignor + "Assignor", "heartbeat.interval.ms", 300};
        var done = new CompletableFuture<Void>();
        var load = CompletableFuture.supplyAsync(() -> {
            var sent = new ArrayList<ProducerRecord<byte[], byte[]>>();
            try (var producer = producer("linger.ms", 5)) {
                for (int i = 0; !done.isDone() || i % 6 != 0; i++) {
                    sent.add(new ProducerRecord<>(topic, i % 6, BASE_TIME + i, null, utf8("v" + i)));
                    producer.send(sent.get(i)).get();
                    TimeUnit.MILLISECONDS.sleep(1);
                }
            } catch (Exception e) {
                throw new AssertionError(e);
            }
            return sent;
        });
        var a = new Member(topic, seen, settings);
        try {
            settled(topic, 6, List.of(a));
            try (var b = new Member(topic, seen, settings)) {
                settled(topic, 6, List.of(a, b));
                try (var c = new Member(topic, seen, settings)) {
                    settled(topic, 6, List.of(a, b, c));
                    a.close();
                    settled(topic, 6, List.of(b, c));
                }
                settled(topic, 6, List.of(b));
                done.complete(null);
                var sent = load.get();
                eventually("all " + sent.size() + " records are seen", PATIENCE, () -> seen.size() >= sent.size() ? Optional.of(true) : Optional.empty());
                var places = new HashSet<String>();
                for (var record : seen) {
                    check(places.add(record.partition() + "@" + record.offset()), "seen twice: " + record.partition() + "@" + record.offset());
                    same(sent.get((int) record.offset() * 6 + record.partition()).timestamp(), record.timestamp(), "record at its place");
                }
                same(sent.size(), places.size(), "places seen");
                eventually("the group committed the end", PATIENCE, () -> {
                    var committed = ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
                    return committed.values().stream().mapToLong(OffsetAndMetadata::offset).sum() == sent.size() ? Optional.of(true) : Optional.empty();
                });
            }
        } finally {
            done.complete(null);
            a.close();
        }
    }

    private static void cooperativeKeeps() throws Exception {
        var topic = topic("keeps", 6);
        Queue<ConsumerRecord<byte[], byte[]>> seen = new ConcurrentLinkedQueue<>();
        Object[] settings = {"group.id", "keeps-" + RUN, "partition.assignment.strategy", ASSIGNORS + "CooperativeStickyAssignor", "heartbeat.interval.ms", 300};
        try (var a = new Member(topic, seen, settings)) {
            settled(topic, 6, List.of(a));
            try (var b = new Member(topic, seen, settings)) {
                settled(topic, 6, List.of(a, b));
                same(3, a.owned.size(), "partitions kept");
                same(Set.copyOf(b.owned), Set.copyOf(a.revoked), "partitions taken from the first member");
            }
        }
    }

    private static void staticReturns() throws Exception {
        var topic = topic("static", 4);
        var group = "static-" + RUN;
        Queue<ConsumerRecord<byte[], byte[]>> seen = new ConcurrentLinkedQueue<>();
        Object[] one = {"group.id", group, "group.instance.id", "one", "heartbeat.interval.ms", 300};
        Object[] two = {"group.id", group, "group.instance.id", "two", "heartbeat.interval.ms", 300};
        try (var a = new Member(topic, seen, one)) {
            settled(topic, 4, List.of(a));
            var b = new Member(topic, seen, two);
            settled(topic, 4, List.of(a, b));
            var before = Set.copyOf(b.owned);
            int rebalances = a.assignments.get();
            b.close();
            var members = ADMIN.describeConsumerGroups(List.of(group)).all().get().get(group).members();
            same(Set.of("one", "two"), Set.copyOf(members.stream().map(m -> m.groupInstanceId().orElse("-")).toList()), "members while one is away");
            try (var again = new Member(topic, seen, two)) {
                settled(topic, 4, List.of(a, again));
                same(before, Set.copyOf(again.owned), "partitions after the return");
                same(rebalances, a.assignments.get(), "rebalances seen by the other member");
            }
        }
    }

    private static void staticFenced() throws Exception {
        var topic = topic("fenced", 2);
        Object[] settings = {"group.id", "fenced-" + RUN, "group.instance.id", "twin", "heartbeat.interval.ms", 200};
        Queue<ConsumerRecord<byte[], byte[]>> seen = new ConcurrentLinkedQueue<>();
        try (var elder = new Member(topic, seen, settings)) {
            settled(topic, 2, List.of(elder));
            try (var younger = new Member(topic, seen, settings)) {
                var failure = eventually("the elder fails", PATIENCE, () -> Optional.ofNullable(elder.failure.get()));
                same(FencedInstanceIdException.class, failure.getClass(), "failure of the elder");
                settled(topic, 2, List.of(younger));
            }
        }
    }

    private static void stopsPolling() throws Exception {
        var topic = topic("stops", 4);
        Object[] settings = {"group.id", "stops-" + RUN, "max.poll.interval.ms", 2500, "heartbeat.interval.ms", 300};
        try (var idle = consumer(settings)) {
            idle.subscribe(List.of(topic));
            eventually("the first member owns all", PATIENCE, () -> {
                idle.poll(Duration.ofMillis(50));
                return idle.assignment().size() == 4 ? Optional.of(true) : Optional.empty();
            });
            try (var other = new Member(topic, new ConcurrentLinkedQueue<>(), settings)) {
                settled(topic, 4, List.of(other));
                refused(CommitFailedException.class, () -> {
                    idle.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(0)));
                    return null;
                });
            }
        }
    }

    private static void dies() throws Exception {
        var topic = topic("dies", 4);
        var group = "dies-" + RUN;
        // A static member does not say farewell: to the broker its close looks like its death.
        try (var dead = consumer("group.id", group, "group.instance.id", "dead", "session.timeout.ms", 6000, "heartbeat.interval.ms", 300)) {
            dead.subscribe(List.of(topic));
            eventually("the first member owns all", PATIENCE, () -> {
                dead.poll(Duration.ofMillis(50));
                return dead.assignment().size() == 4 ? Optional.of(true) : Optional.empty();
            });
        }
        try (var other = new Member(topic, new ConcurrentLinkedQueue<>(), "group.id", group, "heartbeat.interval.ms", 300)) {
            settled(topic, 4, List.of(other));
            same(1, ADMIN.describeConsumerGroups(List.of(group)).all().get().get(group).members().size(), "members");
        }
    }

    private static void commits() throws Exception {
        var topic = topic("commits", 3);
        var all = partitions(topic, 3);
        var group = "commits-" + RUN;
        try (var consumer = consumer("group.id", group)) {
            consumer.assign(all);
            same(null, consumer.committed(Set.of(all.get(0))).get(all.get(0)), "offset never committed");
            var first = new OffsetAndMetadata(7, Optional.of(0), "läuft");
            var second = new OffsetAndMetadata(0, "");
            consumer.commitSync(Map.of(all.get(0), first, all.get(1), second));
            var got = consumer.committed(Set.copyOf(all));
            same(first, got.get(all.get(0)), "first commit");
            same(second, got.get(all.get(1)), "second commit");
            same(null, got.get(all.get(2)), "partition without a commit");
            var third = new OffsetAndMetadata(3, "back");
            var answered = new CompletableFuture<Map<TopicPartition, OffsetAndMetadata>>();
            consumer.commitAsync(Map.of(all.get(0), third), (offsets, problem) -> {
                if (problem == null) {
                    answered.complete(offsets);
                } else {
                    answered.completeExceptionally(problem);
                }
            });
            eventually("the asynchronous commit is answered", PATIENCE, () -> {
                consumer.poll(Duration.ofMillis(20));
                return answered.isDone() ? Optional.of(answered.get()) : Optional.empty();
            });
        }
        try (var consumer = consumer("group.id", group)) {
            same(new OffsetAndMetadata(3, "back"), consumer.committed(Set.of(all.get(0))).get(all.get(0)), "commit seen by another consumer");
        }
    }

    private static void goesOn() throws Exception {
        var topic = topic("goes-on", 1);
        Object[] settings = {"group.id", "goes-on-" + RUN, "max.poll.records", 10};
        try (var producer = producer()) {
            send(producer, samples(topic, 1, 35));
        }
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            same(10, poll(consumer, 10).size(), "records");
            consumer.commitSync();
        }
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            same(10L, poll(consumer, 10).get(0).offset(), "first offset after the commit");
        }
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            same(10L, poll(consumer, 10).get(0).offset(), "first offset without another commit");
        }
    }

    private static void autoCommit() throws Exception {
        var topic = topic("auto-commit", 1);
        Object[] settings = {"group.id", "auto-commit-" + RUN, "enable.auto.commit", true};
        try (var producer = producer()) {
            send(producer, samples(topic, 1, 20));
        }
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            poll(consumer, 20);
        }
        try (var consumer = consumer(settings)) {
            var p = new TopicPartition(topic, 0);
            same(20L, consumer.committed(Set.of(p)).get(p).offset(), "offset committed");
        }
    }

    private static void outsider() throws Exception {
        var topic = topic("outsider", 1);
        var group = "outsider-" + RUN;
        var p = new TopicPartition(topic, 0);
        try (var member = new Member(topic, new ConcurrentLinkedQueue<>(), "group.id", group); var outsider = consumer("group.id", group)) {
            settled(topic, 1, List.of(member));
            outsider.assign(List.of(p));
            refused(CommitFailedException.class, () -> {
                outsider.commitSync(Map.of(p, new OffsetAndMetadata(1)));
                return null;
            });
        }
    }

    private static void inconsistent() throws Exception {
        var topic = topic("inconsistent", 1);
        var group = "inconsistent-" + RUN;
        try (var member = new Member(topic, new ConcurrentLinkedQueue<>(), "group.id", group, "partition.assignment.strategy", ASSIGNORS + "RangeAssignor");
             var other = new Member(topic, new ConcurrentLinkedQueue<>(), "group.id", group, "partition.assignment.strategy", ASSIGNORS + "RoundRobinAssignor")) {
            var failure = eventually("one is refused", PATIENCE,
                () -> Optional.ofNullable(member.failure.get() == null ? other.failure.get() : member.failure.get()));
            same(InconsistentGroupProtocolException.class, failure.getClass(), "refusal");
        }
    }

    private static void limits() throws Exception {
        var topic = topic("limits", 1);
        var p = new TopicPartition(topic, 0);
        try (var consumer = consumer("group.id", "limits-a-" + RUN, "session.timeout.ms", 1000, "heartbeat.interval.ms", 300)) {
            refusedWhileJoining(consumer, topic);
        }
        try (var consumer = consumer("group.id", "limits-b-" + RUN, "session.timeout.ms", 3_000_000)) {
            refusedWhileJoining(consumer, topic);
        }
        try (var consumer = consumer("group.id", "limits-c-" + RUN)) {
            consumer.assign(List.of(p));
            consumer.commitSync(Map.of(p, new OffsetAndMetadata(1, "x".repeat(4096))));
            refused(OffsetMetadataTooLarge.class, () -> {
                consumer.commitSync(Map.of(p, new OffsetAndMetadata(2, "x".repeat(4097))));
                return null;
            });
            same(1L, consumer.committed(Set.of(p)).get(p).offset(), "offset after a refused commit");
        }
    }

    private static void refusedWhileJoining(KafkaConsumer<byte[], byte[]> consumer, String topic) throws Exception {
        consumer.subscribe(List.of(topic));
        refused(InvalidSessionTimeoutException.class, () -> eventually("an answer to the join", PATIENCE, () -> {
            consumer.poll(Duration.ofMillis(50));
            return Optional.empty();
        }));
    }

    private static void twoTopics() throws Exception {
        var one = topic("two-one", 2);
        var two = topic("two-two", 5);
        try (var producer = producer(); var consumer = consumer("group.id", "two-" + RUN)) {
            var records = new ArrayList<>(samples(one, 2, 40));
            records.addAll(samples(two, 5, 60));
            send(producer, records);
            consumer.subscribe(List.of(one, two));
            var got = poll(consumer, 100);
            same(40L, got.stream().filter(r -> r.topic().equals(one)).count(), "records of the first topic");
            same(7, consumer.assignment().size(), "partitions");
        }
    }
}
