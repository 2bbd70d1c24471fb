package compat;

import static compat.Clients.*;
import static compat.Harness.*;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.record.TimestampType;

/** Records in, the same records out. */
final class ProduceConsume {
    private ProduceConsume() {}

    static void claims(Harness h) {
        for (var codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            h.claim("records of every shape come back equal through " + codec, () -> everyShape(codec));
            h.claim("values of 0 bytes and of 1 MB come back equal through " + codec, () -> largeAndEmpty(codec));
        }
        h.claim("a topic that forces a codec gives back equal records", ProduceConsume::forcedCodec);
        h.claim("a value of 1 MiB passes where the topic allows it", ProduceConsume::largerByTopic);
        h.claim("a record over the limit is refused and takes no offset", ProduceConsume::tooLarge);
        h.claim("a topic with LogAppendTime stamps records itself and says so", ProduceConsume::logAppendTime);
        h.claim("a timestamp too far in the future is refused", ProduceConsume::futureTimestamp);
        h.claim("a record without key is refused by a compacted topic", ProduceConsume::compactedNeedsKey);
        h.claim("acks=0 and acks=1 deliver", ProduceConsume::weakAcks);
        h.claim("an idempotent producer with five requests in flight keeps order without gaps", ProduceConsume::idempotent);
        h.claim("a producer creates its topic, a consumer that must not does not", ProduceConsume::autoCreate);
        h.claim("a bad topic name is refused to a producer", ProduceConsume::badName);
        h.claim("a read_committed consumer reads what is not in a transaction", ProduceConsume::readCommitted);
        h.claim("a consumer with limits of one byte still gets every record", ProduceConsume::tinyLimits);
        h.claim("a fetch that waits is woken by a produce", ProduceConsume::wokenByProduce);
        h.claim("a fetch waits for its minimum of bytes", ProduceConsume::minBytes);
        h.claim("a subscription by pattern sees a topic that comes later", ProduceConsume::pattern);
        h.claim("added partitions are seen by running clients", ProduceConsume::morePartitions);
        h.claim("a topic made again under its old name is empty", ProduceConsume::recreated);
        h.claim("one consumer reads many partitions through incremental fetch sessions", ProduceConsume::manyPartitions);
    }

    private static void everyShape(String codec) throws Exception {
        var topic = topic("shapes-" + codec, 3);
        var records = samples(topic, 3, 600);
        try (var producer = producer("compression.type", codec, "linger.ms", 20)) {
            var acked = send(producer, records);
            for (int i = 0; i < acked.size(); i++) {
                same(records.get(i).partition(), acked.get(i).partition(), "partition acknowledged");
                same(records.get(i).timestamp(), acked.get(i).timestamp(), "timestamp acknowledged");
            }
            var got = readAll(topic, 3);
            equal(records, acked, got);
            check(got.stream().allMatch(r -> r.timestampType() == TimestampType.CREATE_TIME), "timestamps are the producer's");
            check(got.stream().allMatch(r -> r.leaderEpoch().isPresent()), "leader epochs are there");
        }
    }

    private static void largeAndEmpty(String codec) throws Exception {
        var topic = topic("large-" + codec, 1);
        var records = new ArrayList<ProducerRecord<byte[], byte[]>>();
        for (int i = 0; i < 3; i++) {
            records.add(new ProducerRecord<>(topic, 0, BASE_TIME + i, utf8("k"), new byte[0]));
            records.add(new ProducerRecord<>(topic, 0, BASE_TIME + i, utf8("k"), noise(i, 1_000_000)));
            records.add(new ProducerRecord<>(topic, 0, BASE_TIME + i, null, new byte[1_000_000]));
        }
        try (var producer = producer("compression.type", codec, "max.request.size", 2_000_000)) {
            equal(records, send(producer, records), readAll(topic, 1));
        }
    }

    private static void forcedCodec() throws Exception {
        for (var codec : List.of("gzip", "uncompressed", "zstd")) {
            var topic = topic("forced-" + codec, 2, Map.of("compression.type", codec));
            var records = samples(topic, 2, 200);
            try (var producer = producer("compression.type", "lz4", "linger.ms", 20)) {
                equal(records, send(producer, records), readAll(topic, 2));
            }
        }
    }

    private static void largerByTopic() throws Exception {
        var topic = topic("mib", 1, Map.of("max.message.bytes", "4194304"));
        var records = List.of(new ProducerRecord<>(topic, 0, BASE_TIME, utf8("k"), noise(1, 1 << 20)),
            new ProducerRecord<>(topic, 0, BASE_TIME, utf8("k"), noise(2, 3 << 20)));
        try (var producer = producer("max.request.size", 8 << 20)) {
            equal(records, send(producer, records), readAll(topic, 1));
        }
    }

