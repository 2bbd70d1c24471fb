"""confluent-kafka (librdkafka): how it does what claims.py asks."""
import threading

from claims import BOOTSTRAP, CA, PATIENCE, Client, Record, check, eventually, main, name, new_topic, refused, replace, same, samples, settled
from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType


def settings(**more):
    encryption = {"security.protocol": "ssl", "ssl.ca.location": CA} if CA else {}
    return {"bootstrap.servers": BOOTSTRAP, "log_level": 0, **encryption, **{key.replace("_", "."): value for key, value in more.items()}}


def consumer(**more):
    return Consumer({**settings(group_id="unused", enable_auto_commit=False, auto_offset_reset="earliest", fetch_wait_max_ms=100), **{k.replace("_", "."): v for k, v in more.items()}})


def producer(**more):
    return Producer(settings(enable_idempotence=True, acks="all", **more))


def record(message):
    return Record(message.partition(), message.key(), message.value(), message.headers() or [], message.timestamp()[1], message.offset())


def send(out, topic, one, acked):
    def delivered(problem, message):
        acked(message.offset(), problem)
    while True:
        try:
            return out.produce(topic, one.value, one.key, one.partition, on_delivery=delivered, timestamp=one.time, headers=one.headers)
        except BufferError:
            out.poll(0.05)


class Member:
    def __init__(self, topic, group, got):
        self.mine, self.stopping, self.got = set(), False, got
        self.consumer = consumer(group_id=group, heartbeat_interval_ms=300, session_timeout_ms=10000)
        self.consumer.subscribe([topic], on_assign=lambda _, ps: self.mine.update(p.partition for p in ps), on_revoke=self.revoked, on_lost=self.revoked)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def revoked(self, _, partitions):
        self.mine -= {p.partition for p in partitions}

    def work(self):
        while not self.stopping:
            message = self.consumer.poll(0.05)
            if message is None or message.error():
                continue
            self.got(record(message))
            try:
                self.consumer.commit(message=message, asynchronous=False)
            except Exception:
                continue  # the broker is away, or a rebalance came first
        self.consumer.close()

    def owned(self):
        return list(self.mine)

    def close(self):
        self.stopping = True
        self.thread.join(PATIENCE)


class Stream:
    def __init__(self, topic):
        self.topic = topic
        self.producer = producer(compression_type="lz4", linger_ms=2, reconnect_backoff_max_ms=300, message_timeout_ms=60000, queue_buffering_max_messages=2000)

    def send(self, one, acked):
        send(self.producer, self.topic, one, acked)
        self.producer.poll(0)

    def close(self):
        same(0, self.producer.flush(PATIENCE), "records not flushed")


