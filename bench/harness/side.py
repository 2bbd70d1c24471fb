"""One of two brokers: how it is started, loaded, stopped and asked; and the load generator."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from .kernel import CORES, Failed, Sample, gone, prefer, reset_peak, rss, run, session
from .options import OPT

BENCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILT = os.path.join(os.environ.get("CARGO_TARGET_DIR") or os.path.join(os.path.dirname(BENCH), "target"), "bench")
BLAST = os.path.join(BUILT, "blast")


def build_blast():
    os.makedirs(BUILT, exist_ok=True)
    if subprocess.run(["go", "build", "-p", "1", "-o", BLAST, "."], cwd=os.path.join(BENCH, "blast")).returncode:
        sys.exit("blast does not build")


def blast(mode, *args, timeout=300):
    return json.loads(run([BLAST, mode, *map(str, args)], timeout).splitlines()[-1])


class Side:
    def __init__(self, label, spec, addr, env, port, root):
        self.label, self.spec, self.addr, self.port, self.root = label, spec, addr, port, root
        self.env = dict(os.environ, **dict(e.split("=", 1) for e in env))
        self.driver = None
        if not addr:
            named = os.path.join(BENCH, spec)
            self.driver = named if os.path.isfile(named) else os.path.abspath(spec)
            if not os.access(self.driver, os.X_OK):
                sys.exit(f"{spec}: neither a driver beside this file nor an executable one (a plain command needs --{label}-addr)")
        self.conf, self.nodes, self.gen, self.topics, self.cache, self.proc = None, [], 0, 0, {}, None

    @property
    def dir(self):
        return os.path.join(self.root, f"{self.label}-{self.gen}")

    @property
    def pids(self):
        return [n[2] for n in self.nodes]

    @property
    def boot(self):
        return ",".join(n[1] for n in self.nodes)

    def environ(self):
        return dict(self.env, BENCH_DURABILITY=self.conf[1], BENCH_TLS=self.dir if self.tls else "")

    @property
    def tls(self):
        return self.conf[2]

    def blast(self, mode, *args, timeout=300, addr=None):
        """Runs blast against this side: all its nodes, or the address given."""
        where = ["-addr", addr or self.boot] + (["-tls"] if self.tls else [])
        return blast(mode, *where, *args, timeout=timeout)

    def prepare(self, nodes=1, durability="default", tls=False):
        self.conf, self.gen, self.cache = (nodes, durability, tls), self.gen + 1, {}
        os.makedirs(self.dir)
        if tls:
            blast("certificate", "-dir", self.dir)
        if self.driver:
            run([self.driver, "prepare", self.dir, str(self.port), str(nodes)], env=self.environ())
        elif nodes != 1:
            raise Failed("a plain command is one node; this scenario needs a driver")

    def start(self):
        """Starts whatever is not running; returns when the processes exist, not when they answer."""
        if self.driver:
            out = run([self.driver, "up", self.dir, str(self.port), str(self.conf[0])], env=self.environ())
            self.nodes = [(int(i), a, int(p)) for i, a, p in (l.split() for l in out.splitlines() if l.strip())]
        elif not self.proc or self.proc.poll() is not None:
            cmd = "exec " + self.spec.replace("{dir}", self.dir).replace("{port}", str(self.port))
            log = open(os.path.join(self.dir, "broker.log"), "a")
            self.proc = subprocess.Popen(cmd, shell=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=session,
                                         env=self.environ())
            self.nodes = [(1, self.addr.replace("{port}", str(self.port)), self.proc.pid)]
        for p in self.pids:
            prefer(p)
            if gone(p):
                raise Failed(f"process {p} ended at once, or the driver took a dead one for alive")

    def answer(self, timeout=90):
        for n in self.nodes:
            end = time.time() + timeout
            while True:
                try:
                    self.blast("wait", "-timeout", "3s", timeout=15, addr=n[1])
                    break
                except Failed as e:
                    if self.proc:
                        self.proc.poll()
                    if gone(n[2]):
                        raise Failed(f"the broker ended: {self.last_words(n[0])}") from None
                    if time.time() > end:
                        raise Failed(f"{e}; {self.last_words(n[0])}") from None

    def last_words(self, node):
        for log in (os.path.join(self.dir, f"node-{node}", "broker.log"), os.path.join(self.dir, "broker.log")):
            if os.path.exists(log):
                with open(log, errors="replace") as f:
                    return " ".join(f.read()[-800:].split())
        return "it left no log"

    def ensure(self, nodes=1, durability="default", tls=False):
        """A warm broker in these circumstances. Durability: like Kafka (default), on the disk before an acks=all answer
        (sync), or whatever each side ships with (shipped)."""
        if self.conf != (nodes, durability, tls) or not self.nodes or any(gone(p) for p in self.pids):
            self.down()
            self.prepare(nodes, durability, tls)
            self.start()
            self.answer()
            # Nobody judges a JVM that has not compiled its hot paths yet: load until it gets no faster. Both sides get the same.
            t = self.topic(6, nodes)
            t0, best, flat = time.time(), 0, 0
            while flat < 2 and time.time() - t0 < OPT.heat:
                r = self.blast("produce", "-topic", t, "-seconds", min(4, OPT.heat), "-record", 100, "-conns", 2, "-acks", 1 if nodes == 1 else -1)
                self.blast("fetch", "-topic", t, "-seconds", min(2, OPT.heat))
                flat = flat + 1 if r["mb_s"] < 1.05 * best else 0
                best = max(best, r["mb_s"])
            self.drop(t)

    def signal(self, sig, timeout=60):
        t0 = time.time()
        pids = [p for p in self.pids if not gone(p)]
        for p in pids:
            os.kill(p, sig)
        while any(not gone(p) for p in pids):
            if self.proc:
                self.proc.poll()
            if time.time() - t0 > timeout:
                for p in pids:
                    if not gone(p):
                        os.kill(p, signal.SIGKILL)
                raise Failed(f"still there {timeout} s after signal {sig}")
            time.sleep(0.002)
        return time.time() - t0

    def down(self):
        if self.nodes:
            if self.driver:
                run([self.driver, "down", self.dir], env=self.environ(), check=False)
            elif self.proc:
                try:
                    self.signal(signal.SIGTERM, 20)
                except Failed:
                    pass
        if self.gen:
            shutil.rmtree(self.dir, ignore_errors=True)
        self.conf, self.nodes, self.proc, self.cache = None, [], None, {}

    def topic(self, partitions=1, rf=1, **conf):
        self.topics += 1
        name = f"t{self.topics}"
        args = ["-topic", name, "-partitions", partitions, "-rf", rf]
        if conf:
            args += ["-config", ",".join(f"{k.replace('_', '.')}={v}" for k, v in conf.items())]
        end = time.time() + 60
        while True:
            try:
                self.created = self.blast("create", *args)
                return name
            except Failed as e:
                if "error code 38" not in str(e) or time.time() > end:  # not enough brokers yet
                    raise
                time.sleep(0.2)

    def drop(self, name):
        self.blast("delete", "-topic", name)

    def once(self, key, make):
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]


def measured(s, fn):
    """Runs fn and adds what the broker's processes used meanwhile. What was left to be written before, by either side, is written first:
    Apache Kafka keeps a deleted topic's files for a minute, so that they are written while the other side is measured."""
    os.sync()
    reset_peak(s.pids)
    a = Sample(s.pids)
    r = fn()
    b = Sample(s.pids)
    wall, cpu, mine = b.at - a.at, b.cpu - a.cpu, r.get("client_cpu_s", 0)
    m = {"broker CPU": (cpu / wall, "cores", "-"), "client CPU": (mine / wall, "cores", "-"),
         "foreign CPU": (max(0, (b.busy - a.busy) - cpu - mine) / wall / CORES * 100, "%", "-"),
         "peak RSS": (rss(s.pids, "VmHWM"), "MiB", "<"), "disk written": ((b.written - a.written) / 1e6, "MB", "<")}
    if r.get("bytes"):
        m["CPU per GB"] = (cpu / (r["bytes"] / 1e9), "s", "<")
    if r.get("records"):
        m["CPU per M records"] = (cpu / (r["records"] / 1e6), "s", "<")
    return r, m


def lat(name, h, *qs):
    return {f"{name} {q}": (h[k] / 1000, "ms", "<") for q, k in
            (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us"), ("max", "max_us")) if not qs or q in qs}


def clean(r, what):
    if r.get("errors") or r.get("gaps") or r.get("bad_crc"):
        raise Failed(f"{what}: {r.get('errors')} errors (code {r.get('last_error_code')}), {r.get('gaps')} gaps, {r.get('bad_crc')} bad CRCs")
    return r
