"""Rounds of scenarios on two sides in turn, and the arithmetic over them."""
import os
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import time

from .kernel import Failed
from .options import OPT
from .scenarios import SCENARIOS
from .side import Side


def names(given):
    """The scenarios of a list with commas, or all, those of the same circumstances together so that brokers stay up and warm."""
    chosen = list(SCENARIOS) if given == "all" else given.split(",")
    for name in chosen:
        if name not in SCENARIOS:
            sys.exit(f"no scenario {name}; there are {', '.join(SCENARIOS)}")
    return sorted(chosen, key=lambda name: SCENARIOS[name][2]["circumstances"])


class Pair:
    """Two sides with a folder of their own; leaves nothing behind."""

    def __init__(self, a, b):
        for limit in (1 << 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
                break
            except (ValueError, OSError):
                pass
        self.root = tempfile.mkdtemp(prefix="versus-", dir=OPT.data)
        self.sides = [Side("a", *a, OPT.port, self.root), Side("b", *b, OPT.port + 1000, self.root)]
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()
        shutil.rmtree(self.root, ignore_errors=True)

    def down(self):
        for side in self.sides:
            side.down()

    def run(self, name, told):
        """Runs a scenario on both sides, A B A B. Returns the rounds of each; told(side, round, took, metrics) hears of every one,
        warm-ups (below 0) too. Raises Failed."""
        fn, _, extra = SCENARIOS[name]
        warm = 0 if extra.get("fresh") else min(OPT.warmup, extra.get("warmup", OPT.warmup))
        rows = [[], []]
        try:
            for i in range(-warm, min(OPT.rounds, extra.get("rounds", OPT.rounds))):
                for k, side in enumerate(self.sides):
                    began = time.time()
                    try:
                        metrics = fn(side)
                    except Exception as e:  # whatever went wrong, there is no number, and the other scenarios go on
                        what = str(e) if isinstance(e, Failed) else f"{type(e).__name__}: {e}"
                        raise Failed(f"side {side.label} ({os.path.basename(side.spec)}), round {i}: {what}") from e
                    if i >= 0:
                        rows[k].append(metrics)
                    told(side, i, time.time() - began, metrics)
        except Failed:
            self.down()
            raise
        if extra.get("restarts"):  # what was restarted is cold again
            self.down()
        return rows


def compare(values):
    """Medians and spans of two lists of values, round by round, and the median ratio A/B, None where B was 0. `apart` tells that
    the spans do not overlap."""
    a, b = values
    ratios = [x / y for x, y in zip(a, b) if y]
    return {"medians": [statistics.median(v) for v in values], "spans": [(min(v), max(v)) for v in values],
            "ratio": statistics.median(ratios) if ratios else None, "apart": min(a) > max(b) or min(b) > max(a)}


def number(value):
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
