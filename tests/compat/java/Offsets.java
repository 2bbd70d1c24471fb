package compat;

import static compat.Clients.*;
import static compat.Harness.*;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Finding a place in a partition, from the consumer's side. */
final class Offsets {
    private Offsets() {}

    static void claims(Harness h) {
        h.claim("beginning and end offsets, position and lag are right", Offsets::ends);
        h.claim("offsets for times: exact, between, before the first, after the last, empty partition", Offsets::times);
        h.claim("offsets for times find records inside compressed batches and out of order", Offsets::timesInBatches);
        h.claim("seek to an offset, to the beginning and to the end", Offsets::seek);
        h.claim("an offset out of range is an error or resets, as the consumer asks", Offsets::outOfRange);
        h.claim("a reset by duration starts at the record of that time", Offsets::resetByDuration);
        h.claim("a paused partition stays silent until it is resumed", Offsets::pause);
    }

    private static void ends() throws Exception {
        var topic = topic("ends", 3);
        var all = partitions(topic, 3);
        try (var producer = producer(); var consumer = consumer()) {
            send(producer, samples(topic, 2, 41));
            same(Map.of(all.get(0), 0L, all.get(1), 0L, all.get(2), 0L), consumer.beginningOffsets(all), "beginning offsets");
            same(Map.of(all.get(0), 21L, all.get(1), 20L, all.get(2), 0L), consumer.endOffsets(all), "end offsets");
            consumer.assign(all);
            poll(consumer, 41);
            same(21L, consumer.position(all.get(0)), "position");
            same(0L, consumer.position(all.get(2)), "position in an empty partition");
            same(0L, consumer.currentLag(all.get(0)).getAsLong(), "lag");
            same(3, consumer.partitionsFor(topic).size(), "partitions");
            check(consumer.listTopics().containsKey(topic), "the topic is listed");
        }
    }

    private static void times() throws Exception {
        var topic = topic("times", 2);
        var p = new TopicPartition(topic, 0);
        try (var producer = producer("batch.size", 1); var consumer = consumer()) {
            send(producer, samples(topic, 1, 100));
            var asked = new HashMap<Long, Long>();
            asked.put(BASE_TIME - 5, 0L);
            asked.put(BASE_TIME, 0L);
            asked.put(BASE_TIME + 1, 1L);
            asked.put(BASE_TIME + 42_000, 42L);
            asked.put(BASE_TIME + 42_500, 43L);
            asked.put(BASE_TIME + 99_000, 99L);
            for (var each : asked.entrySet()) {
                var got = consumer.offsetsForTimes(Map.of(p, each.getKey())).get(p);
                check(got != null, "no offset for base + " + (each.getKey() - BASE_TIME));
                same(each.getValue(), got.offset(), "offset for base + " + (each.getKey() - BASE_TIME));
                same(BASE_TIME + each.getValue() * 1000, got.timestamp(), "timestamp found");
            }
            same(null, consumer.offsetsForTimes(Map.of(p, BASE_TIME + 99_001)).get(p), "offset after the last record");
            var empty = new TopicPartition(topic, 1);
            same(null, consumer.offsetsForTimes(Map.of(empty, BASE_TIME)).get(empty), "offset in an empty partition");
        }
    }

    private static void timesInBatches() throws Exception {
        var topic = topic("times-batch", 1);
        var p = new TopicPartition(topic, 0);
        try (var producer = producer("linger.ms", 500, "compression.type", "zstd"); var consumer = consumer()) {
            long[] offsets = {10, 30, 20, 60, 50, 40, 70};
            for (long t : offsets) {
                producer.send(new ProducerRecord<>(topic, 0, BASE_TIME + t, null, utf8("t" + t)));
            }
            producer.flush();
            var expected = Map.of(5L, 0L, 10L, 0L, 11L, 1L, 30L, 1L, 31L, 3L, 60L, 3L, 61L, 6L, 70L, 6L);
            for (var each : expected.entrySet()) {
                same(each.getValue(), consumer.offsetsForTimes(Map.of(p, BASE_TIME + each.getKey())).get(p).offset(), "first offset at or after " + each.getKey());
            }
        }
    }

