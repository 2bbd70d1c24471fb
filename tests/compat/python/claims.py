"""What every Python client must do, told once; a client translates its own library to the few words of `Client`.

What lives here: claims, checks, waiting and the restart control. How each client does it lives in NAME_suite.py.
"""
import os, random, subprocess, sys, threading, time, traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, TimeoutError as TooLate
from dataclasses import dataclass, field, replace

BOOTSTRAP = os.environ["CHRONIK_COMPAT_BOOTSTRAP"]
CA = os.environ.get("CHRONIK_COMPAT_CA")  # where the broker speaks TLS
CONTROL = os.environ.get("CHRONIK_COMPAT_CONTROL")
RUN = f"{time.time_ns() // 1_000_000:x}"
CLAIM_SECONDS_MAX = 150
PATIENCE = 60
CLAIMS_AT_ONCE = 3
HERE = os.path.dirname(os.path.abspath(__file__))
BASE_TIME = int(time.time() - 3600) * 1000  # past, but within every retention time that a topic here has


@dataclass
class Record:
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list = field(default_factory=list)
    time: int = BASE_TIME
    offset: int = -1


class Client:
    """One library. What it cannot say at all is a trait, so that no claim asks for more."""
    name: str
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    null_headers = True  # a header value may be null, not only empty
    null_both = True     # key and value of one record may both be null
    append_time = True   # the time that a broker stamped on a batch is seen
    once = True          # the producer is idempotent; a calm rebalance repeats nothing

    def create_topic(self, topic, partitions, configs): ...
    def produce(self, topic, codec, records): """Sends all with acks=all, each to its partition; returns them with their offsets."""
    def read(self, topic, partition, start, end): """The records of a partition in [start, end)."""
    def ends(self, topic, partition): ...
    def offset_at(self, topic, partition, millis): """The first offset at or after a time; None where there is none."""
    def join(self, topic, group, got): """A member with owned() and close() that hands over what it reads, then commits it."""
    def stream(self, topic): """A producer with send(record, acked) and close() that goes on through a restart of the broker."""
    def own_claims(self): return []


def check(holds, otherwise):
    if not holds:
        raise AssertionError(otherwise)


def same(expected, got, what):
    check(expected == got, f"{what}: expected {expected!r:.300}, got {got!r:.300}")


def refused(kind, action):
    """The action must fail; what it fails with has `kind` in its words."""
    try:
        got = action()
    except Exception as problem:
        check(kind in f"{type(problem).__name__} {problem}", f"expected {kind}, got {type(problem).__name__}: {problem}")
    else:
        raise AssertionError(f"expected {kind}, got {got}")


