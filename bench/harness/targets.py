"""What is to be reached: per scenario, which figures count and how they must compare with Apache Kafka's.

A ratio is Chronik / Apache Kafka of the same run. `value` bounds Chronik's own figure. What is not listed here is told and not judged.
"""

# (metric, what, "<=" or ">=", bound)
_FASTER = [("throughput", "ratio", ">=", 1.0), ("CPU per GB", "ratio", "<=", 1.0), ("peak RSS", "ratio", "<=", 1.0)]
_ACKED = _FASTER + [("ack p99", "ratio", "<=", 1.0)]
_E2E = [("e2e p50", "ratio", "<=", 1.0), ("e2e p99", "ratio", "<=", 1.0), ("e2e p99.9", "ratio", "<=", 1.0), ("rate held", "value", ">=", 99.0),
        ("CPU per GB", "ratio", "<=", 1.0)]

TARGETS = {
    "produce-small": _ACKED,
    "produce-1k": _ACKED,
    "produce-1k-1m": _ACKED,
    "produce-paced": [("ack p50", "ratio", "<=", 1.0), ("ack p99", "ratio", "<=", 1.0), ("ack p99.9", "ratio", "<=", 1.0), ("CPU per GB", "ratio", "<=", 1.0)],
    "produce-all-fsync": _ACKED,
    "produce-shipped": _ACKED,
    "compressed-lz4": _ACKED,
    "compressed-zstd": _ACKED,
    "consume-catchup": _FASTER,
    "consume-fanout": _FASTER,
    "tls-consume-catchup": _FASTER,
    "tls-consume-fanout": _FASTER,
    "e2e-latency-5k": _E2E,
    "e2e-latency-50k": _E2E,
    "tail-fanout": _E2E,
    "mixed": _E2E + [("catch-up", "ratio", ">=", 1.0)],
    "many-partitions": _ACKED + [("create", "ratio", "<=", 1.0), ("open files", "ratio", "<=", 1.0)],
    "many-partitions-10k": _ACKED + [("create", "ratio", "<=", 1.0), ("open files", "ratio", "<=", 1.0)],
    "many-partitions-fsync": _ACKED,
    "idle-consumers": [("idle CPU", "ratio", "<=", 1.0), ("RSS", "ratio", "<=", 1.0)],
    "growth": [(f"{p} x {c}: {m}", "ratio", op, 1.0) for p in (1, 1000) for c in (1, 1000) for m, op in (("throughput", ">="), ("CPU per GB", "<="))],
    "idle-connections": [("RSS held", "value", "<=", 100.0), ("idle CPU", "ratio", "<=", 1.0)],
    "startup": [("first answer", "ratio", "<=", 1.0), ("RSS at rest", "ratio", "<=", 1.0), ("restart: read and write", "ratio", "<=", 1.0)],
    "recovery": [("read and write", "ratio", "<=", 1.0), ("records lost", "value", "<=", 0.0)],
    "recovery-curve": [(f"{gb} GB: {m}", what, "<=", bound) for gb in (1, 5, 20)
                       for m, what, bound in (("read and write", "ratio", 1.0), ("records lost", "value", 0.0))],
    "java-clients": [("produce", "ratio", ">=", 1.0), ("consume", "ratio", ">=", 1.0)],
    "replicated-pair": _ACKED,
    "replicated-pair-e2e": _E2E,
    "replicated": _ACKED,
    "replicated-e2e": _E2E,
    "replicated-fsync": _ACKED,
}

# Scenarios that the table leaves out unless they are named, and why.
LEFT_OUT = {
    "failover": "Chronik has no failover that nobody asks for: an operator promotes a follower",
    "failover-clean": "as above",
}


def verdict(target, comparison):
    """Whether a comparison reaches its target; None where there is no ratio."""
    _, what, op, bound = target
    found = comparison["ratio"] if what == "ratio" else comparison["medians"][0]
    if found is None:
        return None
    return found >= bound if op == ">=" else found <= bound


def words(target):
    _, what, op, bound = target
    sign = {"<=": "≤", ">=": "≥"}[op]
    return f"{sign} {bound:g}" + ("" if what == "value" else " ×")
