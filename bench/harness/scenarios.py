"""What is measured. Each scenario takes a side and returns {metric: (value, unit, "<" lower is better | ">" | "-")}."""
import json
import os
import signal
import subprocess
import time

from .kernel import Failed, Sample, gone, rss, run, session, started_at
from .options import OPT
from .side import BENCH, BLAST, clean, lat, measured

SCENARIOS = {}


def scenario(name, about, fresh=False, nodes=1, durability="default", tls=False, **more):
    """Adds a scenario. Unless it starts brokers itself (fresh), it finds a warm one in these circumstances."""
    def wrap(fn):
        def warm(s):
            if not fresh:
                s.ensure(nodes, durability, tls)
            return fn(s)
        SCENARIOS[name] = (warm, about, dict(more, fresh=fresh, circumstances=(fresh, nodes, tls, durability)))
        return fn
    return wrap


def size(gb):
    return int(gb * 1e9 * OPT.scale)


def produce(s, gb, partitions=6, rf=1, verify=True, **flags):
    t = s.topic(partitions, rf)
    args = ["-topic", t, "-bytes", size(gb)]
    for k, v in flags.items():
        args += ["-" + k.replace("_", "-"), v]
    r, m = measured(s, lambda: clean(s.blast("produce", *args), "produce"))
    if verify and not s.cache.get(("verified", tuple(args[2:]))):
        back = clean(s.blast("fetch", "-topic", t, "-verify"), "read back")
        if back["records"] != r["records"]:
            raise Failed(f"{r['records']} records acknowledged, {back['records']} read back")
        s.cache[("verified", tuple(args[2:]))] = True
    s.drop(t)
    return {"throughput": (r["mb_s"], "MB/s", ">"), "records": (r["records_s"] / 1000, "k/s", ">"), **lat("ack", r["latency"]), **m}


@scenario("produce-small", "100 B records in 16 KB batches, acks=1, closed loop")
def produce_small(s):
    return produce(s, 0.5, record=100, batch=16384, conns=2, inflight=5)


@scenario("produce-1k", "1 KiB records in 64 KB batches, acks=1, closed loop")
def produce_1k(s):
    return produce(s, 1, record=1024, batch=65536, conns=2, inflight=5)


@scenario("produce-1k-1m", "1 KiB records in 1 MB batches, acks=1, closed loop")
def produce_1k_1m(s):
    return produce(s, 2, record=1024, batch=1000000, conns=2, inflight=5)


@scenario("produce-paced", "1 KiB records in 16 KB batches at 20 MB/s, acks=1, open loop: latency away from saturation")
def produce_paced(s):
    return produce(s, 0.1, record=1024, batch=16384, conns=2, inflight=5, rate=20000)


@scenario("produce-all-fsync", "1 KiB records in 16 KB batches, acks=all, on the disk before the ack; 8 connections", durability="sync")
def produce_fsync(s):
    return produce(s, 0.25, record=1024, batch=16384, conns=8, inflight=1, acks=-1)


@scenario("produce-shipped", "as each is shipped: 1 KiB records in 16 KB batches, acks=all, 8 connections; Chronik syncs before the ack, Kafka does not", durability="shipped")
def produce_shipped(s):
    return produce(s, 0.5, record=1024, batch=16384, conns=8, inflight=1, acks=-1)


@scenario("compressed-lz4", "1 KiB records in 64 KB batches (before lz4), acks=1, closed loop")
def compressed_lz4(s):
    return produce(s, 1, record=1024, batch=65536, conns=2, inflight=5, codec="lz4")


@scenario("compressed-zstd", "1 KiB records in 64 KB batches (before zstd), acks=1, closed loop")
def compressed_zstd(s):
    return produce(s, 1, record=1024, batch=65536, conns=2, inflight=5, codec="zstd")


def filled(s, gb, partitions=4):
    def make():
        t = s.topic(partitions)
        clean(s.blast("produce", "-topic", t, "-bytes", size(gb), "-record", 1024, "-batch", 65536), "fill")
        clean(s.blast("fetch", "-topic", t, "-verify"), "read back")
        return t
    return s.once(("filled", gb, partitions), make)