def eventually(what, ask, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not (answer := ask()):
        check(time.monotonic() < end, f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.02)
    return answer


def control(verb):
    done = subprocess.run(f"{CONTROL} {verb}", shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    check(done.returncode == 0, f"the broker could not be controlled: {verb}: {done.stdout}")


def name(client, hint):
    return f"compat-{client.name}-{hint}-{RUN}"


def new_topic(client, hint, partitions, configs=None):
    topic = name(client, hint)
    client.create_topic(topic, partitions, configs or {})

    def usable():
        try:
            return [client.ends(topic, p) for p in range(partitions)]
        except Exception:
            return None
    eventually(f"{topic} is usable", usable)
    return topic


def samples(client, partitions, count):
    """Records in every shape the library can say."""
    chance = random.Random(count)
    made = []
    for i in range(count):
        key = (None, b"", f"key-{i}".encode())[i % 3]
        value = (None, b"", chance.randbytes(1 + i % 700), *[f"value {i} äöü ".encode() * (1 + i % 40)] * 2)[i % 5]
        if key is value is None and not client.null_both:
            key = b"key of a null"
        headers = ([], [("null", None if client.null_headers else b"-"), ("empty", b"")],
                   [("same", b"1"), ("same", b"2"), ("noise", chance.randbytes(30))], [("schlüssel", str(i).encode())])[i % 4]
        made.append(Record(i % partitions, key, value, headers, BASE_TIME + i * 1000))
    for i, value in enumerate((b"", bytes(1_000_000), chance.randbytes(1_000_000))):
        made.append(Record(0, b"large", value, [], BASE_TIME + (count + i) * 1000))
    return made


def compare_all(client, topic, partitions, sent):
    """Every partition read to its end; the records must be those sent, each at the place acknowledged."""
    for p in range(partitions):
        expected = [r for r in sent if r.partition == p]
        same((0, len(expected)), client.ends(topic, p), f"ends of partition {p}")
        got = client.read(topic, p, 0, len(expected))
        same(len(expected), len(got), "records read")
        for one, other in zip(expected, got):
            same(one, other, f"record at {p}@{one.offset}")


def shapes(client, codec):
    topic = new_topic(client, f"shapes-{codec}", 3)
    compare_all(client, topic, 3, client.produce(topic, codec, samples(client, 3, 300)))


def by_time(client):
    topic = new_topic(client, "times", 2)
    sent = client.produce(topic, "none", samples(client, 1, 60))
    for millis, expected in {-5: 0, 0: 0, 1: 1, 42_000: 42, 42_001: 43, 59_000: 59}.items():
        offset = client.offset_at(topic, 0, BASE_TIME + millis)
        same(expected, offset, f"offset at {millis} ms")
        same(sent[expected], client.read(topic, 0, offset, offset + 1)[0], "record found by time")
    same(None, client.offset_at(topic, 0, BASE_TIME + 10_000_000), "offset after the last record")
    same(None, client.offset_at(topic, 1, BASE_TIME), "offset in an empty partition")


def seek(client):
    topic = new_topic(client, "seek", 1)
    sent = client.produce(topic, "none", samples(client, 1, 200))
    for start in (150, 3, 199, 0):
        same(sent[start:], client.read(topic, 0, start, len(sent)), f"records from {start}")


def append_time(client):
    topic = new_topic(client, "append-time", 1, {"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    sent = client.produce(topic, "none", samples(client, 1, 20))
    for got in client.read(topic, 0, 0, len(sent)):
        check(before <= got.time <= time.time() * 1000, f"timestamp {got.time} at {got.offset}")


class Seen:
    """What the members of one group were given."""

    def __init__(self):
        self.lock, self.counts = threading.Lock(), Counter()

    def got(self, record):
        with self.lock:
            self.counts[record.partition, record.offset, record.value] += 1

    def __len__(self):
        with self.lock:
            return len(self.counts)


def settled(partitions, *members):
    def shared():
        owned = [sorted(member.owned()) for member in members]
        return all(owned) and sorted(sum(owned, [])) == list(range(partitions))
    eventually(lambda: f"{len(members)} members share {partitions} partitions: {[member.owned() for member in members]}", shared)


def come_and_go(client):
    partitions = 6
    topic = new_topic(client, "group", partitions)
    seen, stop, sent, problems = Seen(), threading.Event(), [], []

    def load():
        stream = client.stream(topic)
        i = 0
        while not stop.is_set():
            record = Record(i % partitions, None, f"v{i}".encode())

            def acked(offset, problem, record=record):
                problems.append(problem) if problem else sent.append(replace(record, offset=offset))
            stream.send(record, acked)
            i += 1
            time.sleep(0.002)
        stream.close()
    loader = threading.Thread(target=load, daemon=True)
    loader.start()
    members = []
    try:
        for count in (1, 2, 3):
            members.append(client.join(topic, topic, seen.got))
            settled(partitions, *members)
        members.pop(0).close()
        settled(partitions, *members)
        members.pop().close()
        settled(partitions, *members)
    finally:
        stop.set()
        loader.join(PATIENCE)
        try:
            eventually(lambda: f"all {len(sent)} records are seen, not {len(seen)}", lambda: len(seen) >= len(sent) > 0)
        finally:
            for member in members:
                member.close()
    check(not problems, f"a record was refused: {problems[:1]}")
    for record in sent:
        count = seen.counts[record.partition, record.offset, record.value]
        check(count == 1 or count > 1 and not client.once, f"seen {count} times: {record}")
    same(len(sent), len(seen), "places seen")


def goes_on(client):
    topic = new_topic(client, "goes-on", 1)
    for count in (30, 7):
        sent = client.produce(topic, "none", samples(client, 1, count))
        got = []
        member = client.join(topic, topic, got.append)
        eventually(lambda: f"{len(sent)} records are seen, not {len(got)}", lambda: len(got) >= len(sent))
        member.close()
        same(sent, got, "records of the group")


def restarted():
    control("kill")
    control("start")


def replaced():
    control("replace")


def replaced_alive():
    control("promote")
    control("fenced")


def under_load(client, hint, prepare, change):
    """A producer and a group work before, during and after a change; returns the longest time without an acknowledgement."""
    partitions, half = 3, 1500
    topic = new_topic(client, hint, partitions)
    seen, stop, acked, problems, total, gap, last = Seen(), threading.Event(), {}, [], [0], [0.0], [None]
    member = client.join(topic, topic, seen.got)
    prepare()

    def load():
        stream = client.stream(topic)
        while not stop.is_set():
            record = Record(total[0] % partitions, None, f"v{total[0]}".encode())

            def done(offset, problem, value=record.value):
                if problem:
                    problems.append(problem)
                else:
                    acked[value] = offset
                    now = time.monotonic()
                    gap[0], last[0] = max(gap[0], now - (last[0] or now)), now
            stream.send(record, done)
            total[0] += 1
            if total[0] % 10 == 0:
                time.sleep(0.002)
        stream.close()
    loader = threading.Thread(target=load, daemon=True)
    loader.start()
    eventually("the first acknowledgements", lambda: len(acked) >= half)
    change()
    before = len(acked)
    eventually(lambda: f"acknowledgements after the change ({len(acked) - before})", lambda: len(acked) >= before + half)
    stop.set()
    loader.join(PATIENCE)
    check(not loader.is_alive(), "the producer does not end")
    check(not problems, f"a record was refused: {problems[:1]}")
    same(total[0], len(acked), "records acknowledged")
    records = 0
    for p in range(partitions):
        end = eventually("the end is told after the change", lambda: client.ends(topic, p))[1]
        places, following = {}, p
        for record in client.read(topic, p, 0, end):
            records += 1
            again = record.value in places
            check(not again or not client.once, f"{record.value} is there twice: at {places.get(record.value)} and {record.offset} of {p}")
            if not again:
                same(f"v{following}".encode(), record.value, f"value at {p}@{record.offset}")
                following += partitions
            places[record.value] = record.offset
            if acked.get(record.value) == record.offset:
                del acked[record.value]
    check(not acked, f"{len(acked)} acknowledged records of {total[0]} are not at their place")
    eventually(lambda: f"the group sees all {records} records, not {len(seen)}", lambda: len(seen) == records)
    member.close()
    return gap[0]


def run_claims(client, claims, at_once):
    failed = False
    pool = ThreadPoolExecutor(at_once)
    running = [(text, pool.submit(body)) for text, body in claims]
    for text, done in running:
        try:
            done.result(CLAIM_SECONDS_MAX)
            print(f"ok {client.name}: {text}", flush=True)
        except TooLate:
            failed = True
            print(f"FAIL {client.name}: {text}\n  not decided within {CLAIM_SECONDS_MAX} s", flush=True)
        except Exception as problem:
            failed = True
            lines = [f"{type(problem).__name__}: {problem}"[:800]]
            lines += [f"  at {frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in traceback.extract_tb(problem.__traceback__) if frame.filename.startswith(HERE)]
            print(f"FAIL {client.name}: {text}\n  " + "\n  ".join(line.replace("\n", "\n  ") for line in lines), flush=True)
    pool.shutdown(wait=False)
    return failed


def pair(client, scene):
    """A leader and its follower; the scene says what becomes of the leader."""
    how, change = {"kill": ("died", replaced), "live": ("runs", replaced_alive)}[scene]
    gap = []
    text = f"what was acknowledged is read{' once, in order' if client.once else ''}, and a group goes on where a follower replaces a leader that {how}"
    failed = run_claims(client, [(text, lambda: gap.append(under_load(client, "promotion", lambda: control("synced"), change)))], 1)
    if gap:
        print(f"  the longest time without an acknowledgement was {gap[0] * 1000:.0f} ms")
    return failed


def main(client):
    if sys.argv[1:]:
        failed = pair(client, sys.argv[1])
        sys.stdout.flush()
        os._exit(1 if failed else 0)
    claims = [(f"records of every shape, empty to 1 MB, come back equal through {codec}", lambda codec=codec: shapes(client, codec)) for codec in client.codecs]
    if client.append_time:
        claims.append(("LogAppendTime stamps are the broker's", lambda: append_time(client)))
    claims += [("offsets are found by time, and reading starts there", lambda: by_time(client)),
               ("reading starts at any offset", lambda: seek(client)),
               ("members that come and go under load share the partitions and miss nothing", lambda: come_and_go(client)),
               ("a group goes on where it committed", lambda: goes_on(client)),
               *client.own_claims()]
    text = f"what was acknowledged around a kill -9 is read{' once, in order' if client.once else ''}, and a group goes on"
    failed = run_claims(client, claims, CLAIMS_AT_ONCE)
    if not CONTROL:
        print(f"skip {client.name}: {text}", flush=True)
    else:
        failed |= run_claims(client, [(text, lambda: under_load(client, "restart", lambda: None, restarted))], 1)
    sys.stdout.flush()
    os._exit(1 if failed else 0)