    private static void tooLarge() throws Exception {
        var topic = topic("toolarge", 1, Map.of("max.message.bytes", "10000"));
        try (var producer = producer("max.request.size", 1 << 20, "batch.size", 1)) {
            var small = new ProducerRecord<byte[], byte[]>(topic, 0, null, noise(1, 9000));
            var large = new ProducerRecord<byte[], byte[]>(topic, 0, null, noise(1, 11000));
            same(0L, producer.send(small).get().offset(), "first offset");
            refused(RecordTooLargeException.class, () -> producer.send(large).get());
            same(1L, producer.send(small).get().offset(), "offset after a refused record");
        }
        same(2, readAll(topic, 1).size(), "records kept");
    }

    private static void logAppendTime() throws Exception {
        var topic = topic("append-time", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis();
        try (var producer = producer("linger.ms", 10, "compression.type", "lz4")) {
            var acked = send(producer, samples(topic, 1, 50));
            long after = System.currentTimeMillis();
            var got = readAll(topic, 1);
            same(50, got.size(), "records");
            for (int i = 0; i < 50; i++) {
                same(TimestampType.LOG_APPEND_TIME, got.get(i).timestampType(), "timestamp type");
                check(got.get(i).timestamp() >= before && got.get(i).timestamp() <= after, "timestamp " + got.get(i).timestamp());
                same(got.get(i).timestamp(), acked.get(i).timestamp(), "timestamp acknowledged");
            }
        }
    }

    private static void futureTimestamp() throws Exception {
        var topic = topic("future", 1);
        long tomorrow = System.currentTimeMillis() + TimeUnit.DAYS.toMillis(1);
        try (var producer = producer()) {
            refused(InvalidTimestampException.class, () -> producer.send(new ProducerRecord<>(topic, 0, tomorrow, null, utf8("x"))).get());
            same(0L, producer.send(new ProducerRecord<>(topic, 0, null, null, utf8("x"))).get().offset(), "first offset");
        }
    }

    private static void compactedNeedsKey() throws Exception {
        var topic = topic("compacted", 1, Map.of("cleanup.policy", "compact"));
        try (var producer = producer()) {
            refused(InvalidRecordException.class, () -> producer.send(new ProducerRecord<>(topic, 0, null, utf8("x"))).get());
            same(0L, producer.send(new ProducerRecord<>(topic, 0, utf8("k"), utf8("x"))).get().offset(), "first offset");
            same(1L, producer.send(new ProducerRecord<>(topic, 0, utf8("k"), null)).get().offset(), "offset of a tombstone");
        }
    }

    private static void weakAcks() throws Exception {
        for (var acks : List.of("0", "1")) {
            var topic = topic("acks-" + acks, 1);
            var records = samples(topic, 1, 300);
            try (var producer = producer("acks", acks, "enable.idempotence", false); var consumer = consumer()) {
                records.forEach(producer::send);
                producer.flush();
                consumer.assign(partitions(topic, 1));
                var got = poll(consumer, 300);
                for (int i = 0; i < 300; i++) {
                    same((long) i, got.get(i).offset(), "offset with acks=" + acks);
                    check(Arrays.equals(records.get(i).value(), got.get(i).value()), "value " + i + " with acks=" + acks);
                }
            }
        }
    }

    private static void idempotent() throws Exception {
        var topic = topic("idempotent", 4);
        var records = new ArrayList<ProducerRecord<byte[], byte[]>>();
        for (int i = 0; i < 20_000; i++) {
            records.add(new ProducerRecord<>(topic, i % 4, BASE_TIME + i, utf8("" + i % 4), utf8("v" + i)));
        }
        try (var producer = producer("enable.idempotence", true, "acks", "all", "max.in.flight.requests.per.connection", 5, "batch.size", 1000)) {
            equal(records, send(producer, records), readAll(topic, 4));
        }
    }

    private static void autoCreate() throws Exception {
        var topic = "compat-java-auto-" + RUN;
        try (var consumer = consumer("allow.auto.create.topics", false)) {
            consumer.assign(partitions(topic, 1));
            consumer.poll(Duration.ofMillis(300));
        }
        check(!ADMIN.listTopics().names().get().contains(topic), "a consumer created " + topic);
        try (var producer = producer()) {
            same(0L, producer.send(new ProducerRecord<>(topic, utf8("first"))).get().offset(), "first offset");
        }
        same(1, readAll(topic, 1).size(), "records");
    }

    private static void badName() throws Exception {
        try (var producer = producer("max.block.ms", 5000)) {
            refused(InvalidTopicException.class, () -> producer.send(new ProducerRecord<>("not/a topic", utf8("x"))).get());
        }
    }

    private static void readCommitted() throws Exception {
        var topic = topic("read-committed", 1);
        var records = samples(topic, 1, 50);
        try (var producer = producer()) {
            equal(records, send(producer, records), readAll(topic, 1, "isolation.level", "read_committed"));
        }
    }

    private static void tinyLimits() throws Exception {
        var topic = topic("tiny", 2);
        var records = samples(topic, 2, 60);
        try (var producer = producer("linger.ms", 0, "batch.size", 500)) {
            equal(records, send(producer, records), readAll(topic, 2, "max.partition.fetch.bytes", 1, "fetch.max.bytes", 1, "max.poll.records", 7));
        }
    }

    private static void wokenByProduce() throws Exception {
        var topic = topic("woken", 1);
        try (var producer = producer(); var consumer = consumer("fetch.max.wait.ms", 25_000, "request.timeout.ms", 40_000)) {
            producer.partitionsFor(topic);
            consumer.assign(partitions(topic, 1));
            for (int i = 0; i < 3; i++) {
                check(consumer.poll(Duration.ofMillis(300)).isEmpty(), "nothing is there yet");
                long sent = System.nanoTime();
                producer.send(new ProducerRecord<>(topic, 0, null, utf8("wake"))).get();
                poll(consumer, 1);
                long waited = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - sent);
                check(waited < 5000, "woken after " + waited + " ms");
            }
        }
    }