def drain(s, gb, **flags):
    t = filled(s, gb)
    args = ["-topic", t] + [x for k, v in flags.items() for x in ("-" + k, v)]
    r, m = measured(s, lambda: clean(s.blast("fetch", *args), "fetch"))
    if r["records"] != r["expected_records"]:
        raise Failed(f"{r['records']} of {r['expected_records']} records read")
    if s.tls and r["cipher"] != "TLS_AES_128_GCM_SHA256":
        raise Failed(f"encrypted with {r['cipher']}: the other side uses another suite")
    return {"throughput": (r["mb_s"], "MB/s", ">"), "records": (r["records_s"] / 1000, "k/s", ">"), **lat("fetch", r["fetch_latency"], "p50", "p99"), **m}


@scenario("consume-catchup", "one consumer reads 2 GB from offset 0, all in the page cache")
def consume_catchup(s):
    return drain(s, 2)


@scenario("consume-fanout", "five consumers read the same 2 GB at once from offset 0")
def consume_fanout(s):
    return drain(s, 2, consumers=5)


@scenario("tls-consume-catchup", "one consumer reads 1 GB from offset 0 over TLS 1.3 with AES-128-GCM", tls=True)
def tls_consume_catchup(s):
    return drain(s, 1)


@scenario("tls-consume-fanout", "five consumers read the same 1 GB at once over TLS 1.3 with AES-128-GCM", tls=True)
def tls_consume_fanout(s):
    return drain(s, 1, consumers=5)


def e2e(s, partitions=3, rf=1, catch=None, **flags):
    t = s.topic(partitions, rf)
    args = ["-topic", t, "-seconds", 8 * OPT.scale] + [x for k, v in flags.items() for x in ("-" + k.replace("_", "-"), v)]
    if catch:
        args += ["-catchup", catch]
    r, m = measured(s, lambda: clean(s.blast("e2e", *args), "e2e"))
    if r["received"] != r["sent"] * int(flags.get("consumers", 1)) or r["acked"] != r["sent"]:
        raise Failed(f"sent {r['sent']}, acknowledged {r['acked']}, received {r['received']}")
    s.drop(t)
    out = {**lat("e2e", r["e2e_latency"]), **lat("ack", r["ack_latency"], "p50", "p99"), "rate held": (r["achieved_records_s"] / flags["rate"] * 100, "%", ">")}
    if catch:
        out["catch-up"] = (r["catchup"]["mb_s"], "MB/s", ">")
    return {**out, **m}


@scenario("e2e-latency-5k", "5 000 records/s of 100 B, linger 0, one tailing consumer")
def e2e_5k(s):
    return e2e(s, rate=5000, record=100)


@scenario("e2e-latency-50k", "50 000 records/s of 100 B, linger 0, one tailing consumer")
def e2e_50k(s):
    return e2e(s, rate=50000, record=100)


@scenario("tail-fanout", "20 000 records/s of 1 KiB, five tailing consumers")
def tail_fanout(s):
    return e2e(s, rate=20000, record=1024, consumers=5)


@scenario("mixed", "20 000 records/s of 200 B with two tailing consumers, while a third drains old data")
def mixed(s):
    return e2e(s, catch=filled(s, 2), rate=20000, record=200, consumers=2)


def partitions(s, n, acks=1, first=8, gb=0.1):
    t = s.topic(n)
    made = s.created["ready_s"]
    fds = len(os.listdir(f"/proc/{s.pids[0]}/fd"))
    args = ["-topic", t, "-record", 100, "-batch", 1024, "-parts-per-request", 50, "-acks", acks]
    # Kafka pays once for a partition's first index entry, after 4 KB: that belongs to the first pass, not to the steady state.
    one = clean(s.blast("produce", *args, "-bytes", n * 800 * first, "-conns", 1), "produce")
    r, m = measured(s, lambda: clean(s.blast("produce", *args, "-bytes", size(gb), "-conns", 2), "produce"))
    f = clean(s.blast("fetch", "-topic", t, "-verify"), "read back")
    if f["records"] != r["records"] + one["records"]:
        raise Failed(f"{r['records'] + one['records']} records acknowledged, {f['records']} read back")
    s.drop(t)
    return {"create": (made, "s", "<"), "first batches in each": (one["seconds"], "s", "<"), "throughput": (r["mb_s"], "MB/s", ">"),
            "records": (r["records_s"] / 1000, "k/s", ">"), **lat("ack", r["latency"]), "drain": (f["records_s"] / 1000, "k/s", ">"),
            "open files": (fds, "", "<"), **m}


