"""aiokafka: how it does what claims.py asks. Its coroutines run on one loop in a thread of its own."""
import asyncio, threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from claims import BOOTSTRAP, PATIENCE, Client, Record, check, eventually, main, new_topic, replace, same, samples, settled

LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


def wait(coroutine, seconds=PATIENCE):
    return asyncio.run_coroutine_threadsafe(coroutine, LOOP).result(seconds)


async def producer(codec="none", **more):
    made = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", enable_idempotence=True, compression_type=None if codec == "none" else codec, linger_ms=5,
                            request_timeout_ms=60_000, **more)
    await made.start()
    return made


async def consumer(**more):
    made = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100, metadata_max_age_ms=3000, **more)
    await made.start()
    return made


def record(message):
    return Record(message.partition, message.key, message.value, list(message.headers), message.timestamp, message.offset)


async def send(out, topic, one):
    return await out.send(topic, one.value, one.key, one.partition, one.time, one.headers)


class Member(ConsumerRebalanceListener):
    def __init__(self, topic, group, got):
        self.mine, self.stopping, self.got = set(), False, got
        self.work_done = asyncio.run_coroutine_threadsafe(self.work(topic, group), LOOP)

    def on_partitions_assigned(self, assigned):
        self.mine = {p.partition for p in assigned}

    def on_partitions_revoked(self, revoked):
        self.mine = set()

    async def work(self, topic, group):
        reader = await consumer(group_id=group, heartbeat_interval_ms=300, session_timeout_ms=10000)
        reader.subscribe([topic], listener=self)
        while not self.stopping:
            try:
                got = await reader.getmany(timeout_ms=50)
                for messages in got.values():
                    for message in messages:
                        self.got(record(message))
                if got:
                    await reader.commit()
            except KafkaError:
                continue  # the broker is away, or a rebalance came first
        await reader.stop()

    def owned(self):
        return list(self.mine)

    def close(self):
        self.stopping = True
        self.work_done.result(PATIENCE)


class Stream:
    def __init__(self, topic):
        self.topic = topic
        self.producer = wait(producer("lz4"))

    def send(self, one, acked):
        sent = wait(send(self.producer, self.topic, one), 80)

        def done(future):
            problem = future.exception()
            acked(-1 if problem else future.result().offset, problem)
        LOOP.call_soon_threadsafe(sent.add_done_callback, done)

    def close(self):
        wait(self.producer.stop())


class AioKafka(Client):
    name = "aiokafka"
    null_both = False
    once = False  # members give up their partitions before what they read is committed

    def __init__(self):
        async def start():
            made = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
            await made.start()
            return made
        self.admin = wait(start())

    def create_topic(self, topic, partitions, configs):
        answer = wait(self.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)]))
        self.last_code = answer.topic_errors[0][1]

    def produce(self, topic, codec, records):
        async def work():
            out = await producer(codec, max_request_size=1_048_588)
            sent = [await send(out, topic, one) for one in records]
            made = [replace(one, offset=(await done).offset) for one, done in zip(records, sent)]
            await out.stop()
            return made
        return wait(work())

    def read(self, topic, partition, start, end):
        async def work():
            p, got = TopicPartition(topic, partition), []
            reader = await consumer()
            reader.assign([p])
            reader.seek(p, start)
            while len(got) < end - start:
                got += [record(m) for m in (await reader.getmany(timeout_ms=500, max_records=end - start - len(got))).get(p, [])]
            await reader.stop()
            return got
        return wait(work())

    def ends(self, topic, partition):
        async def work():
            p = TopicPartition(topic, partition)
            reader = await consumer()
            try:
                return (await reader.beginning_offsets([p]))[p], (await reader.end_offsets([p]))[p]
            finally:
                await reader.stop()
        return wait(work())

    def offset_at(self, topic, partition, millis):
        async def work():
            p = TopicPartition(topic, partition)
            reader = await consumer()
            found = (await reader.offsets_for_times({p: millis}))[p]
            await reader.stop()
            return found.offset if found else None
        return wait(work())

    def join(self, topic, group, got):
        return Member(topic, group, got)

    def stream(self, topic):
        return Stream(topic)

    def own_claims(self):
        return [("admin: topics are created, described, grown, configured and deleted", self.admin_topics),
                ("admin: groups are listed, described and their offsets told", self.admin_groups)]

    def admin_topics(self):
        topic = new_topic(self, "admin", 2, {"retention.ms": "7000000"})
        self.create_topic(topic, 1, {})
        same(36, self.last_code, "error code of an existing topic")
        self.create_topic("a b", 1, {})
        same(17, self.last_code, "error code of a bad name")
        check(topic in wait(self.admin.list_topics()), "the topic is listed")

        def config():
            [answer] = wait(self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
            return {entry[0]: entry[1] for entry in answer.resources[0][4]}
        same("7000000", config()["retention.ms"], "retention.ms")
        # The library knows only AlterConfigs, which replaces everything.
        wait(self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"segment.bytes": "8000000"})]))
        eventually("the new config is seen", lambda: config()["segment.bytes"] == "8000000")
        same("604800000", config()["retention.ms"], "retention.ms after configs were replaced")
        wait(self.admin.create_partitions({topic: NewPartitions(5)}))
        eventually("five partitions", lambda: len(wait(self.admin.describe_topics([topic]))[0]["partitions"]) == 5)
        self.produce(topic, "none", samples(self, 1, 40))
        wait(self.admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=10)}))
        same((10, 43), self.ends(topic, 0), "ends")
        cluster = wait(self.admin.describe_cluster())
        check(cluster["controller_id"] in [node["node_id"] for node in cluster["brokers"]], "controller among the brokers")
        wait(self.admin.delete_topics([topic]))
        eventually("the topic is gone", lambda: topic not in wait(self.admin.list_topics()))

    def admin_groups(self):
        topic = new_topic(self, "admin-group", 2)
        sent, got = self.produce(topic, "none", samples(self, 2, 20)), []
        member = self.join(topic, topic, got.append)
        settled(2, member)
        eventually("everything is seen", lambda: len(got) == len(sent))
        [described] = wait(self.admin.describe_consumer_groups([topic]))
        check("Stable" in str(described), described)
        member.close()
        check((topic, "consumer") in wait(self.admin.list_consumer_groups()), "the group is listed")
        offsets = wait(self.admin.list_consumer_group_offsets(topic))
        same(len(sent), sum(o.offset for o in offsets.values()), "offsets committed")


main(AioKafka())
