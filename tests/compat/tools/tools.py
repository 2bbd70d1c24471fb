"""Kafka's own command-line classes against the broker.

What lives here: the calls and what their output must say. `tools.py LIBS CLASSES`, called by `run`. Tools that read standard
input or stay are started as a person would, each in a JVM of its own; the others share one, see Calls.java.
"""
import base64, contextlib, json, os, re, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LIBS, CLASSES = map(Path, sys.argv[1:3])
HERE = Path(__file__).resolve().parent
BOOTSTRAP = os.environ["CHRONIK_COMPAT_BOOTSTRAP"]
CONTROL = os.environ.get("CHRONIK_COMPAT_CONTROL")
WORK = Path(os.environ["CHRONIK_COMPAT_WORK"])
RUN = f"{time.time_ns() // 1_000_000:x}"
CALL_SECONDS_MAX = 60
TOOLS = "org.apache.kafka.tools."
GROUPS = TOOLS + "consumer.group.ConsumerGroupCommand"
CONSUMER = TOOLS + "consumer.ConsoleConsumer"
# Loaded classes are shared between the many short JVMs; an archive that does not fit is ignored by the JVM.
ARCHIVE = LIBS.parent / "classes.jsa"
JAVA = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xlog:cds=off", "-Xlog:cds+dynamic=off",
        f"-Dlog4j2.configurationFile=file:{HERE}/log4j2.properties"]
ALONE = {CONSUMER, TOOLS + "ConsoleProducer", TOOLS + "ProducerPerformance", TOOLS + "ConsumerPerformance"}
failed = threading.Event()
printing = threading.Lock()


def report(word, text, detail=""):
    with printing:
        print(f"{word} tools: {text}")
        for line in detail.splitlines():
            print(f"  {line[:600]}")
        sys.stdout.flush()


@contextlib.contextmanager
def claim(text):
    try:
        yield
    except (AssertionError, subprocess.TimeoutExpired, ValueError, LookupError, NameError) as problem:
        failed.set()
        report("FAIL", text, f"{type(problem).__name__}: {problem}")
    else:
        report("ok", text)


def launch(cls, *args, archive=None):
    shared = archive or (["-XX:SharedArchiveFile=" + str(ARCHIVE)] if ARCHIVE.exists() else [])
    return [*JAVA, *shared, "-cp", f"{LIBS}/*", *cls.split(), "--bootstrap-server", BOOTSTRAP, *args]