class Confluent(Client):
    name = "confluent-kafka"

    def __init__(self):
        self.admin = AdminClient(settings())

    def create_topic(self, topic, partitions, configs):
        self.admin.create_topics([NewTopic(topic, partitions, 1, config=configs)])[topic].result(PATIENCE)

    def produce(self, topic, codec, records):
        out, offsets = producer(compression_type=codec, linger_ms=20, message_max_bytes=1048588), {}
        for i, one in enumerate(records):
            send(out, topic, one, lambda offset, problem, i=i: offsets.__setitem__(i, problem or offset))
        same(0, out.flush(PATIENCE), "records not flushed")
        return [replace(one, offset=offsets[i]) for i, one in enumerate(records)]

    def read(self, topic, partition, start, end):
        reader, got = consumer(), []
        reader.assign([TopicPartition(topic, partition, start)])
        while len(got) < end - start:
            messages = reader.consume(end - start - len(got), PATIENCE)
            check(messages, f"only {len(got)} of {end - start} records")
            for message in messages:
                check(not message.error(), message.error())
                got.append(record(message))
        reader.close()
        return got

    def ends(self, topic, partition):
        reader = consumer()
        try:
            return reader.get_watermark_offsets(TopicPartition(topic, partition), PATIENCE)
        finally:
            reader.close()

    def offset_at(self, topic, partition, millis):
        reader = consumer()
        [found] = reader.offsets_for_times([TopicPartition(topic, partition, millis)], PATIENCE)
        reader.close()
        return found.offset if found.offset >= 0 else None

    def join(self, topic, group, got):
        return Member(topic, group, got)

    def stream(self, topic):
        return Stream(topic)

    def own_claims(self):
        return [("admin: topics are created, described, grown, configured and deleted", self.admin_topics),
                ("admin: groups are listed, described, moved and deleted", self.admin_groups),
                ("a static member and the assignors range, roundrobin and cooperative-sticky work", self.assignors)]

    def admin_topics(self):
        topic = new_topic(self, "admin", 2, {"retention.ms": "7000000"})
        refused("TOPIC_ALREADY_EXISTS", lambda: self.create_topic(topic, 1, {}))
        refused("TOPIC_EXCEPTION", lambda: self.create_topic("a b", 1, {}))
        refused("INVALID_REPLICATION_FACTOR", lambda: self.admin.create_topics([NewTopic(name(self, "rf"), 1, 5)])[name(self, "rf")].result(PATIENCE))
        same(2, len(self.admin.list_topics(topic, PATIENCE).topics[topic].partitions), "partitions")
        resource = ConfigResource(ResourceType.TOPIC, topic)

        def config():
            return self.admin.describe_configs([resource])[resource].result(PATIENCE)
        same("7000000", config()["retention.ms"].value, "retention.ms")
        same("86400000", config()["delete.retention.ms"].value, "delete.retention.ms")
        change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[ConfigEntry("retention.ms", "8000000", incremental_operation=AlterConfigOpType.SET)])
        for done in self.admin.incremental_alter_configs([change]).values():
            done.result(PATIENCE)
        eventually("the new config is seen", lambda: config()["retention.ms"].value == "8000000")
        bad = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[ConfigEntry("no.such", "1", incremental_operation=AlterConfigOpType.SET)])
        refused("INVALID_CONFIG", lambda: [done.result(PATIENCE) for done in self.admin.incremental_alter_configs([bad]).values()])
        self.admin.create_partitions([NewPartitions(topic, 5)])[topic].result(PATIENCE)
        eventually("five partitions", lambda: len(self.admin.list_topics(topic, PATIENCE).topics[topic].partitions) == 5)
        sent = self.produce(topic, "none", samples(self, 1, 40))
        p = TopicPartition(topic, 0)
        same(10, self.admin.delete_records([TopicPartition(topic, 0, 10)])[p].result(PATIENCE).low_watermark, "low watermark")
        same((10, 43), self.ends(topic, 0), "ends")
        listed = self.admin.list_offsets({p: OffsetSpec.max_timestamp()})[p].result(PATIENCE)
        same((42, sent[-1].time), (listed.offset, listed.timestamp), "latest timestamp")
        cluster = self.admin.describe_cluster().result(PATIENCE)
        check(cluster.controller.id in [node.id for node in cluster.nodes] and cluster.cluster_id, "controller among the nodes")
        self.admin.delete_topics([topic])[topic].result(PATIENCE)
        eventually("the topic is gone", lambda: topic not in self.admin.list_topics(timeout=PATIENCE).topics)

    def admin_groups(self):
        topic = new_topic(self, "admin-group", 2)
        self.produce(topic, "none", samples(self, 2, 20))
        member = self.join(topic, topic, lambda _: None)
        settled(2, member)
        described = self.admin.describe_consumer_groups([topic])[topic].result(PATIENCE)
        same(ConsumerGroupState.STABLE, described.state, "state")
        same([0, 1], sorted(p.partition for p in described.members[0].assignment.topic_partitions), "assignment")
        refused("NON_EMPTY_GROUP", lambda: self.admin.delete_consumer_groups([topic])[topic].result(PATIENCE))
        member.close()
        listed = self.admin.list_consumer_groups(states={ConsumerGroupState.EMPTY}).result(PATIENCE)
        check(topic in [group.group_id for group in listed.valid], "the empty group is listed")
        self.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(topic, [TopicPartition(topic, 0, 3)])])[topic].result(PATIENCE)
        [offsets] = [self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(topic)])[topic].result(PATIENCE)]
        same(3, next(p.offset for p in offsets.topic_partitions if p.partition == 0), "offset")
        self.admin.delete_consumer_groups([topic])[topic].result(PATIENCE)
        refused("GROUP_ID_NOT_FOUND", lambda: self.admin.delete_consumer_groups([topic])[topic].result(PATIENCE))

    def assignors(self):
        topic = new_topic(self, "assignors", 2)
        self.produce(topic, "zstd", samples(self, 2, 10))
        for assignor in ("range", "roundrobin", "cooperative-sticky"):
            group = f"{topic}-{assignor}"
            for _ in range(2):  # the second time it is the same static member that comes back
                reader = consumer(group_id=group, partition_assignment_strategy=assignor, group_instance_id="static", session_timeout_ms=10000)
                reader.subscribe([topic])
                seen = 0
                while seen < 13:
                    messages = reader.consume(13 - seen, PATIENCE)
                    check(messages, f"{seen} records with {assignor}")
                    check(not any(m.error() for m in messages), [m.error() for m in messages if m.error()])
                    seen += len(messages)
                reader.close()


main(Confluent())
