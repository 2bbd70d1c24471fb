"""The comparison as Markdown and plots, out of the rounds that were kept."""
import json
import os
import re

from . import plot
from .rounds import compare, number
from .scenarios import SCENARIOS
from .targets import LEFT_OUT, TARGETS, verdict, words

SIDES = ("Chronik", "Apache Kafka")
# (file, title, unit, better, what belongs in it: (scenario, metric) -> label or None)
LATENCIES = ("produce-paced", "produce-shipped", "produce-all-fsync", "e2e-latency-5k", "e2e-latency-50k", "tail-fanout", "mixed", "many-partitions",
             "replicated-pair-e2e", "replicated-e2e", "replicated-fsync")


def _latency(scenario, metric):
    if scenario not in LATENCIES:
        return None
    found = re.fullmatch(r"(ack|e2e) (p50|p99|p99\.9)", metric)
    if not found or ("e2e" in scenario or scenario in ("tail-fanout", "mixed")) != (found[1] == "e2e"):
        return None
    return f"{scenario} {found[2]}"


def _memory(scenario, metric):
    if metric in ("peak RSS", "RSS at rest", "RSS held", "RSS"):
        return scenario + (" (at rest)" if metric == "RSS at rest" else "")
    return None


def _growth(what):
    def label(scenario, metric):
        found = re.fullmatch(r"(\d+) x (\d+): " + re.escape(what), metric) if scenario == "growth" else None
        return f"{found[1]} partitions, {found[2]} producers" if found else None
    return label


def _recovery(scenario, metric):
    if scenario == "recovery" and metric == "read and write":
        return "3 GB"
    found = re.fullmatch(r"(\S+ GB): read and write", metric) if scenario == "recovery-curve" else None
    return found[1] if found else None


PLOTS = [
    # What is paced tells nothing by its throughput.
    ("throughput.svg", "Throughput", "MB/s", ">", lambda s, m: s if m == "throughput" and s != "produce-paced" else None),
    ("cpu.svg", "Processor time of the broker per gigabyte", "s/GB", "<", lambda s, m: s if m == "CPU per GB" else None),
    ("latency.svg", "Latency", "ms", "<", _latency),
    ("memory.svg", "Memory of the broker (resident)", "MiB", "<", _memory),
    ("growth-throughput.svg", "Growth: throughput", "MB/s", ">", _growth("throughput")),
    ("growth-cpu.svg", "Growth: processor time of the broker per gigabyte", "s/GB", "<", _growth("CPU per GB")),
    ("recovery.svg", "From kill -9 to reading and writing", "ms", "<", _recovery),
]


class Kept:
    """The rounds of one commit: a file of JSON objects, one a line, to which each round is appended as it ends."""

    def __init__(self, folder):
        self.folder, self.file = folder, os.path.join(folder, "rounds.jsonl")
        self.lines = []
        if os.path.exists(self.file):
            with open(self.file) as f:
                for line in f:
                    try:
                        self.lines.append(json.loads(line))
                    except ValueError:
                        pass  # cut off in the middle of a line: that round is run again

    def add(self, **line):
        os.makedirs(self.folder, exist_ok=True)
        self.lines.append(line)
        with open(self.file, "a") as f:
            f.write(json.dumps(line) + "\n")

    def forget(self, scenario):
        """Drops what is there of a scenario."""
        kept = [line for line in self.lines if line.get("scenario") != scenario]
        if len(kept) < len(self.lines):
            self.lines = kept
            with open(self.file + ".new", "w") as f:
                f.writelines(json.dumps(line) + "\n" for line in kept)
            os.replace(self.file + ".new", self.file)

    def run(self):
        """The facts and options of the run; None before it began."""
        return next((line["run"] for line in self.lines if "run" in line), None)

    def state(self, scenario):
        """done, failed, or None where it did not end."""
        ends = [line["end"] for line in self.lines if line.get("scenario") == scenario and "end" in line]
        return ends[-1] if ends else None

    def failure(self, scenario):
        return next((line["why"] for line in reversed(self.lines) if line.get("scenario") == scenario and line.get("end") == "failed"), "")

    def comparisons(self, scenario):
        """{metric: comparison, with unit and better} of a scenario that is done, in the order of its metrics."""
        sides = {"a": [], "b": []}
        for line in self.lines:
            if line.get("scenario") == scenario and line.get("round", -1) >= 0:
                sides[line["side"]].append(line["metrics"])
        out = {}
        if self.state(scenario) != "done" or not sides["a"] or not sides["b"]:
            return out
        for metric, (_, unit, better) in sides["a"][0].items():
            values = [[r[metric][0] for r in side if metric in r] for side in (sides["a"], sides["b"])]
            if all(values):
                out[metric] = dict(compare(values), unit=unit, better=better, rounds=len(values[0]))
        return out