class SharedJvm:
    """One JVM in which main methods run one after the other."""

    def __init__(self):
        self.lock = threading.Lock()
        self.process = subprocess.Popen([*JAVA, "-cp", f"{CLASSES}:{LIBS}/*", "compat.Calls"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)

    def call(self, words):
        with self.lock:
            self.process.stdin.write(" ".join(base64.b64encode(word.encode()).decode() for word in words) + "\n")
            self.process.stdin.flush()
            watch = threading.Timer(CALL_SECONDS_MAX, self.process.kill)
            watch.start()
            answer = self.process.stdout.readline()
            watch.cancel()
        assert answer, f"no answer within {CALL_SECONDS_MAX} s from {' '.join(words)}"
        code, out, err = answer.rstrip("\n").split(" ")
        return int(code), base64.b64decode(out).decode(), base64.b64decode(err).decode()


def tool(cls, *args, lines=None, code=0, archive=None):
    """Runs a tool to its end; its standard output. `lines` is its standard input."""
    if cls in ALONE:
        done = subprocess.run(launch(cls, *args, archive=archive), input="".join(line + "\n" for line in lines or []), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=CALL_SECONDS_MAX)
        got, out, err = done.returncode, done.stdout, done.stderr
    else:
        got, out, err = SHARED.call([*cls.split(), "--bootstrap-server", BOOTSTRAP, *args])
    said = f"{cls.rsplit('.', 1)[-1]} {' '.join(args)}\nexit code {got}\n{out[-1500:]}\n{err[-1500:]}"
    tool.said.text = said
    assert got == code, f"expected exit code {code}: {said}"
    return out


tool.said = threading.local()


def expect(pattern, text):
    found = re.search(pattern, text, re.MULTILINE)
    assert found, f"expected /{pattern}/ in: {tool.said.text}"
    return found


def equal(expected, got):
    assert expected == got, f"expected {expected}, got {got}: {tool.said.text}"


def columns(text, head):
    """The rows of a table whose header starts with `head`, split at blanks."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    first = next((i for i, row in enumerate(rows) if row[0] == head), None)
    assert first is not None, f"no table {head} in: {tool.said.text}"
    return rows[first + 1:]


def eventually(what, seconds, ask):
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}: {getattr(tool.said, 'text', '')}"
    return answer


def name(hint):
    return f"compat-tools-{hint}-{RUN}"


def create(hint, partitions, *args):
    topic = name(hint)
    tool(TOOLS + "TopicCommand", "--create", "--topic", topic, "--partitions", str(partitions), *args)
    return topic


# --- scenes ---------------------------------------------------------------------------------------

def topics():
    command, topic = TOOLS + "TopicCommand", name("topics")
    with claim("kafka-topics creates a topic and says so"):
        equal(f"Created topic {topic}.\n", tool(command, "--create", "--topic", topic, "--partitions", "3", "--config", "retention.ms=7200000"))
    with claim("kafka-topics lists it"):
        assert topic in tool(command, "--list").split()
    with claim("kafka-topics describes partitions, leader, replicas and configs"):
        said = tool(command, "--describe", "--topic", topic)
        expect(rf"Topic: {topic}\tTopicId: [\w-]{{22}}\tPartitionCount: 3\tReplicationFactor: 1\tConfigs: .*retention\.ms=7200000", said)
        for partition in range(3):
            leader = expect(rf"Topic: {topic}\tPartition: {partition}\tLeader: (\d+)\tReplicas: (\d+)\tIsr: (\d+)\tElr: \tLastKnownElr: ", said).groups()
            equal(1, len(set(leader)))
    with claim("kafka-topics grows a topic and refuses to shrink it"):
        tool(command, "--alter", "--topic", topic, "--partitions", "5")
        eventually("five partitions", 20, lambda: "PartitionCount: 5" in tool(command, "--describe", "--topic", topic))
        expect(r"The topic \S+ currently has 5 partition\(s\); 2 would not be an increase", tool(command, "--alter", "--topic", topic, "--partitions", "2", code=1))
    with claim("kafka-topics says what is wrong with a name, a replication factor, a config"):
        expect(r"already exists", tool(command, "--create", "--topic", topic, code=1))
        equal("", tool(command, "--create", "--topic", topic, "--if-not-exists"))
        expect(r"(?i)invalid", tool(command, "--create", "--topic", "a b", code=1))
        tool(command, "--create", "--topic", name("rf"), "--replication-factor", "3", code=1)
        expect(r"InvalidReplicationFactorException", tool.said.text)
        tool(command, "--create", "--topic", name("cfg"), "--config", "retention.ms=x", code=1)
        expect(r"InvalidConfigurationException|Invalid value", tool.said.text)
    with claim("kafka-topics deletes a topic, and then it does not exist"):
        tool(command, "--delete", "--topic", topic)
        eventually("gone", 20, lambda: topic not in tool(command, "--list").split())
        expect(r"does not exist as expected", tool(command, "--describe", "--topic", topic, code=1))
    with claim("kafka-topics finds nothing wrong: no under-replicated or unavailable partitions"):
        equal("", tool(command, "--describe", "--under-replicated-partitions"))
        equal("", tool(command, "--describe", "--unavailable-partitions"))


def configs():
    command, topic = "kafka.admin.ConfigCommand", create("configs", 1)
    with claim("kafka-configs sets and shows configs of a topic"):
        equal(f"Completed updating config for topic {topic}.\n",
              tool(command, "--alter", "--topic", topic, "--add-config", "segment.bytes=2000000,cleanup.policy=[delete,compact]"))
        said = tool(command, "--describe", "--topic", topic)
        expect(r"segment\.bytes=2000000 sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:segment\.bytes=2000000, DEFAULT_CONFIG:log\.segment\.bytes=1073741824\}", said)
        expect(r"cleanup\.policy=delete,compact sensitive=false", said)
    with claim("kafka-configs takes a config back"):
        tool(command, "--alter", "--topic", topic, "--delete-config", "segment.bytes")
        assert "segment.bytes" not in tool(command, "--describe", "--topic", topic)
    with claim("kafka-configs shows every config of a topic with --all"):
        said = tool(command, "--describe", "--topic", topic, "--all")
        for config in ("retention.ms=604800000", "max.message.bytes=1048588", "compression.type=producer", "segment.bytes=1073741824"):
            expect(re.escape(config) + " ", said)
    with claim("kafka-configs names an unknown config and an invalid value"):
        tool(command, "--alter", "--topic", topic, "--add-config", "bogus=1", code=1)
        expect(r"InvalidConfigurationException: Unknown topic config name: bogus", tool.said.text)
        tool(command, "--alter", "--topic", topic, "--add-config", "retention.ms=soon", code=1)
        expect(r"InvalidConfigurationException: Invalid value soon for configuration retention\.ms", tool.said.text)
    with claim("kafka-configs shows a broker's configs and changes the default of all brokers"):
        node = re.search(r"\(id: (\d+) ", tool(TOOLS + "BrokerApiVersionsCommand")).group(1)
        expect(rf"^  node\.id={node} ", tool(command, "--describe", "--broker", node, "--all"))
        tool(command, "--alter", "--broker-defaults", "--add-config", "log.flush.interval.ms=7654321")
        expect(r"log\.flush\.interval\.ms=7654321 ", tool(command, "--describe", "--broker-defaults"))
        tool(command, "--alter", "--broker-defaults", "--delete-config", "log.flush.interval.ms")
        assert "log.flush.interval.ms" not in tool(command, "--describe", "--broker-defaults")


def console():
    topic = create("console", 2)
    with claim("kafka-console-producer writes keys, headers and nulls with every codec, kafka-console-consumer shows them"):
        expected = []
        for i, codec in enumerate(("none", "gzip", "snappy", "lz4", "zstd")):
            tool(TOOLS + "ConsoleProducer", "--topic", topic, "--compression-codec", codec, "--reader-property", "parse.key=true",
                 "--reader-property", "parse.headers=true", "--reader-property", "null.marker=NIL",
                 lines=[f"codec:{codec},n:1\tkey-{i}\tvalue-{i}", f"codec:{codec}\tkey-{i}\tNIL", f"codec:{codec}\tkey-{i}\t"])
            expected += [f"codec:{codec},n:1|key-{i}|value-{i}", f"codec:{codec}|key-{i}|null", f"codec:{codec}|key-{i}|"]
        said = tool(CONSUMER, "--topic", topic, "--from-beginning", "--max-messages", "15", "--timeout-ms", "20000",
                    "--formatter-property", "print.key=true", "--formatter-property", "print.headers=true", "--formatter-property", "key.separator=|")
        equal(sorted(expected), sorted(line.replace("\t", "|") for line in said.splitlines()))
    with claim("kafka-console-consumer reads one partition from an offset and shows where a record is from"):
        single = create("console-offset", 1)
        tool(TOOLS + "ConsoleProducer", "--topic", single, "--sync", lines=[f"line {i}" for i in range(10)])
        said = tool(CONSUMER, "--topic", single, "--partition", "0", "--offset", "7", "--max-messages", "3", "--timeout-ms", "20000", "--formatter-property", "print.offset=true",
                    "--formatter-property", "print.partition=true", "--formatter-property", "print.timestamp=true")
        for i, line in enumerate(said.splitlines()):
            expect(rf"^CreateTime:\d{{13}}\tPartition:0\tOffset:{7 + i}\tline {7 + i}$", line)
        equal(3, len(said.splitlines()))
    with claim("kafka-console-consumer with read_committed and an include pattern sees the same"):
        said = tool(CONSUMER, "--include", f"compat-tools-console-of.*-{RUN}", "--from-beginning", "--isolation-level", "read_committed",
                    "--max-messages", "10", "--timeout-ms", "20000")
        equal([f"line {i}" for i in range(10)], said.splitlines())


def groups():
    topic, group = create("groups", 2), name("group")
    tool(TOOLS + "ConsoleProducer", "--topic", topic, "--reader-property", "parse.key=true", lines=[f"k{i}\tv{i}" for i in range(20)])
    ends = dict(line.split(":")[1:] for line in tool(TOOLS + "GetOffsetShell", "--topic", topic).split())
    equal(20, sum(map(int, ends.values())))
    member = subprocess.Popen(launch(CONSUMER, "--topic", topic, "--group", group, "--from-beginning", "--command-property", "client.id=watched"),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        seen = [member.stdout.readline().strip() for _ in range(20)]
        with claim("kafka-console-consumer in a group reads everything"):
            equal(sorted(f"v{i}" for i in range(20)), sorted(seen))
        with claim("kafka-consumer-groups describes a group with members, its state and its members"):
            rows = eventually("the offsets are committed", 30, lambda: (rows := columns(tool(GROUPS, "--describe", "--group", group), "GROUP"))
                              and all(row[5] == "0" for row in rows) and rows)
            for row in rows:
                equal([group, topic, ends[row[2]], ends[row[2]], "0", "watched"], [row[0], row[1], row[3], row[4], row[5], row[8]])
                assert row[6].startswith("watched-") and row[7] == "/127.0.0.1", row
            equal(2, len(rows))
            state = columns(tool(GROUPS, "--describe", "--group", group, "--state"), "GROUP")[0]
            equal([group, BOOTSTRAP.split(":")[1], "range", "Stable", "1"], [state[0], state[1].split(":")[1], *state[3:]])
            members = columns(tool(GROUPS, "--describe", "--group", group, "--members", "--verbose"), "GROUP")[0]
            equal([group, "/127.0.0.1", "watched", "2"], [members[0], members[2], members[3], members[4]])
            expect(rf"{topic}:0,1|{topic}\(0, ?1\)", tool.said.text)
        with claim("kafka-consumer-groups does not touch a group that has members"):
            tool(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute")
            expect(r"current state is Stable", tool.said.text)
            tool(GROUPS, "--delete", "--group", group)
            expect(r"GroupNotEmptyException", tool.said.text)
    finally:
        member.terminate()
        member.wait(20)
    with claim("kafka-consumer-groups lists groups with state and type"):
        eventually("the group is empty", 60, lambda: [group, "Empty"] in columns(tool(GROUPS, "--list", "--state"), "GROUP"))
        assert [group, "Empty"] in columns(tool(GROUPS, "--list", "--state", "Empty"), "GROUP")
        assert group not in tool(GROUPS, "--list", "--state", "Stable").split()
        assert [group, "Classic"] in columns(tool(GROUPS, "--list", "--type"), "GROUP"), tool.said.text
        assert group in tool(GROUPS, "--list").split()
        assert [group, "Classic", "consumer"] in columns(tool(TOOLS + "GroupsCommand", "--list"), "GROUP"), tool.said.text
    with claim("kafka-consumer-groups resets offsets: earliest, by shift, to an offset, latest; a dry run changes nothing"):
        def reset(*how):
            return {row[2]: row[3] for row in columns(tool(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, *how), "GROUP")}

        def current():
            return {row[2]: row[3] for row in columns(tool(GROUPS, "--describe", "--group", group), "GROUP")}
        equal({"0": "0", "1": "0"}, reset("--to-earliest", "--dry-run"))
        equal(ends, current())
        equal({"0": "0", "1": "0"}, reset("--to-earliest", "--execute"))
        equal({"0": "0", "1": "0"}, current())
        equal({"0": "2", "1": "2"}, reset("--shift-by", "2", "--execute"))
        equal({"0": "1", "1": "1"}, reset("--to-offset", "1", "--execute"))
        equal({"0": "0", "1": "0"}, reset("--to-datetime", "2020-01-01T00:00:00.000", "--execute"))
        equal(ends, reset("--to-latest", "--execute"))
    with claim("kafka-consumer-groups deletes the offsets of a topic"):
        said = tool(GROUPS, "--delete-offsets", "--group", group, "--topic", topic)
        equal([[topic, "0", "Successful"], [topic, "1", "Successful"]], columns(said, "TOPIC"))
    with claim("kafka-consumer-groups deletes a group; then it is not found"):
        tool(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute")
        expect(rf"Deletion of requested consumer groups \('{group}'\) was successful", tool(GROUPS, "--delete", "--group", group))
        assert group not in tool(GROUPS, "--list").split()
        tool(GROUPS, "--delete", "--group", group)
        expect(r"GroupIdNotFoundException", tool.said.text)


def internals():
    topic, group = create("internals", 1), name("internals")
    tool(TOOLS + "ConsoleProducer", "--topic", topic, lines=["one", "two"])
    tool(CONSUMER, "--topic", topic, "--group", group, "--from-beginning", "--max-messages", "2", "--timeout-ms", "20000")

    def records(formatter):
        read = tool(CONSUMER, "--topic", "__consumer_offsets", "--from-beginning", "--timeout-ms", "4000", "--formatter", TOOLS + "consumer." + formatter)
        decoder, place, all_records = json.JSONDecoder(), 0, []
        while place < len(read):
            if read[place].isspace():
                place += 1
                continue
            one, place = decoder.raw_decode(read, place)
            all_records.append(one)
        return [one for one in all_records if one["key"]["data"]["group"] == group]
    with claim("__consumer_offsets holds commits in Kafka's own schema"):
        commits = records("OffsetsMessageFormatter")
        assert commits, tool.said.text
        last = commits[-1]
        equal({"group": group, "topic": topic, "partition": 0}, last["key"]["data"])
        equal(1, last["key"]["type"])
        equal(2, last["value"]["data"]["offset"])
        assert last["value"]["data"]["commitTimestamp"] > 1_700_000_000_000, last
    with claim("__consumer_offsets holds group metadata in Kafka's own schema"):
        states = records("GroupMetadataMessageFormatter")
        assert states, tool.said.text
        full = [one for one in states if one["value"] and one["value"]["data"]["members"]]
        assert full, states
        data = full[-1]["value"]["data"]
        equal(["consumer", "range"], [data["protocolType"], data["protocol"]])
        member = data["members"][0]
        equal(data["leader"], member["memberId"])
        equal([], states[-1]["value"]["data"]["members"])


def offsets():
    topic = create("offsets", 2)
    tool(TOOLS + "ConsoleProducer", "--topic", topic, "--reader-property", "parse.key=true", lines=[f"k{i}\tv{i}" for i in range(30)])
    shell = TOOLS + "GetOffsetShell"

    def ask(*how):
        return {int(line.split(":")[1]): line.split(":")[2] for line in tool(shell, "--topic", topic, *how).split()}
    with claim("kafka-get-offsets: earliest, latest, max timestamp, by time, by partition"):
        latest = ask()
        equal(30, sum(map(int, latest.values())))
        equal({0: "0", 1: "0"}, ask("--time", "earliest"))
        equal(latest, ask("--time", "latest"))
        equal({0: "0", 1: "0"}, ask("--time", "1500000000000"))
        biggest = ask("--time", "max-timestamp")
        assert all(int(biggest[p]) < int(latest[p]) for p in (0, 1)), biggest
        equal({1: latest[1]}, ask("--partitions", "1"))
    with claim("kafka-get-offsets of an unknown topic fails with words"):
        tool(shell, "--topic", name("unknown"), code=1)
        expect(r"Could not match any topic-partitions", tool.said.text)
    with claim("kafka-delete-records moves the start and says where it is"):
        wanted = WORK / f"delete-{RUN}.json"
        wanted.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": 3}, {"topic": topic, "partition": 1, "offset": -1}]}))
        said = tool(TOOLS + "DeleteRecordsCommand", "--offset-json-file", str(wanted))
        expect(rf"^partition: {topic}-0\tlow_watermark: 3$", said)
        expect(rf"^partition: {topic}-1\tlow_watermark: {latest[1]}$", said)
        equal({0: "3", 1: latest[1]}, ask("--time", "earliest"))
        wanted.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": 1000}]}))
        expect(r"OffsetOutOfRangeException|out of range", tool(TOOLS + "DeleteRecordsCommand", "--offset-json-file", str(wanted)) + tool.said.text)
    with claim("kafka-log-dirs shows the partitions and their size"):
        said = json.loads(tool(TOOLS + "LogDirsCommand", "--describe", "--topic-list", topic).splitlines()[-1])
        found = {one["partition"]: one["size"] for broker in said["brokers"] for folder in broker["logDirs"] for one in folder["partitions"]}
        equal({f"{topic}-0", f"{topic}-1"}, set(found))
        assert found[f"{topic}-0"] > 100 and all(folder["error"] is None for broker in said["brokers"] for folder in broker["logDirs"]), said
    with claim("kafka-transactions describes an idempotent producer"):
        rows = columns(tool(TOOLS + "TransactionsCommand", "describe-producers", "--topic", topic, "--partition", "0"), "ProducerId")
        equal(1, len(rows))
        equal(["0", str(int(latest[0]) - 1), "None"], [rows[0][1], rows[0][3], rows[0][5]])


VERSIONS = """Produce(0) 0 13, Fetch(1) 4 18, ListOffsets(2) 1 11, Metadata(3) 0 13, OffsetCommit(8) 2 10, OffsetFetch(9) 1 10, FindCoordinator(10) 0 6,
JoinGroup(11) 0 9, Heartbeat(12) 0 4, LeaveGroup(13) 0 5, SyncGroup(14) 0 5, DescribeGroups(15) 0 6, ListGroups(16) 0 5, ApiVersions(18) 0 4,
CreateTopics(19) 2 7, DeleteTopics(20) 1 6, DeleteRecords(21) 0 2, InitProducerId(22) 0 5, OffsetForLeaderEpoch(23) 2 4, DescribeConfigs(32) 1 4,
AlterConfigs(33) 0 2, DescribeLogDirs(35) 1 5, CreatePartitions(37) 0 3, DeleteGroups(42) 0 2, IncrementalAlterConfigs(44) 0 1, OffsetDelete(47) 0 0,
DescribeQuorum(55) 0 2, DescribeCluster(60) 0 2, DescribeProducers(61) 0 0, ListConfigResources(74) 0 1, DescribeTopicPartitions(75) 0 0"""


def cluster():
    with claim("kafka-broker-api-versions shows Kafka's ranges for the APIs served"):
        said = tool(TOOLS + "BrokerApiVersionsCommand")
        wrong = []
        for api in VERSIONS.split(","):
            key, low, high = api.split()
            span = f"{low} to {high}" if low != high else low
            if f"{key}: {span} [usable: {high}]" not in said:
                found = re.search(re.escape(key) + ".*", said)
                wrong.append(f"{key} {span}, got {found.group(0) if found else 'nothing'}")
        assert not wrong, "; ".join(wrong)
    with claim("kafka-metadata-quorum describes a leader among the voters"):
        said = tool(TOOLS + "MetadataQuorumCommand", "describe", "--status")
        leader = expect(r"^LeaderId: +(\d+)$", said).group(1)
        expect(r"^ClusterId: +\S+$", said)
        expect(r"^LeaderEpoch: +\d+$", said)
        expect(r"^HighWatermark: +\d+$", said)
        expect(rf'^CurrentVoters: +\[\{{"id": {leader}\b', said)
    with claim("kafka-features describes finalized features"):
        said = tool(TOOLS + "FeatureCommand", "describe")
        expect(r"^Feature: metadata\.version\s+SupportedMinVersion: \S+\s+SupportedMaxVersion: \S+\s+FinalizedVersionLevel: 4\.\d-IV\d\s+Epoch: \d+", said)
    with claim("kafka-cluster tells the cluster id"):
        expect(r"^Cluster ID: \S+$", tool(TOOLS + "ClusterTool cluster-id"))
    with claim("kafka-client-metrics lists nothing without complaint"):
        equal("", tool(TOOLS + "ClientMetricsCommand", "--list").strip())


def performance():
    topic = create("performance", 3)
    with claim("kafka-producer-perf-test sends everything"):
        said = tool(TOOLS + "ProducerPerformance", "--topic", topic, "--num-records", "200000", "--record-size", "200", "--throughput", "-1", "--command-property", "compression.type=lz4",
                    "--command-property", "acks=all")
        expect(r"^200000 records sent, [\d.]+ records/sec", said)
        equal(200000, sum(int(line.rsplit(":", 1)[1]) for line in tool(TOOLS + "GetOffsetShell", "--topic", topic).split()))
    with claim("kafka-consumer-perf-test reads everything"):
        said = tool(TOOLS + "ConsumerPerformance", "--topic", topic, "--num-records", "200000", "--timeout", "30000")
        row = said.splitlines()[-1].split(", ")
        equal("200000", row[4])
        assert 38 < float(row[2]) < 39, row


def restart():
    text = "what the tools wrote is there after a kill -9, and a group goes on where it was"
    if not CONTROL:
        report("skip", text)
        return
    topic, group = create("restart", 1, "--config", "retention.ms=99999999"), name("restart")
    with claim(text):
        tool(TOOLS + "ConsoleProducer", "--topic", topic, "--sync", lines=[f"line {i}" for i in range(10)])
        read = (CONSUMER, "--topic", topic, "--group", group, "--from-beginning", "--timeout-ms", "20000")
        equal([f"line {i}" for i in range(6)], tool(*read, "--max-messages", "6").splitlines())
        description = tool(TOOLS + "TopicCommand", "--describe", "--topic", topic)
        for verb in ("kill", "start"):
            subprocess.run(f"{CONTROL} {verb}", shell=True, check=True)
        equal(description, tool(TOOLS + "TopicCommand", "--describe", "--topic", topic))
        equal([f"line {i}" for i in range(6, 10)], tool(*read, "--max-messages", "4").splitlines())


def main():
    if not ARCHIVE.exists():
        tool(TOOLS + "ConsoleProducer", "--topic", create("archive", 1), archive=[f"-XX:ArchiveClassesAtExit={ARCHIVE}"])
    scenes = (groups, configs, topics, offsets, console, internals, cluster, performance)
    with ThreadPoolExecutor(3) as pool:
        running = [(scene, pool.submit(scene)) for scene in scenes]
    for scene, done in [*running, (restart, None)]:
        try:
            done.result() if done else scene()
        except Exception as problem:  # a scene's own preparation went wrong
            failed.set()
            report("FAIL", f"the scene {scene.__name__} can be prepared", f"{type(problem).__name__}: {problem}")
    SHARED.process.kill()
    sys.exit(1 if failed.is_set() else 0)


SHARED = SharedJvm()
if __name__ == "__main__":
    main()
