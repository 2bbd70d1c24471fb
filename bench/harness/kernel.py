"""What the kernel says of a process tree, and how processes are started and weighed."""
import os
import subprocess
import time

from .options import OPT

TICK = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count()


class Failed(Exception):
    """A round without a number: an error came back, a record is missing, something did not start."""


def prefer(pid="self"):
    """Gives the process's scheduling group (its session, where autogroups are on) the priority asked for with --nice."""
    if OPT.nice:
        try:
            if pid == "self":
                os.setpriority(os.PRIO_PROCESS, 0, OPT.nice)
            with open(f"/proc/{pid}/autogroup", "w") as f:
                f.write(str(OPT.nice))
        except OSError:
            pass


def session():
    os.setsid()  # a scheduling group of its own, so that load and brokers weigh the same
    prefer()


def run(cmd, timeout=300, env=None, check=True):
    p = subprocess.run(cmd, preexec_fn=session, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=timeout, env=env)
    if check and p.returncode != 0:
        raise Failed(f"{' '.join(map(str, cmd))[:200]}: {p.stderr.strip()[-600:]}")
    return p.stdout


def stat(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()
    except OSError:
        return None


def gone(pid):
    s = stat(pid)
    return s is None or s[0] == "Z" and int(s[17]) <= 1  # the leader of a group may be a zombie while its threads still end


def tree(roots):
    kids = {}
    for d in os.listdir("/proc"):
        if d.isdigit() and (s := stat(d)):
            kids.setdefault(int(s[1]), []).append(int(d))
    out, todo = [], list(roots)
    while todo:
        p = todo.pop()
        out.append(p)
        todo += kids.get(p, [])
    return out


def field(pid, file, key):
    try:
        with open(f"/proc/{pid}/{file}") as f:
            for line in f:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def machine_busy():
    with open("/proc/stat") as f:
        v = list(map(int, f.readline().split()[1:9]))
    return (sum(v) - v[3] - v[4] - v[7]) / TICK, v[7] / TICK


class Sample:
    def __init__(self, roots):
        self.at = time.time()
        self.cpu = self.written = self.read = 0.0
        for p in tree(roots):
            if s := stat(p):
                self.cpu += sum(map(int, s[11:15])) / TICK  # with reaped children
            self.written += field(p, "io", "write_bytes")
            self.read += field(p, "io", "read_bytes")
        self.busy, self.steal = machine_busy()


def rss(roots, key="VmRSS"):
    return sum(field(p, "status", key) for p in tree(roots)) / 1024


def reset_peak(roots):
    for p in tree(roots):
        try:
            with open(f"/proc/{p}/clear_refs", "w") as f:
                f.write("5")
        except OSError:
            pass


def started_at(pid):
    s = stat(pid)
    if not s:
        raise Failed(f"process {pid} is gone")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - int(s[19]) / TICK)
