"""What is kept, judged and drawn, from rounds that were made up."""
import os
import re
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

from harness import plot, report
from harness.rounds import compare, names
from harness.scenarios import SCENARIOS
from harness.targets import LEFT_OUT, TARGETS, verdict


def filled(folder):
    kept = report.Kept(folder)
    kept.add(run={"commit": "abc", "date": "2026-01-01", "quick": False, "options": {"rounds": 2, "warmup": 1, "scale": 1.0, "heat": 60.0},
                  "facts": {"CPU": "one", "cores": "2"}})
    for i in (-1, 0, 1):
        for side, factor in (("a", 1), ("b", 4)):
            metrics = {"throughput": [(i + 3) * 100 / factor, "MB/s", ">"], "CPU per GB": [2.0 * factor, "s", "<"], "foreign CPU": [7.0, "%", "-"]}
            kept.add(scenario="produce-1k", side=side, round=i, took_s=1.0, load=0.1, metrics=metrics)
    kept.add(scenario="produce-1k", end="done", took_s=6.0)
    kept.add(scenario="mixed", end="failed", why="records <lost>", took_s=1.0)
    return kept


class Reports(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def test_warm_up_rounds_do_not_count(self):
        c = filled(self.folder.name).comparisons("produce-1k")["throughput"]
        self.assertEqual(c["medians"], [350, 87.5])
        self.assertEqual(c["spans"], [(300, 400), (75, 100)])
        self.assertEqual(c["ratio"], 4)

    def test_what_is_kept_is_read_back_and_a_line_cut_off_is_not_missed(self):
        filled(self.folder.name)
        with open(os.path.join(self.folder.name, "rounds.jsonl"), "a") as f:
            f.write('{"scenario": "growth", "si')
        kept = report.Kept(self.folder.name)
        self.assertEqual([kept.state(n) for n in ("produce-1k", "mixed", "growth")], ["done", "failed", None])

    def test_a_forgotten_scenario_leaves_nothing(self):
        filled(self.folder.name).forget("produce-1k")
        kept = report.Kept(self.folder.name)
        self.assertIsNone(kept.state("produce-1k"))
        self.assertEqual(kept.state("mixed"), "failed")

    def test_the_page_has_targets_failures_and_plots_that_exist(self):
        kept = filled(self.folder.name)
        report.write(kept)
        with open(os.path.join(self.folder.name, "README.md")) as f:
            text = f.read()
        self.assertIn("| [produce-1k](#produce-1k) | throughput | 350 | 87.5 | MB/s | 4.00 | ≥ 2 × | reached |", text)
        self.assertIn("**failed**", text)
        self.assertIn("records <lost>", text)
        self.assertIn("at most 7 %", text)
        for file in re.findall(r"!\[.*?\]\((.*?)\)", text):
            ElementTree.parse(os.path.join(self.folder.name, file))
        self.assertIn("(throughput.svg)", text)

    def test_the_front_page_changes_between_its_marks_only(self):
        page = os.path.join(self.folder.name, "PAGE.md")
        with open(page, "w") as f:
            f.write(f"before\n{report.MARKS[0]}\nold\n{report.MARKS[1]}\nafter\n")
        for _ in range(2):
            report.publish(filled(self.folder.name), page, "bench/results/x")
        with open(page) as f:
            text = f.read()
        self.assertTrue(text.startswith(f"before\n{report.MARKS[0]}\n") and text.endswith(f"{report.MARKS[1]}\nafter\n"))
        self.assertNotIn("old", text)
        self.assertEqual(text.count("producing 1 KiB records"), 1)


class Figures(unittest.TestCase):
    def test_a_ratio_is_the_median_over_rounds_and_none_beside_zero(self):
        self.assertEqual(compare([[2, 4, 9], [1, 1, 3]])["ratio"], 3)
        self.assertIsNone(compare([[0], [0]])["ratio"])
        self.assertFalse(compare([[1, 3], [2, 4]])["apart"])
        self.assertTrue(compare([[1, 2], [3, 4]])["apart"])

    def test_targets_judge_ratios_and_values(self):
        c = compare([[50], [100]])
        self.assertTrue(verdict(("x", "ratio", "<=", 1.0), c))
        self.assertFalse(verdict(("x", "ratio", ">=", 1.0), c))
        self.assertFalse(verdict(("x", "value", "<=", 49.0), c))
        self.assertIsNone(verdict(("x", "ratio", "<=", 1.0), compare([[1], [0]])))

    def test_every_scenario_has_a_target_or_a_reason(self):
        self.assertEqual(set(TARGETS) | set(LEFT_OUT), set(SCENARIOS))

    def test_scenarios_of_the_same_circumstances_come_together(self):
        circumstances = [SCENARIOS[name][2]["circumstances"] for name in names("all")]
        changes = sum(a != b for a, b in zip(circumstances, circumstances[1:]))
        self.assertEqual(changes, len(set(circumstances)) - 1)


class Plots(unittest.TestCase):
    def test_an_axis_is_logarithmic_where_values_are_far_apart(self):
        self.assertTrue(plot.axis([0.1, 100])[3])
        self.assertFalse(plot.axis([50, 100])[3])

    def test_an_axis_holds_its_values(self):
        for values in ([3], [0], [], [1, 1000], [0.0004, 7], [99.9, 100], [1e-3, 1e6], [0, 5]):
            low, high, ticks, _ = plot.axis(values)
            self.assertLess(low, high)
            self.assertTrue(all(v <= high for v in values), values)
            self.assertEqual((ticks[0], ticks[-1]), (low, high))

    def test_a_chart_is_sound_with_missing_sides_and_signs_of_markup(self):
        chart = plot.bars("a < b & c", "ms", "<", ("A", "B"), [("one & two", [(1, 0.5, 2), None]), ("zero", [(0, 0, 0), (3, 3, 3)])])
        text = "".join(ElementTree.fromstring(chart).itertext())
        self.assertIn("one & two", text)
        self.assertIn("no number", text)


if __name__ == "__main__":
    unittest.main()