    private static void seek() throws Exception {
        var topic = topic("seek", 1);
        var p = new TopicPartition(topic, 0);
        try (var producer = producer("batch.size", 2000, "linger.ms", 10); var consumer = consumer("max.poll.records", 1)) {
            var records = samples(topic, 1, 200);
            send(producer, records);
            consumer.assign(List.of(p));
            for (long offset : new long[] {150, 3, 199, 0, 77}) {
                consumer.seek(p, offset);
                var got = poll(consumer, 1).get(0);
                same(offset, got.offset(), "offset after seek");
                same(records.get((int) offset).timestamp(), got.timestamp(), "record after seek");
            }
            consumer.seekToBeginning(List.of(p));
            same(0L, poll(consumer, 1).get(0).offset(), "offset at the beginning");
            consumer.seekToEnd(List.of(p));
            same(200L, consumer.position(p), "position at the end");
            producer.send(new ProducerRecord<>(topic, 0, null, utf8("new"))).get();
            same(200L, poll(consumer, 1).get(0).offset(), "offset of the record after the end");
            var time = consumer.offsetsForTimes(Map.of(p, BASE_TIME + 120_000)).get(p);
            consumer.seek(p, time.offset());
            same(BASE_TIME + 120_000, poll(consumer, 1).get(0).timestamp(), "record found by time");
        }
    }

    private static void outOfRange() throws Exception {
        var topic = topic("range", 1);
        var p = new TopicPartition(topic, 0);
        try (var producer = producer()) {
            send(producer, samples(topic, 1, 10));
        }
        try (var consumer = consumer("auto.offset.reset", "none")) {
            consumer.assign(List.of(p));
            refused(NoOffsetForPartitionException.class, () -> consumer.poll(Duration.ofSeconds(10)));
            consumer.seek(p, 1000);
            refused(OffsetOutOfRangeException.class, () -> poll(consumer, 1));
        }
        try (var consumer = consumer("auto.offset.reset", "earliest")) {
            consumer.assign(List.of(p));
            consumer.seek(p, 1000);
            same(0L, poll(consumer, 10).get(0).offset(), "first offset after a reset");
        }
        try (var consumer = consumer("auto.offset.reset", "latest"); var producer = producer()) {
            consumer.assign(List.of(p));
            same(10L, consumer.position(p), "position after a reset");
            producer.send(new ProducerRecord<>(topic, 0, null, utf8("new"))).get();
            same(10L, poll(consumer, 1).get(0).offset(), "offset after a reset to the end");
        }
    }

    private static void resetByDuration() throws Exception {
        var topic = topic("duration", 1);
        long now = System.currentTimeMillis();
        try (var producer = producer(); var consumer = consumer("auto.offset.reset", "by_duration:PT1H")) {
            for (int i = 0; i < 10; i++) {
                producer.send(new ProducerRecord<>(topic, 0, now - TimeUnit.MINUTES.toMillis(200 - 20 * i), null, utf8("" + i)));
            }
            producer.flush();
            consumer.assign(partitions(topic, 1));
            same(8L, poll(consumer, 2).get(0).offset(), "first offset of the last hour");
        }
    }

    private static void pause() throws Exception {
        var topic = topic("pause", 2);
        var all = partitions(topic, 2);
        try (var producer = producer(); var consumer = consumer()) {
            send(producer, samples(topic, 2, 20));
            consumer.assign(all);
            consumer.pause(List.of(all.get(0)));
            check(poll(consumer, 10).stream().allMatch(r -> r.partition() == 1), "only the other partition speaks");
            check(consumer.poll(Duration.ofMillis(300)).isEmpty(), "a paused partition spoke");
            consumer.resume(List.of(all.get(0)));
            check(poll(consumer, 10).stream().allMatch(r -> r.partition() == 0), "the resumed partition speaks");
        }
    }
}