@scenario("many-partitions", "1 000 partitions, batches of 1 KB, 50 partitions to a request, acks=1")
def many_partitions(s):
    return partitions(s, 1000)


@scenario("many-partitions-10k", "10 000 partitions, the same load", rounds=3)
def many_partitions_10k(s):
    return partitions(s, 10000)


@scenario("many-partitions-fsync", "1 000 partitions, batches of 1 KB, 50 partitions to a request, acks=all, on the disk before the ack", durability="sync")
def many_partitions_fsync(s):
    return partitions(s, 1000, acks=-1, first=1, gb=0.02)


@scenario("idle-consumers", "1 000 partitions without traffic and 100 consumers that wait for records, 10 partitions each (fetch.max.wait.ms=500)")
def idle_consumers(s):
    t = s.topic(1000)
    tail = lambda seconds: clean(s.blast("fetch", "-topic", t, "-tail", "-conns", 100, "-seconds", seconds), "tail")
    tail(2)
    a, t0 = Sample(s.pids), time.time()
    r = tail(max(3, 10 * OPT.scale))
    b = Sample(s.pids)
    held = rss(s.pids)
    s.drop(t)
    return {"idle CPU": ((b.cpu - a.cpu) / (b.at - t0) * 100, "% of a core", "<"), "RSS": (held, "MiB", "<"),
            "answers": (r["fetches"] / r["seconds"], "/s", "-"), "client CPU": (r["client_cpu_s"] / r["seconds"], "cores", "-")}