def markdown(kept):
    """README.md of a result."""
    run = kept.run() or {"facts": {}, "options": {}, "commit": "unknown", "date": "unknown"}
    done = {name: kept.comparisons(name) for name in SCENARIOS}
    out = [f"# Chronik beside Apache Kafka, {run['date']}", "",
           f"Commit `{run['commit']}`. Made by `bench/table`; [bench/README.md](../../README.md) tells how to read it. Both brokers ran on the same machine in",
           "the same run, round by round in turn; the load is the same program with the same settings. Figures of another machine are others; ratios carry further.", ""]
    if run.get("quick"):
        out += ["**A try with `--quick`: its figures mean nothing.**", ""]
    out += ["| the machine | |", "|---|---|"]
    out += [f"| {name} | {value} |" for name, value in run["facts"].items()]
    options = run["options"]
    out += [f"| rounds | {options.get('rounds')} counted, {options.get('warmup')} before them; scale {options.get('scale'):g}; each broker under load for at most "
            f"{options.get('heat'):g} s before |" if options else "", ""]
    out += ["## At a glance", "", "Ratio: Chronik / Apache Kafka, median over the rounds. `~`: the spans of the rounds overlap.", "",
            "| scenario | figure | Chronik | Apache Kafka | unit | ratio | target | |", "|---|---|--:|--:|---|--:|--:|---|"]
    reached = judged = 0
    for name in SCENARIOS:
        if kept.state(name) == "failed":
            out.append(f"| [{name}](#{name}) | | | | | | | **failed** |")
            continue
        for target in TARGETS.get(name, []):
            c = done[name].get(target[0])
            if not c:
                continue
            ok = verdict(target, c)
            judged += ok is not None
            reached += bool(ok)
            out.append(f"| [{name}](#{name}) | {target[0]} | {number(c['medians'][0])} | {number(c['medians'][1])} | {c['unit']} | {_ratio(c)} | {words(target)} | "
                       f"{'-' if ok is None else 'reached' if ok else '**missed**'} |")
    failed = [name for name in SCENARIOS if kept.state(name) == "failed"]
    missing = [name for name in SCENARIOS if kept.state(name) is None]
    out += ["", f"Targets reached: {reached} of {judged}. Scenarios that failed: {len(failed)}. Not run: {len(missing)}" + (": " if missing else "")
            + "; ".join(name + (f" ({LEFT_OUT[name]})" if name in LEFT_OUT else "") for name in missing) + "."]
    foreign = [(max(c["foreign CPU"]["medians"]), name) for name, c in done.items() if "foreign CPU" in c]
    if foreign:
        out += ["", "Other work on the machine took at most {:.0f} % of its processors (median of a scenario: {}); above 30 % believe CPU per GB only.".format(*max(foreign))]
    out.append("")
    plots = draw(kept, done)
    if plots:
        out += ["## Plots", ""] + [line for file, title in plots for line in (f"![{title}]({file})", "")]
    for name in SCENARIOS:
        state = kept.state(name)
        if state is None:
            continue
        out += [f"## {name}", "", SCENARIOS[name][1][:1].upper() + SCENARIOS[name][1][1:] + ".", ""]
        if state == "failed":
            why = kept.failure(name).replace("`", "'").splitlines()
            out += ["**Failed**, so there is no number:", "", "    " + " ".join(why)[:600], ""]
            continue
        targets = {t[0]: t for t in TARGETS.get(name, [])}
        out += ["| figure | Chronik | span | Apache Kafka | span | unit | better | ratio | target |", "|---|--:|---|--:|---|---|---|--:|--:|"]
        for metric, c in done[name].items():
            (a, b), (sa, sb) = c["medians"], c["spans"]
            sense = {"<": "lower", ">": "higher", "-": ""}[c["better"]]
            out.append(f"| {metric} | {number(a)} | {_span(sa)} | {number(b)} | {_span(sb)} | {c['unit']} | {sense} | {_ratio(c)} | "
                       f"{words(targets[metric]) if metric in targets else ''} |")
        out.append("")
    return "\n".join(line.rstrip() for line in out).rstrip() + "\n"


