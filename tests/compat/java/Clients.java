package compat;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Producers and consumers of bytes, sample records, and the comparison of what came back. */
final class Clients {
    private Clients() {}

    /** The time of the first sample record: past, but within every retention time that a topic here has. */
    static final long BASE_TIME = System.currentTimeMillis() / 1000 * 1000 - 3_600_000L;

    static KafkaProducer<byte[], byte[]> producer(Object... settings) {
        var all = settings(settings);
        all.putIfAbsent("delivery.timeout.ms", "60000");
        all.putIfAbsent("request.timeout.ms", "15000");
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(Object... settings) {
        var all = settings(settings);
        all.putIfAbsent("auto.offset.reset", "earliest");
        all.putIfAbsent("enable.auto.commit", "false");
        return new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static Map<String, Object> settings(Object... pairs) {
        var all = Harness.connection(Map.of());
        for (int i = 0; i < pairs.length; i += 2) {
            all.put(pairs[i].toString(), pairs[i + 1].toString());
        }
        return all;
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    static byte[] noise(int seed, int length) {
        var bytes = new byte[length];
        new Random(seed).nextBytes(bytes);
        return bytes;
    }

    /** Records in every shape: null, empty and filled keys and values, text that compresses and noise that does not, headers of all kinds. */
    static List<ProducerRecord<byte[], byte[]>> samples(String topic, int partitions, int count) {
        var all = new ArrayList<ProducerRecord<byte[], byte[]>>();
        for (int i = 0; i < count; i++) {
            byte[] key = switch (i % 3) {
                case 0 -> null;
                case 1 -> new byte[0];
                default -> utf8("key-" + i);
            };
            byte[] value = switch (i % 5) {
                case 0 -> null;
                case 1 -> new byte[0];
                case 2 -> noise(i, 1 + i % 700);
                default -> utf8(("value " + i + " äöü ").repeat(1 + i % 40));
            };
            List<Header> headers = switch (i % 4) {
                case 0 -> List.of();
                case 1 -> List.of(new RecordHeader("null", (byte[]) null), new RecordHeader("empty", new byte[0]));
                case 2 -> List.of(new RecordHeader("same", utf8("1")), new RecordHeader("same", utf8("2")), new RecordHeader("", noise(i, 30)));
                default -> List.of(new RecordHeader("schlüssel", ByteBuffer.allocate(4).putInt(i).array()));
            };
            all.add(new ProducerRecord<>(topic, i % partitions, BASE_TIME + i * 1000L, key, value, headers));
        }
        return all;
    }

    /** Sends all, waits for all, and checks that the offsets of each partition follow one another. */
    static List<RecordMetadata> send(KafkaProducer<byte[], byte[]> producer, List<ProducerRecord<byte[], byte[]>> records) throws Exception {
        var sent = new ArrayList<Future<RecordMetadata>>();
        for (var record : records) {
            sent.add(producer.send(record));
        }
        producer.flush();
        var last = new HashMap<TopicPartition, Long>();
        var all = new ArrayList<RecordMetadata>();
        for (var one : sent) {
            var metadata = one.get();
            var before = last.put(new TopicPartition(metadata.topic(), metadata.partition()), metadata.offset());
            Harness.check(before == null || metadata.offset() == before + 1, "offset " + metadata.offset() + " follows " + before);
            all.add(metadata);
        }
        return all;
    }

    static List<TopicPartition> partitions(String topic, int count) {
        var all = new ArrayList<TopicPartition>();
        for (int i = 0; i < count; i++) {
            all.add(new TopicPartition(topic, i));
        }
        return all;
    }

    /** Polls until `count` records are there. */
    static List<ConsumerRecord<byte[], byte[]>> poll(KafkaConsumer<byte[], byte[]> consumer, int count) {
        var all = new ArrayList<ConsumerRecord<byte[], byte[]>>();
        long end = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (all.size() < count) {
            consumer.poll(Duration.ofMillis(200)).forEach(all::add);
            Harness.check(System.nanoTime() < end, "only " + all.size() + " of " + count + " records within 30 s");
        }
        return all;
    }

    /** Reads partitions from their start to their present end. */
    static List<ConsumerRecord<byte[], byte[]>> readAll(String topic, int partitions, Object... settings) {
        try (var consumer = consumer(settings)) {
            var all = partitions(topic, partitions);
            consumer.assign(all);
            consumer.seekToBeginning(all);
            var ends = consumer.endOffsets(all);
            var records = new ArrayList<ConsumerRecord<byte[], byte[]>>();
            long end = System.nanoTime() + Duration.ofSeconds(40).toNanos();
            while (all.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                consumer.poll(Duration.ofMillis(200)).forEach(records::add);
                Harness.check(System.nanoTime() < end, "only " + records.size() + " records before the end " + ends + " within 40 s");
            }
            return records;
        }
    }

    /** Each record that came back equals the one sent at that place, and none is missing or more. */
    static void equal(List<ProducerRecord<byte[], byte[]>> sent, List<RecordMetadata> acked, List<ConsumerRecord<byte[], byte[]>> got) {
        Harness.same(sent.size(), got.size(), "number of records");
        var byPlace = new HashMap<String, ConsumerRecord<byte[], byte[]>>();
        for (var record : got) {
            Harness.check(byPlace.put(record.partition() + "@" + record.offset(), record) == null, "read twice: " + record.offset());
        }
        for (int i = 0; i < sent.size(); i++) {
            var expected = sent.get(i);
            var place = acked.get(i).partition() + "@" + acked.get(i).offset();
            var record = byPlace.get(place);
            Harness.check(record != null, "nothing at " + place);
            Harness.check(Arrays.equals(expected.key(), record.key()), "key of record " + i + " at " + place + ": " + text(record.key()));
            Harness.check(Arrays.equals(expected.value(), record.value()), "value of record " + i + " at " + place);
            Harness.same(List.of(expected.headers().toArray()), List.of(record.headers().toArray()), "headers of record " + i + " at " + place);
            Harness.same(expected.timestamp(), record.timestamp(), "timestamp of record " + i + " at " + place);
        }
    }
}
