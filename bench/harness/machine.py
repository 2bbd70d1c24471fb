"""Facts of the machine that a number depends on. No names: neither of the host nor of anything on its network."""
import os
import platform
import re
import subprocess

from .kernel import CORES
from .side import blast


def first_line(command):
    try:
        p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
        return p.stdout.strip().splitlines()[0] if p.returncode == 0 and p.stdout.strip() else "unknown"
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


def cpu():
    try:
        with open("/proc/cpuinfo") as f:
            found = re.search(r"^model name\s*:\s*(.+)$", f.read(), re.M)
        return found.group(1).strip() if found else platform.machine()
    except OSError:
        return platform.machine()


def file_system(path):
    """Type of the file system that holds the path: the longest mount point above it."""
    best, kind = "", "unknown"
    path = os.path.realpath(path)
    with open("/proc/mounts") as f:
        for line in f:
            point, found = line.split()[1:3]
            point = point.replace("\\040", " ")
            if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                best, kind = point, found
    return kind


def limits(data):
    """What no broker can beat here: half a minute of measuring, and 2 GB on the disk."""
    m = blast("machine", "-dir", data)
    both = lambda h: f"{h['p50_us'] / 1000:.2f} ms, p99 {h['p99_us'] / 1000:.2f} ms"
    return {
        "write of 4 KiB with fdatasync": both(m["fdatasync_append_4k"]),
        "disk, sequential": f"{m['write_seq_synced_mb_s']:.0f} MB/s written and synced",
        "loopback": f"{m['loopback_256k_mb_s']:.0f} MB/s, round trip {both(m['loopback_rtt'])}",
        "page cache to socket": f"{m['sendfile_loopback_mb_s']:.0f} MB/s",
    }


def facts(data, chronik):
    """Name and value of each fact, in the order in which they are shown. `chronik` is the binary."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    java = first_line(["java", "-version"])
    return {
        "CPU": cpu(),
        "cores": str(CORES),
        "memory": f"{memory / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system of the data": file_system(data),
        "Java": re.sub(r"\s+", " ", java.replace('"', "")),
        "Go (load generator)": first_line(["go", "version"]).replace("go version ", ""),
        "Chronik": first_line([chronik, "--version"]),
        "Apache Kafka": os.environ.get("KAFKA_VERSION", "4.3.1") + ", heap " + os.environ.get("KAFKA_HEAP", "1g"),
    }