# What the front page tells: (scenario, metric, in words).
OVERVIEW = [
    ("produce-1k", "throughput", "producing 1 KiB records, MB/s"),
    ("produce-1k", "CPU per GB", "processor seconds for a gigabyte produced"),
    ("consume-catchup", "throughput", "reading a backlog, MB/s"),
    ("tls-consume-catchup", "throughput", "the same over TLS, MB/s"),
    ("e2e-latency-5k", "e2e p99", "producer to consumer at 5 000 records/s, p99, ms"),
    ("produce-all-fsync", "throughput", "on the disk before the ack, MB/s"),
    ("replicated", "throughput", "replicated to two followers, MB/s"),
    ("startup", "first answer", "start to first answer, ms"),
    ("startup", "RSS at rest", "memory at rest, MiB"),
    ("recovery", "read and write", "kill -9 with 3 GB to reading and writing, ms"),
]
MARKS = ("<!-- bench/table --publish writes from here -->", "<!-- to here -->")


def overview(kept, where):
    """The front page's part; `where` is the result's folder as the page sees it."""
    lines = [f"![Throughput of Chronik and Apache Kafka]({where}/throughput.svg)", "", "| | Chronik | Apache Kafka | ratio |", "|---|--:|--:|--:|"]
    for name, metric, told in OVERVIEW:
        c = kept.comparisons(name).get(metric)
        if c:
            lines.append(f"| {told} | {number(c['medians'][0])} | {number(c['medians'][1])} | {_ratio(c)} |")
        elif kept.state(name) == "failed":
            lines.append(f"| {told} | failed | | |")
    facts = (kept.run() or {}).get("facts", {})
    return lines + ["", f"Medians on one machine with {facts.get('cores', '?')} cores ({facts.get('CPU', 'unknown')}); [every figure, its span and the facts]({where}/README.md)."]


def publish(kept, page, where):
    """Puts the overview between the marks of a page."""
    with open(page) as f:
        text = f.read()
    before, start, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not start or not end:
        raise ValueError(f"{page} has no marks")
    with open(page, "w") as f:
        f.write(before + start + "\n" + "\n".join(overview(kept, where)) + "\n" + end + after)


def _ratio(c):
    return "-" if c["ratio"] is None else f"{c['ratio']:.2f}{'' if c['apart'] else ' ~'}"


def _span(span):
    return f"{number(span[0])} – {number(span[1])}"


def draw(kept, done):
    """Writes the plots for which there are figures; returns (file, title) of each. A scenario that failed is shown as such."""
    written = []
    for file, title, unit, better, belongs in PLOTS:
        groups = []
        for name in SCENARIOS:
            found = [(belongs(name, metric), [(m, *s) for m, s in zip(c["medians"], c["spans"])]) for metric, c in done[name].items()]
            groups += [(label, pair) for label, pair in found if label]
            if kept.state(name) == "failed" and file == "throughput.svg":
                groups.append((name, [None, None]))
        path = os.path.join(kept.folder, file)
        if any(side for _, pair in groups for side in pair):
            with open(path, "w") as f:
                f.write(plot.bars(title, unit, better, SIDES, groups))
            written.append((file, title))
        elif os.path.exists(path):
            os.remove(path)
    return written


def write(kept):
    """README.md and the plots beside the rounds."""
    os.makedirs(kept.folder, exist_ok=True)
    text = markdown(kept)
    with open(os.path.join(kept.folder, "README.md"), "w") as f:
        f.write(text)
