"""What is to be reached: per scenario, which figures count and how they must compare with Apache Kafka's.

A ratio is Chronik / Apache Kafka of the same run. `value` bounds Chronik's own figure. What is not listed here is told and not judged.
"""

# (metric, what, "<=" or ">=", bound)


def _at_most(bound, *metrics):
    return [(metric, "ratio", "<=", bound) for metric in metrics]


def _at_least(bound, *metrics):
    return [(metric, "ratio", ">=", bound) for metric in metrics]


_RSS = [("peak RSS", "value", "<=", 64.0)]
_HELD = [("rate held", "value", ">=", 99.0)]
_PASSED_THROUGH = _at_least(1, "throughput") + _at_most(1 / 3, "CPU per GB")
_CONSUMED = _at_least(1.2, "throughput") + _at_most(0.7, "CPU per GB")
_SMALL = _at_most(1 / 5, "CPU per M records") + _at_most(1 / 2, "e2e p50") + _at_most(1 / 4, "e2e p99", "e2e p99.9") + _HELD
_TAILED = _at_most(1 / 5, "e2e p99") + _HELD
_MANY = _at_least(3, "throughput") + _at_most(1 / 4, "CPU per GB") + _at_most(1 / 20, "create", "first batches in each") + _at_most(1 / 10, "peak RSS")
_REPLICATED = _at_least(4, "throughput") + _at_most(1 / 6, "CPU per GB", "ack p50", "ack p99")

TARGETS = {
    "produce-small": _at_most(1 / 3, "CPU per M records") + _RSS,
    "produce-1k": _at_least(2, "throughput") + _at_most(1 / 3, "CPU per GB") + _RSS,
    "produce-1k-1m": _at_most(1 / 2.5, "CPU per GB"),
    "produce-paced": _at_most(1 / 5, "ack p99", "ack p99.9"),
    "produce-all-fsync": _at_least(10, "throughput") + _at_most(1 / 3, "ack p50") + _at_most(1 / 15, "CPU per GB"),
    "produce-shipped": _at_least(1, "throughput") + _at_most(1, "ack p99"),
    "compressed-lz4": _PASSED_THROUGH,
    "compressed-zstd": _PASSED_THROUGH,
    "consume-catchup": _CONSUMED,
    "consume-fanout": _CONSUMED,
    "tls-consume-catchup": _at_most(1 / 3, "CPU per GB"),
    "tls-consume-fanout": _at_most(1 / 3, "CPU per GB"),
    "e2e-latency-5k": _SMALL,
    "e2e-latency-50k": _SMALL,
    "tail-fanout": _TAILED,
    "mixed": _TAILED,
    "many-partitions": _MANY,
    "many-partitions-10k": _MANY,
    "many-partitions-fsync": _at_least(3, "throughput") + _at_most(1 / 4, "CPU per GB"),
    "idle-consumers": [("idle CPU", "value", "<=", 0.2)],
    "growth": [(f"{p} x {c}: {m}", "ratio", op, 1.0) for p in (1, 1000) for c in (1, 1000) for m, op in (("throughput", ">="), ("CPU per GB", "<="))],
    "idle-connections": [("RSS per connection", "value", "<=", 12.0), ("idle CPU", "value", "<=", 0.2)],
    "startup": [("first answer", "value", "<=", 100.0), ("SIGTERM to exit", "value", "<=", 100.0), ("RSS at rest", "value", "<=", 16.0)],
    "recovery": [("read and write", "value", "<=", 1000.0), ("records lost", "value", "<=", 0.0)],
    "recovery-curve": [(f"{gb} GB: {m}", "value", "<=", bound) for gb in (1, 5, 20)
                       for m, bound in (("read and write", 1000.0), ("records lost", 0.0))],
    "java-clients": _at_least(1, "produce", "consume"),
    "replicated-pair": _REPLICATED,
    "replicated-pair-e2e": _at_most(1 / 6, "CPU per M records", "e2e p50", "e2e p99") + _HELD,
    "replicated": _REPLICATED,
    "replicated-e2e": _at_most(1 / 6, "CPU per M records", "e2e p50", "e2e p99") + _HELD,
    "replicated-fsync": _REPLICATED,
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
    return f"{sign} {bound:.3g}" + ("" if what == "value" else " ×")