@scenario("growth", "1 to 1 000 partitions written by 1 to 1 000 producers: 1 KiB records in 16 KB batches, acks=1, one request each in flight", rounds=3)
def growth(s):
    out, peak = {}, 0.0
    for p in (1, 10, 100, 1000):
        t = s.topic(p)
        # What Kafka pays once for each partition is many-partitions' to tell, not this one's.
        clean(s.blast("produce", "-topic", t, "-bytes", p * 16384 * 3, "-record", 1024, "-batch", 16384, "-conns", 2), "first batches")
        for producers in (1, 10, 100, 1000):
            # A producer of many keeps to a share of the partitions, as a client with sticky batches does.
            args = ["-topic", t, "-seconds", max(0.5, 2 * OPT.scale), "-record", 1024, "-batch", 16384, "-conns", producers, "-inflight", 1,
                    "-parts-per-conn", max(10, p // producers)]
            r, m = measured(s, lambda: clean(s.blast("produce", *args), "produce"))
            cell = f"{p} x {producers}"
            out[f"{cell}: throughput"] = (r["mb_s"], "MB/s", ">")
            out[f"{cell}: ack p99"] = lat("", r["latency"], "p99")[" p99"]
            out[f"{cell}: CPU per GB"] = m["CPU per GB"]
            peak = max(peak, m["peak RSS"][0])
        s.drop(t)
    return {**out, "peak RSS": (peak, "MiB", "<")}


@scenario("idle-connections", "10 000 connections that answered once and then stand, on a broker just started", fresh=True)
def idle_connections(s):
    s.down()
    s.prepare()
    s.start()
    s.answer()
    s.drop(s.topic())
    time.sleep(1)
    n = 10000
    before = rss(s.pids)
    p = subprocess.Popen([BLAST, "idle", "-addr", s.nodes[0][1], "-conns", str(n)], preexec_fn=session, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
    try:
        held = json.loads(p.stdout.readline() or "{}")
        if not held:
            raise Failed("the connections were not all accepted")
        # What is given back when a connection falls quiet is not what it costs to stand there.
        time.sleep(3)
        a = Sample(s.pids)
        time.sleep(3)
        b = Sample(s.pids)
        after = rss(s.pids)
        out, _ = p.communicate("\n", timeout=60)
    finally:
        p.kill()
    s.down()
    r = json.loads(out)
    if r["dead"]:
        raise Failed(f"{r['dead']} connections of the sample were dead")
    return {"connects": (r["connects_s"] / 1000, "k/s", ">"), "RSS before": (before, "MiB", "<"), "RSS held": (after, "MiB", "<"),
            "RSS per connection": (max(0, after - before) * 1024 / n, "KiB", "<"), "idle CPU": ((b.cpu - a.cpu) / (b.at - a.at) * 100, "% of a core", "<"),
            "answer p99": (r["answer"]["p99_us"] / 1000, "ms", "<")}


def up_timed(s, topic=None):
    s.start()
    t0 = min(started_at(p) for p in s.pids)
    args = ["-timeout", "200s"] + (["-serve", "-topic", topic] if topic else [])
    return t0, s.blast("wait", *args, timeout=210, addr=s.nodes[0][1])


@scenario("startup", "first start, stop after 100 MB written, second start", fresh=True)
def startup(s):
    s.down()
    s.prepare()
    t0, w = up_timed(s)
    first = w["api_versions_ns"] / 1e9 - t0
    t = s.topic(6)
    serving = time.time() - t0
    cpu = Sample(s.pids).cpu
    time.sleep(1)
    small = rss(s.pids)
    clean(s.blast("produce", "-topic", t, "-bytes", int(1e8), "-record", 1024, "-batch", 65536), "produce")
    stop = s.signal(signal.SIGTERM)
    t0, w = up_timed(s, t)
    out = {"first answer": (first * 1000, "ms", "<"), "first topic": (serving * 1000, "ms", "<"), "CPU to first topic": (cpu, "s", "<"), "RSS at rest": (small, "MiB", "<"),
           "SIGTERM to exit": (stop * 1000, "ms", "<"), "restart: first answer": ((w["api_versions_ns"] / 1e9 - t0) * 1000, "ms", "<"),
           "restart: read and write": ((w["writable_ns"] / 1e9 - t0) * 1000, "ms", "<")}
    s.down()
    return out


def killed(s, gb):
    """Fills a broker just started with so much, kills it and starts it again."""
    s.down()
    s.prepare()
    up_timed(s)
    t = s.topic(12)
    r = clean(s.blast("produce", "-topic", t, "-bytes", size(gb), "-record", 1024, "-batch", 65536, timeout=1800), "produce")
    s.signal(signal.SIGKILL)
    t0, w = up_timed(s, t)
    cpu, peak = Sample(s.pids).cpu, rss(s.pids, "VmHWM")
    f = clean(s.blast("fetch", "-topic", t, "-verify", timeout=1800), "read back")
    lost = max(0, r["records"] - f["records"])
    out = {"first answer": ((w["api_versions_ns"] / 1e9 - t0) * 1000, "ms", "<"), "read and write": ((w["writable_ns"] / 1e9 - t0) * 1000, "ms", "<"),
           "CPU": (cpu, "s", "<"), "peak RSS": (peak, "MiB", "<"), "records lost": (lost, "", "<")}
    s.down()
    return out


@scenario("recovery", "kill -9 with 3 GB in 12 partitions, then start", fresh=True)
def recovery(s):
    return killed(s, 3)


@scenario("recovery-curve", "kill -9 with 12 partitions of the sizes of --recovery-gb, all together, then start", fresh=True, rounds=3)
def recovery_curve(s):
    out = {}
    for gb in OPT.recovery_gb:
        for name, value in killed(s, gb).items():
            if name != "first answer":
                out[f"{gb:g} GB: {name}"] = value
    return out


@scenario("java-clients", "Kafka's own ProducerPerformance and ConsumerPerformance, 1 KiB records, defaults (acks=all, idempotent)")
def java_clients(s):
    t, n = s.topic(6), int(500000 * OPT.scale)
    tool = [os.path.join(BENCH, "kafka"), "tool"]

    def send():
        out = run(tool + ["org.apache.kafka.tools.ProducerPerformance", "--topic", t, "--num-records", str(n), "--record-size", "1024", "--throughput", "-1",
                          "--bootstrap-server", s.boot])
        last = [l for l in out.splitlines() if "99.9th" in l][-1].replace("(", "").replace(",", "").split()
        return {"bytes": n * 1024, "records": n, "rate": float(last[3]), "p50": float(last[last.index("50th") - 2]), "p99": float(last[last.index("99th") - 2])}

    r, m = measured(s, send)
    m = {k: v for k, v in m.items() if k not in ("client CPU", "foreign CPU")}

    def take():
        out = run(tool + ["org.apache.kafka.tools.ConsumerPerformance", "--topic", t, "--num-records", str(n), "--bootstrap-server", s.boot, "--timeout", "60000"])
        head, row = [l.split(",") for l in out.splitlines() if "," in l][-2:]
        row = dict(zip([h.strip() for h in head], row))
        return {"bytes": n * 1024, "got": int(row["data.consumed.in.nMsg"]), "fetch": float(row["fetch.nMsg.sec"]), "total": float(row["nMsg.sec"])}

    c, cm = measured(s, take)
    if c["got"] < n:
        raise Failed(f"{c['got']} of {n} records consumed")
    s.drop(t)
    return {"produce": (r["rate"] / 1000, "k/s", ">"), "send p50": (r["p50"], "ms", "<"), "send p99": (r["p99"], "ms", "<"),
            "consume": (c["total"] / 1000, "k/s", ">"), "consume, fetch only": (c["fetch"] / 1000, "k/s", ">"), "consume CPU per GB": cm["CPU per GB"], **m}


@scenario("replicated-pair", "2 nodes, 1 KiB records in 64 KB batches, acks=all, replication factor 2 (Chronik: one sync follower), closed loop", nodes=2)
def replicated_pair(s):
    return produce(s, 0.4, partitions=6, rf=2, record=1024, batch=65536, conns=2, inflight=5, acks=-1)


@scenario("replicated-pair-e2e", "2 nodes, 5 000 records/s of 100 B, acks=all, replication factor 2, linger 0", nodes=2)
def replicated_pair_e2e(s):
    return e2e(s, partitions=3, rf=2, rate=5000, record=100, acks=-1)


@scenario("replicated", "3 nodes, 1 KiB records in 64 KB batches, acks=all, replication factor 3, closed loop", nodes=3)
def replicated(s):
    return produce(s, 0.4, partitions=6, rf=3, record=1024, batch=65536, conns=2, inflight=5, acks=-1)


@scenario("replicated-e2e", "3 nodes, 5 000 records/s of 100 B, acks=all, replication factor 3, linger 0", nodes=3)
def replicated_e2e(s):
    return e2e(s, partitions=3, rf=3, rate=5000, record=100, acks=-1)


@scenario("replicated-fsync", "3 nodes, 1 KiB records in 16 KB batches, acks=all, replication factor 3, on the disks of leader and followers before the ack; 8 connections", nodes=3, durability="sync")
def replicated_fsync(s):
    return produce(s, 0.06, partitions=6, rf=3, record=1024, batch=16384, conns=8, inflight=1, acks=-1)


@scenario("failover", "3 nodes, acks=all, 1 000 records/s: kill -9 of the partition's leader", warmup=0, restarts=True, nodes=3)
def failover(s):
    return lose_leader(s, "KILL")


@scenario("failover-clean", "the same with SIGTERM: a leader that is asked to leave", warmup=0, restarts=True, nodes=3)
def failover_clean(s):
    return lose_leader(s, "TERM")


def lose_leader(s, sig):
    t = s.topic(1, 3, min_insync_replicas=2)
    r = s.blast("failover", "-topic", t, "-pids", ",".join(f"{n[0]}={n[2]}" for n in s.nodes), "-signal", sig, "-seconds", OPT.failover_s,
                "-rate", 1000)
    if r["lost"] or r["gaps"] or r["acked"] != r["total"]:
        raise Failed(f"{r['lost']} acknowledged records lost, {r['gaps']} gaps, {r['acked']} of {r['total']} acknowledged")
    end = time.time() + 60
    while time.time() < end and not any(gone(p) for p in s.pids):
        time.sleep(0.05)
    t0 = time.time()
    s.start()
    s.answer()
    back = time.time() - t0
    time.sleep(3)
    return {"longest gap between acks": (r["gap_ms"], "ms", "<"), "kill to next ack": (r["ack_after_kill_ms"], "ms", "<"), "kill to new leader": (r["new_leader_ms"], "ms", "<"),
            "was quorum leader": (int(r["killed_quorum_leader"]), "", "-"), "duplicates": (r["duplicates"], "", "<"), "killed node answers again": (back * 1000, "ms", "<")}
