"""`attnbench compare` from outside: rows, exit codes, resuming, refusals, offline files.

$ATTNBENCH names the binary; without it the tests are skipped. What a busy machine decides is never
asked for: only a backend that is several times slower than another must be called so.
"""

from __future__ import annotations

import json
import math
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import program  # noqa: E402
import rows  # noqa: E402
import synthetic_rows as synthetic  # noqa: E402
from program import BINARY, Record  # noqa: E402

SLOW, QUICK = "cpu_reference", "cpu_fused"
SMALL = ["--device", "cpu", "--cache", "hot", "--N", "64"]
SHAPE = {"B": 1, "H": 2, "H_kv": 2, "M": 64, "N": 128, "D": 64}


class Compare(program.ProgramTest):
    def compare(self, a: str, b: str, *words: str,
                seconds: float = 0.5) -> subprocess.CompletedProcess[str]:
        return self.run_it("compare", a, b, *SMALL, "--cell-seconds", str(seconds),
                           "--out", "out", *words)

    def write(self, name: str, *records: Record) -> str:
        (self.root / name).write_text("".join(json.dumps(r) + "\n" for r in records))
        return name


class Online(Compare):
    def test_rows_hold_what_the_verdict_rests_on(self) -> None:
        result = self.compare(SLOW, QUICK, "--M", "16,32", "--D", "16", seconds=8)
        self.assertIn(result.returncode, (0, 1), result.stderr)  # either may win cells so small
        control, *cells = self.records("compare")
        self.assertTrue(control["control"])
        self.assertEqual((control["backend_a"], control["backend_b"]), (SLOW, SLOW))
        self.assertEqual(len(cells), 2)
        keys = {cell["key"] for cell in self.records("cell")}
        for row in cells:
            self.assertEqual((row["status"], row["level"]), ("OK", "provisional"))
            self.assertEqual(row["processes"], 1)
            self.assertEqual(row["blocks"], sum(map(len, row["runs"])))
            self.assertGreaterEqual(row["blocks"], 12)
            self.assertLessEqual({row["a"], row["b"]}, keys, "the arms' checks are in the rows")
            # The ratio again, from the kept samples alone.
            logs = [self.log_ratio(block) for block in row["runs"][0]]
            self.assertAlmostEqual(math.exp(statistics.mean(logs)), row["ratio"], places=9)
            self.assertEqual([block["first"] for block in row["runs"][0]],
                             ["A", "B"] * (len(logs) // 2))
            self.assertLess(row["ci99"][0], row["ratio"])
            self.assertGreater(row["ci99"][1], row["ratio"])
        self.validate()

    @staticmethod
    def log_ratio(block: Record) -> float:
        outer, inner = block["ns"][:5] + block["ns"][15:], block["ns"][5:15]
        a, b = (outer, inner) if block["first"] == "A" else (inner, outer)
        return (statistics.median(map(math.log, b)) - statistics.median(map(math.log, a)))

    def validate(self) -> None:
        comparisons, sessions = rows.read_comparisons(self.path)
        self.assertEqual(len(sessions), len(self.records("event")))
        self.assertEqual(len(comparisons),
                         sum(not row["control"] for row in self.records("compare")))
        super().validate()

    def test_a_slow_backend_is_a_regression_unless_the_session_is_unproven(self) -> None:
        slower = self.compare(QUICK, SLOW, "--M", "64", "--H", "2", seconds=8)
        (row,) = [row for row in self.records("compare") if not row["control"]]
        self.assertEqual(row["verdict"], "SLOWER", slower.stdout)
        (event,) = self.records("event")
        count = 1 if event["proven"] else 0  # a busy machine may call the A/A control
        self.assertEqual(slower.returncode, count, slower.stdout + slower.stderr)
        self.assertEqual(len(event["withdrawn"]), 1 - count)
        self.assertRegex(slower.stdout, f"geometric mean .*; worst cell .*; SLOWER {count} of 1")

    def test_a_claim_has_fresh_processes_that_flip_the_starting_arm(self) -> None:
        self.compare(SLOW, QUICK, "--M", "16", "--level", "claim", seconds=12)
        (row,) = [row for row in self.records("compare") if not row["control"]]
        firsts = ["".join(block["first"] for block in run) for run in row["runs"]]
        for i, found in enumerate(firsts):
            self.assertEqual(found, ("AB" if i % 2 == 0 else "BA") * (len(found) // 2))
        self.assertGreater(len(firsts), 1)
        if sum(len(run) >= 8 for run in row["runs"]) < 5:  # a very slow machine
            self.assertEqual(row["reason"], "the time budget ended before 5 x 8 blocks")
            self.assertEqual(row["verdict"], "UNDECIDED")
        (event,) = self.records("event")
        self.assertEqual(len(event["sentinel"]), 3)
        self.assertEqual(event["proven"], not event["doubts"])
        if event["sentinel_drift"] > 0.02:
            self.assertFalse(event["proven"], "a claim needs a steady machine")
        self.validate()

    def test_a_backend_that_refuses_is_said_so(self) -> None:
        result = self.compare(QUICK, "fused_simt", "--M", "8")
        self.assertEqual(result.returncode, 2)
        self.assertIn("nothing was compared: fused_simt: ", result.stderr)
        (row,) = [row for row in self.records("compare") if not row["control"]]
        self.assertIn(row["status"], ("UNSUPPORTED", "NOT_BUILT"))
        self.assertIsNone(row["verdict"])
        self.path.unlink()
        self.compare("fused_simt", QUICK, "--M", "8")
        refused, other = self.records("cell")
        self.assertEqual(refused["backend"], "fused_simt")
        self.assertEqual((other["backend"], other["status"]), (QUICK, "OK"), "B stands for itself")
        self.validate()

    def test_a_hanging_arm_is_a_timeout_and_the_sweep_goes_on(self) -> None:
        result = self.compare(QUICK, QUICK, "--M", "8,16", "--timeout", "0.001")
        self.assertEqual(result.returncode, 0, result.stderr)
        statuses = [row["status"] for row in self.records("compare")]
        self.assertEqual(statuses, ["TIMEOUT"] * 3)
        (event,) = self.records("event")
        self.assertFalse(event["proven"])
        strict = self.compare(QUICK, QUICK, "--M", "8,16", "--timeout", "0.001", "--strict")
        self.assertEqual(strict.returncode, 4)
        self.validate()

    def test_a_budget_ends_in_time_and_the_same_command_goes_on(self) -> None:
        words = ["--M", "1:40:+1", "--D", "8", "--time-budget", "2s"]
        cut = self.compare(SLOW, QUICK, *words)
        self.assertRegex(cut.stderr, r"of 40 cells are left; the same command continues: "
                                     r"attnbench compare cpu_reference cpu_fused .*")
        (event,) = self.records("event")
        before = [row for row in self.records("compare") if not row["control"]]
        self.assertEqual(len(before), 40, "a cell that was not measured says so")
        complete = sum(row["blocks"] >= 12 for row in before)
        self.assertLess(complete, 40)
        for row in before[-1:]:
            self.assertRegex(row["reason"], r"skipped: time budget: its minimum takes about \d+ s, ")
            self.assertEqual((row["status"], row["verdict"], row["ratio"], row["blocks"]),
                             ("OK", "UNDECIDED", None, 0))
        self.assertIn("UNDECIDED: skipped: time budget", cut.stdout)
        self.validate()
        again = self.compare(SLOW, QUICK, *words)
        if event["proven"] and complete:
            self.assertIn(f"{complete} of 40 cells are there", again.stderr)
        else:
            self.assertNotIn("are there", again.stderr, "unproven cells are measured again")

    def test_a_minimum_is_measured_whole_whatever_a_cell_may_take(self) -> None:
        self.compare(SLOW, QUICK, "--M", "16", seconds=0.001)
        for row in self.records("compare"):
            self.assertGreaterEqual(row["blocks"], 12)

    def test_a_calibration_is_made_of_controls_and_later_sessions_take_delta_from_it(self) -> None:
        made = self.compare(QUICK, QUICK, "--M", "16,32", "--calibrate", seconds=0.001)
        self.assertIn(made.returncode, (0, 2), made.stderr)
        controls = self.records("compare")
        self.assertEqual([(row["control"], row["level"]) for row in controls], [(True, "claim")] * 2)
        for row in controls:
            self.assertEqual(row["backend_a"], row["backend_b"])
            self.assertGreaterEqual(row["processes"], 5)
        (event,) = self.records("event")
        found = event["calibration"]
        self.assertEqual((found["session"], found["cells"]), (event["session"], 2))
        self.assertEqual(found["same"], sum(row["verdict"] == "SAME" for row in controls))
        worst = max(max(row["ratio"], 1 / row["ratio"]) for row in controls)
        self.assertAlmostEqual(found["floor"], worst - 1)
        self.validate()

        later = self.compare(SLOW, QUICK, "--M", "16")
        event = self.records("event")[-1]
        if self.records("event")[0]["proven"]:
            self.assertIn(f"calibrated by {found['session']}: ", later.stderr)
            self.assertEqual(event["calibration"], found)
            self.assertGreaterEqual(event["delta"], max(0.01, found["floor"]))
        else:  # a busy machine called its control
            self.assertIsNone(event["calibration"])
        self.refused("--calibrate compares a backend with itself", "compare", SLOW, QUICK,
                     "--calibrate")

    def test_nothing_is_resumed_from_a_session_that_was_killed(self) -> None:
        words = [BINARY, "compare", SLOW, QUICK, *SMALL, "--out", "out", "--M", "1:20:+1",
                 "--cell-seconds", "2"]
        process = subprocess.Popen(words, cwd=self.root, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        for _ in range(600):
            time.sleep(0.1)
            if self.path.exists() and self.path.read_text().count('"type":"compare"') >= 2:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertGreaterEqual(len(self.records("compare")), 2)
        self.assertEqual(self.records("event"), [])
        again = self.compare(SLOW, QUICK, "--M", "1")
        self.assertNotIn("are there", again.stderr)

    def test_dry_run_and_list_write_nothing(self) -> None:
        listed = self.compare(SLOW, QUICK, "--M", "4,8", "--list")
        self.assertEqual(len(listed.stdout.split()), 2)
        self.assertIn("2 cells, roughly", self.compare(SLOW, QUICK, "--M", "4,8",
                                                       "--dry-run").stdout)
        self.assertFalse(self.path.exists())

    def test_bad_input_is_one_sentence(self) -> None:
        for sentence, words in {
            "there is no backend 'cpu'": ["compare", "cpu", QUICK],
            "there is no backend 'cpu*'": ["compare", "cpu*", QUICK],
            "there is no backend 'mma'": ["compare", QUICK, "mma"],
            "there is no operator 'colsum'": ["compare", QUICK, QUICK, "--op", "colsum"],
            "arm_b is required": ["compare", QUICK],
            "--level": ["compare", QUICK, QUICK, "--level", "sure"],
            "--cache": ["compare", QUICK, QUICK, "--cache", "warm"],
            "there is no backend 'a.jsonl'": ["compare", "a.jsonl", QUICK],
        }.items():
            with self.subTest(sentence):
                self.refused(sentence, *words)


class Offline(Compare):
    """Two rows files: ratios, no verdict, and a refusal where machines differ."""

    @staticmethod
    def bench(backend: str, median_ns: float, **shape: int) -> Record:
        return synthetic.cell(backend, "bench", "readme", SHAPE | shape, median_ns=median_ns)

    def test_cells_in_both_files_are_set_side_by_side(self) -> None:
        a = self.write("a.jsonl", synthetic.run(), self.bench("mma_sm80", 1e6),
                       self.bench("split_k", 1e6), self.bench("mma_sm80", 1e6, M=128),
                       synthetic.cell("mma_sm80", "verify", "readme", SHAPE))
        b = self.write("b.jsonl", synthetic.run(utc="2026-11-22T10:15:00Z"),
                       self.bench("mma_sm80", 1.5e6), self.bench("split_k", 0.5e6))
        result = self.run_it("compare", a, b)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("mma_sm80 / mma_sm80", result.stdout)
        self.assertIn("1.5000", result.stdout)
        self.assertEqual(result.stdout.count("UNDECIDED: not measured in turns"), 2)
        self.assertRegex(result.stdout, "geometric mean 0.8660 .*; worst cell 1.5000 .*; SLOWER 0")
        self.assertEqual(self.run_it("compare", a, b, "--strict").returncode, 4)

    def test_one_backend_each_is_compared_across(self) -> None:
        a = self.write("a.jsonl", synthetic.run(), self.bench("mma_sm80", 2e6))
        b = self.write("b.jsonl", synthetic.run(), self.bench("split_k", 1e6))
        self.assertIn("mma_sm80 / split_k", self.run_it("compare", a, b).stdout)

    def test_other_machines_and_drivers_are_uncomparable(self) -> None:
        a = self.write("a.jsonl", synthetic.run(), self.bench("mma_sm80", 1e6))
        for name, run in {"driver": synthetic.run(driver="570.1"),
                          "machine": synthetic.run(name="NVIDIA H100"),
                          "kind": synthetic.run("cpu")}.items():
            with self.subTest(name):
                b = self.write(f"{name}.jsonl", run, self.bench("mma_sm80", 1e6))
                self.refused("UNCOMPARABLE", "compare", a, b)
        mixed = self.write("mixed.jsonl", synthetic.run(), self.bench("mma_sm80", 1e6),
                           synthetic.run(driver="570.1"), self.bench("split_k", 1e6))
        self.refused("UNCOMPARABLE", "compare", a, mixed)

    def test_files_without_common_times_are_refused(self) -> None:
        a = self.write("a.jsonl", synthetic.run(), self.bench("mma_sm80", 1e6))
        b = self.write("b.jsonl", synthetic.run(), self.bench("mma_sm80", 1e6, M=3))
        empty = self.write("empty.jsonl", synthetic.run())
        self.refused("no timed cell is in both", "compare", a, b)
        self.refused("holds no timed cell", "compare", a, empty)
        self.refused("cannot read", "compare", a, "missing.jsonl")
        self.refused("is no row", "compare", a, self.write("bad.jsonl", {"x": 1}))


if __name__ == "__main__":
    program.main()