    private static void minBytes() throws Exception {
        var topic = topic("min-bytes", 1);
        try (var producer = producer(); var consumer = consumer("fetch.min.bytes", 5000, "fetch.max.wait.ms", 20_000, "request.timeout.ms", 40_000)) {
            consumer.assign(partitions(topic, 1));
            consumer.poll(Duration.ofMillis(200));
            producer.send(new ProducerRecord<>(topic, 0, null, noise(1, 500))).get();
            check(consumer.poll(Duration.ofMillis(700)).isEmpty(), "answered below the minimum");
            producer.send(new ProducerRecord<>(topic, 0, null, noise(2, 6000))).get();
            long sent = System.nanoTime();
            poll(consumer, 2);
            check(System.nanoTime() - sent < TimeUnit.SECONDS.toNanos(10), "not answered at the minimum");
        }
    }

    private static void pattern() throws Exception {
        var first = topic("pattern-one", 1);
        try (var producer = producer(); var consumer = consumer("group.id", "pattern-" + RUN, "metadata.max.age.ms", 300)) {
            consumer.subscribe(Pattern.compile("compat-java-pattern-.*-" + RUN));
            producer.send(new ProducerRecord<>(first, utf8("one"))).get();
            same("one", text(poll(consumer, 1).get(0).value()), "value");
            consumer.commitSync();
            var second = topic("pattern-two", 1);
            producer.send(new ProducerRecord<>(second, utf8("two"))).get();
            same("two", text(poll(consumer, 1).get(0).value()), "value");
        }
    }

    private static void morePartitions() throws Exception {
        var topic = topic("grow", 1);
        try (var producer = producer("metadata.max.age.ms", 300); var consumer = consumer("group.id", "grow-" + RUN, "metadata.max.age.ms", 300)) {
            consumer.subscribe(List.of(topic));
            producer.send(new ProducerRecord<>(topic, 0, null, utf8("a"))).get();
            poll(consumer, 1);
            consumer.commitSync();
            ADMIN.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
            eventually("the producer sees three partitions", Duration.ofSeconds(20),
                () -> producer.partitionsFor(topic).size() == 3 ? Optional.of(true) : Optional.empty());
            producer.send(new ProducerRecord<>(topic, 2, null, utf8("b"))).get();
            var got = poll(consumer, 1).get(0);
            same(2, got.partition(), "partition");
            same("b", text(got.value()), "value");
            eventually("the consumer owns three partitions", Duration.ofSeconds(20), () -> {
                consumer.poll(Duration.ofMillis(50));
                return consumer.assignment().size() == 3 ? Optional.of(true) : Optional.empty();
            });
        }
    }

    private static void recreated() throws Exception {
        var topic = topic("again", 1);
        var firstId = ADMIN.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
        try (var producer = producer()) {
            send(producer, samples(topic, 1, 10));
            ADMIN.deleteTopics(List.of(topic)).all().get();
            eventually("the topic is gone", Duration.ofSeconds(15),
                () -> ADMIN.listTopics().names().get().contains(topic) ? Optional.empty() : Optional.of(true));
            topic("again", 1);
            var secondId = ADMIN.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
            check(!firstId.equals(secondId), "the topic id is a new one");
            same(0, readAll(topic, 1).size(), "records in the topic made again");
        }
        try (var producer = producer()) {
            var records = samples(topic, 1, 5);
            equal(records, send(producer, records), readAll(topic, 1));
        }
    }

    private static void manyPartitions() throws Exception {
        var topic = topic("many", 60);
        try (var producer = producer(); var consumer = consumer()) {
            consumer.assign(partitions(topic, 60));
            for (int round = 0; round < 5; round++) {
                var records = new ArrayList<ProducerRecord<byte[], byte[]>>();
                for (int p = round; p < 60; p += 7) {
                    records.add(new ProducerRecord<>(topic, p, BASE_TIME + p, utf8("r" + round), utf8("p" + p)));
                }
                equal(records, send(producer, records), poll(consumer, records.size()));
            }
        }
        try (var producer = producer("max.block.ms", 2000, "partitioner.ignore.keys", true)) {
            refused(TimeoutException.class, () -> producer.send(new ProducerRecord<>(topic, 60, null, utf8("x"))).get());
        }
    }
}
