"""kafka-python: how it does what claims.py asks."""
import threading

from claims import BOOTSTRAP, PATIENCE, Client, Record, check, eventually, main, name, new_topic, refused, replace, same, samples, settled, time
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource


def producer(codec="none", **more):
    return KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", enable_idempotence=True, compression_type=None if codec == "none" else codec, linger_ms=5,
                         reconnect_backoff_max_ms=300, **more)


def consumer(*topics, **more):
    return KafkaConsumer(*topics, bootstrap_servers=BOOTSTRAP, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100, reconnect_backoff_max_ms=300, **more)


def record(message):
    return Record(message.partition, message.key, message.value, list(message.headers), message.timestamp, message.offset)


def send(out, topic, one):
    return out.send(topic, one.value, one.key, one.headers, one.partition, one.time)


class Member(ConsumerRebalanceListener):
    def __init__(self, topic, group, got):
        self.mine, self.stopping, self.got = set(), False, got
        self.consumer = consumer(group_id=group, heartbeat_interval_ms=300, session_timeout_ms=10000)
        self.consumer.subscribe([topic], listener=self)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def on_partitions_assigned(self, assigned):
        self.mine = {p.partition for p in self.consumer.assignment()} | {p.partition for p in assigned}

    def on_partitions_revoked(self, revoked):
        self.mine -= {p.partition for p in revoked}

    def work(self):
        while not self.stopping:
            got = self.consumer.poll(timeout_ms=50)
            for messages in got.values():
                for message in messages:
                    self.got(record(message))
            if got:
                try:
                    self.consumer.commit()
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
        self.producer = producer("lz4", delivery_timeout_ms=80000, max_block_ms=60000)

    def send(self, one, acked):
        sent = send(self.producer, self.topic, one)
        sent.add_callback(lambda metadata: acked(metadata.offset, None))
        sent.add_errback(lambda problem: acked(-1, problem))

    def close(self):
        self.producer.flush(PATIENCE)
        self.producer.close(PATIENCE)


class KafkaPython(Client):
    name = "kafka-python"
    null_headers = False
    null_both = False

    def __init__(self):
        self.admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)

    def create_topic(self, topic, partitions, configs):
        self.admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1, "configs": configs}})

    def produce(self, topic, codec, records):
        out = producer(codec, max_request_size=1_048_588)
        sent = [send(out, topic, one) for one in records]
        out.flush(PATIENCE)
        made = [replace(one, offset=done.get(PATIENCE).offset) for one, done in zip(records, sent)]
        out.close()
        return made

    def read(self, topic, partition, start, end):
        reader, got, p = consumer(), [], TopicPartition(topic, partition)
        reader.assign([p])
        reader.seek(p, start)
        last = time.monotonic() + PATIENCE
        while len(got) < end - start:
            check(time.monotonic() < last, f"only {len(got)} of {end - start} records")
            got += [record(m) for m in reader.poll(timeout_ms=500, max_records=end - start - len(got)).get(p, [])]
        reader.close()
        return got

    def ends(self, topic, partition):
        reader, p = consumer(), TopicPartition(topic, partition)
        try:
            return reader.beginning_offsets([p])[p], reader.end_offsets([p])[p]
        finally:
            reader.close()

    def offset_at(self, topic, partition, millis):
        reader, p = consumer(), TopicPartition(topic, partition)
        found = reader.offsets_for_times({p: millis})[p]
        reader.close()
        return found.offset if found else None

    def join(self, topic, group, got):
        return Member(topic, group, got)

    def stream(self, topic):
        return Stream(topic)

    def own_claims(self):
        return [("admin: topics are created, described, grown, configured and deleted", self.admin_topics),
                ("admin: groups are listed, described, moved and deleted", self.admin_groups),
                ("committed offsets come back with metadata", self.commits)]

    def admin_topics(self):
        topic = new_topic(self, "admin", 2, {"retention.ms": "7000000"})
        refused("TopicAlreadyExists", lambda: self.create_topic(topic, 1, {}))
        refused("InvalidTopic", lambda: self.create_topic("a b", 1, {}))
        refused("InvalidReplicationFactor", lambda: self.admin.create_topics({name(self, "rf"): {"num_partitions": 1, "replication_factor": 5}}))
        check(topic in self.admin.list_topics(), "the topic is listed")

        def config():
            found = self.admin.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")
            return {key: entry["value"] for key, entry in found["topic"][topic].items()}
        same("7000000", config()["retention.ms"], "retention.ms")
        self.admin.alter_configs([ConfigResource("TOPIC", topic, {"retention.ms": "8000000"})])
        eventually("the new config is seen", lambda: config()["retention.ms"] == "8000000")
        self.admin.create_partitions({topic: 5})
        eventually("five partitions", lambda: len(self.admin.describe_topics([topic])[0]["partitions"]) == 5)
        self.produce(topic, "none", samples(self, 1, 40))
        self.admin.delete_records({TopicPartition(topic, 0): 10})
        same((10, 43), self.ends(topic, 0), "ends")
        check(self.admin.describe_cluster()["controller_id"] in [node["broker_id"] for node in self.admin.describe_cluster()["brokers"]], "controller among the brokers")
        check(self.admin.describe_log_dirs(), "log directories")
        check(self.admin.describe_metadata_quorum(), "metadata quorum")
        self.admin.delete_topics([topic])
        eventually("the topic is gone", lambda: topic not in self.admin.list_topics())

    def admin_groups(self):
        topic = new_topic(self, "admin-group", 2)
        self.produce(topic, "none", samples(self, 2, 20))
        member = self.join(topic, topic, lambda _: None)
        settled(2, member)
        described = self.admin.describe_groups([topic])[topic]
        same("Stable", str(getattr(described["group_state"], "value", described["group_state"])), "state")
        same(1, len(described["members"]), "members")
        member.close()
        listed = self.admin.list_groups(states_filter=["Empty"])
        check(topic in str(listed), "the empty group is listed")
        p = TopicPartition(topic, 0)
        self.admin.alter_group_offsets(topic, {p: OffsetAndMetadata(3, "moved", -1)})
        same((3, "moved"), self.admin.list_group_offsets({topic: None})[topic][p][:2], "offset")
        self.admin.delete_groups([topic])
        check(topic not in str(self.admin.list_groups()), "the group is gone")

    def commits(self):
        topic = new_topic(self, "commits", 2)
        p, q = TopicPartition(topic, 0), TopicPartition(topic, 1)
        reader = consumer(group_id=topic)
        reader.assign([p, q])
        reader.commit({p: OffsetAndMetadata(7, "läuft", -1)})
        same(7, reader.committed(p), "offset")
        same("läuft", reader.committed(p, metadata=True).metadata, "metadata")
        same(None, reader.committed(q), "offset never committed")
        reader.close()


main(KafkaPython())
