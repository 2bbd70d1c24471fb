package compat;

import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;

/** One member of a group on its own thread; commits after each poll, so that a calm rebalance repeats nothing. */
final class Member implements ConsumerRebalanceListener, AutoCloseable {
    final Set<TopicPartition> owned = ConcurrentHashMap.newKeySet();
    /** Everything that was ever taken away from this member. */
    final Set<TopicPartition> revoked = ConcurrentHashMap.newKeySet();
    final AtomicInteger assignments = new AtomicInteger();
    final AtomicReference<Throwable> failure = new AtomicReference<>();
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Queue<ConsumerRecord<byte[], byte[]>> seen;
    private final Thread thread;
    private volatile boolean stopping;

    Member(String topic, Queue<ConsumerRecord<byte[], byte[]>> seen, Object... settings) {
        this.seen = seen;
        consumer = Clients.consumer(settings);
        thread = new Thread(() -> {
            try (consumer) {
                consumer.subscribe(List.of(topic), this);
                while (!stopping) {
                    var got = consumer.poll(Duration.ofMillis(50));
                    got.forEach(seen::add);
                    if (!got.isEmpty()) {
                        commit();
                    }
                }
            } catch (RuntimeException | Error e) {
                failure.set(e);
            }
        });
        thread.setDaemon(true);
        thread.start();
    }

    private void commit() {
        try {
            consumer.commitSync();
        } catch (RebalanceInProgressException e) {
            // What stays is committed after the next poll, what goes when it is revoked.
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        owned.addAll(partitions);
        assignments.incrementAndGet();
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        owned.removeAll(Set.copyOf(partitions));
        revoked.addAll(partitions);
        commit();
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        owned.removeAll(Set.copyOf(partitions));
    }

    Map<String, Integer> summary() {
        return Map.of("owned", owned.size(), "assignments", assignments.get(), "seen", seen.size());
    }

    @Override
    public void close() throws InterruptedException {
        stopping = true;
        thread.join();
    }
}
