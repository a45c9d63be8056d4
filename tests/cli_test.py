"""The program from outside: bad input, resuming, budgets, kills, and that rows survive all of them.

$ATTNBENCH names the binary; without it the tests are skipped.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

BINARY = os.environ.get("ATTNBENCH", "")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
SMALL = ["--backend", "cpu*", "--device", "cpu", "--D", "8", "--N", "16"]


class CommandLine(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.rows = self.root / "out" / "rows.jsonl"

    def run_it(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([BINARY, *words], cwd=self.root, text=True, capture_output=True,
                              check=False, timeout=300)

    def verify(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run_it("verify", "colreduce", *SMALL, "--out", "out", *words)

    def cells(self) -> list[dict]:
        lines = self.rows.read_text().splitlines()
        return [row for row in map(json.loads, lines) if row["type"] == "cell"]

    def refused(self, sentence: str, *words: str) -> None:
        """Exit code 2, one sentence, and rows that were there before stay as they were."""
        self.rows.parent.mkdir(exist_ok=True)
        before = self.rows.read_bytes() if self.rows.exists() else None
        result = self.run_it(*words)
        self.assertEqual(result.returncode, 2, result.stderr)
        last = result.stderr.strip().splitlines()[-1]
        self.assertTrue(last.startswith("attnbench: "), result.stderr)
        self.assertIn(sentence, last)
        if before is not None:
            self.assertEqual(self.rows.read_bytes(), before)

    def test_bad_input_is_one_sentence_and_loses_nothing(self) -> None:
        self.assertEqual(self.verify("--M", "8").returncode, 0)
        verify = ["verify", "colreduce", "--out", "out"]
        for sentence, words in {
            "there is no backend 'wgmma'": [*verify, "--backend", "wgmma"],
            "there is no operator 'colsum'": ["verify", "colsum"],
            "there is no suite 'huge2'": [*verify, "--suite", "huge2"],
            "--Q": [*verify, "--Q", "3"],
            "M must be at least 1, not 0": [*verify, "--M", "0"],
            "M must be an integer": [*verify, "--M", "many"],
            "D must be at least 1, not 0": [*verify, "--D", "0"],
            "H must be a multiple of H_kv, not 6 and 4": [*verify, "--H", "6", "--H_kv", "4"],
            "q_strides must have a D stride of 1, not 2": [
                *verify, "--D", "8", "--M", "4", "--q_strides", "64:64:16:2"],
            "overflows 64-bit addresses": [*verify, "--M", "1048576M", "--N", "1048576M"],
            "query_begin must be below query_end, not 5 and 5": [
                *verify, "--query_begin", "5", "--query_end", "5"],
            "query_begin must be at least -M and below M, not -9": [
                *verify, "--M", "8", "--query_begin", "-9"],
            "window must be -1 or at least 0, not -2": [*verify, "--window", "-2"],
            "softcap must be 0 (off) or lie between": [*verify, "--softcap", "-3"],
            "q_len must have one length per batch, not 3 for B = 1": [*verify, "--q_len", "1:2:3"],
            "kv_len must lie between 0 and N, not 9": [*verify, "--N", "8", "--kv_len", "9"],
            "cu_q must never fall": [*verify, "--M", "8", "--N", "8", "--cu_q", "0:5:3:8",
                                     "--cu_k", "0:1:2:8"],
            "cu_q must be integers such as 5:3:8 or none, not '0:x'": [*verify, "--cu_q", "0:x"],
            "mask must be one of": [*verify, "--mask", "casual"],
            "must be like B4H8": [*verify, "--shape", "B4X"],
            "--where": [*verify, "--where", "M <"],
            "the selection is empty": [*verify, "--where", "M < 0"],
            "--time-budget": [*verify, "--time-budget", "soon"],
            "cannot make": ["verify", "colreduce", *SMALL, "--out", "out/rows.jsonl/below"],
            "cannot read missing.jsonl": ["report", "missing.jsonl"],
            "--profile takes one cell, not 2": [*verify, "--backend", "cpu*", "--profile"],
            "--profile needs a backend on a GPU": [*verify, "--backend", "cpu_fused", "--profile"],
            "--device": [*verify, "--device", "tpu"],
        }.items():
            with self.subTest(sentence):
                self.refused(sentence, *words)

    def test_no_command_and_unknown_command_are_usage_errors(self) -> None:
        self.assertEqual(self.run_it().returncode, 2)
        self.assertEqual(self.run_it("measure").returncode, 2)
        self.assertEqual(self.run_it("--help").returncode, 0)

    def test_a_gpu_that_is_not_there_is_said_so(self) -> None:
        if self.run_it("verify", "colreduce", *SMALL[:2], "--list", "--device", "cuda").returncode:
            self.fail("--list needs no device")
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        result = subprocess.run([BINARY, "verify", "colreduce", "--device", "cuda", "--out", "out"],
                                cwd=self.root, env=environment, text=True, capture_output=True,
                                check=False, timeout=60)
        self.assertEqual(result.returncode, 2)
        self.assertIn("--device cuda needs a GPU", result.stderr)

    def test_a_backend_that_refuses_the_only_cell_exits_with_its_reason(self) -> None:
        words = ["--backend", "mma_sm80", "--D", "257", "--M", "8", "--N", "8"]
        result = self.run_it("verify", "colreduce", *words, "--out", "out")
        row = self.cells()[0]
        self.assertIn(row["status"], ("UNSUPPORTED", "NOT_BUILT"))
        self.assertTrue(row["reason"])
        if row["status"] == "UNSUPPORTED":
            self.assertEqual(result.returncode, 2)
            self.assertIn("nothing ran", result.stderr)
            self.assertIn(row["reason"], result.stderr)

    def test_supports_is_a_matrix_with_reasons(self) -> None:
        result = self.run_it("list", "--supports")
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.splitlines()
        backends = lines[1].split()
        column = {name: lines[1].index(name) for name in backends}
        rows = {line[:24].strip(): line for line in lines[2:] if not re.match(r"\w+, ", line)}
        self.assertIn("cu_q and cu_k", rows)
        for name in ("cpu_reference", "cpu_fused"):
            for feature, line in rows.items():
                self.assertEqual(line[column[name]:].split()[0], "yes", (name, feature))
        refused = sum(line.split().count("no") for line in rows.values())
        self.assertEqual(len(lines) - 2 - len(rows), refused, "each refusal has its reason")

    def test_unreadable_rows_are_refused_and_kept(self) -> None:
        self.verify("--M", "8")
        self.rows.write_bytes(b"nonsense\n" + self.rows.read_bytes())
        self.refused("rows.jsonl:1 is no row", "verify", "colreduce", *SMALL, "--out", "out")
        self.refused("rows.jsonl:1 is no row", "report", "out/rows.jsonl")

    def test_running_again_resumes(self) -> None:
        self.verify("--M", "1,2,3")
        first = self.cells()
        again = self.verify("--M", "1,2,3,4")
        self.assertIn("6 of 8 cells are there", again.stderr)
        self.assertEqual(len(self.cells()), 8)
        self.assertEqual(self.cells()[:6], first)
        bytes_before = self.rows.read_bytes()
        self.assertEqual(self.verify("--M", "1,2,3,4").returncode, 0)
        self.assertEqual(self.rows.read_bytes(), bytes_before, "nothing left, nothing written")

    def test_another_seed_is_another_cell(self) -> None:
        self.verify("--M", "5")
        self.verify("--M", "5", "--seed", "2")
        self.assertEqual(len({cell["key"] for cell in self.cells()}), 4)

    def test_a_torn_last_line_is_cut_off_and_the_cell_done_again(self) -> None:
        self.verify("--M", "1,2")
        whole = self.rows.read_bytes()
        self.rows.write_bytes(whole[:-20])
        self.verify("--M", "1,2")
        self.assertEqual(len({cell["key"] for cell in self.cells()}), 4)

    def test_a_time_budget_ends_the_sweep_and_names_the_command_that_continues(self) -> None:
        words = ["--M", "1:400:+1", "--time-budget", "0.3s"]
        result = self.verify(*words)
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stderr, r"of 800 cells are left; the same command continues: "
                                        r"attnbench verify colreduce .*--out out .*"
                                        r"--time-budget 0\.3s")
        record = json.loads(self.rows.read_text().splitlines()[0])
        self.assertNotIn("out", record["argv"], "where the rows lie is not recorded")
        self.assertLess(len(self.cells()), 800)

    def test_kill_9_at_50_moments_loses_at_most_the_cell_in_flight(self) -> None:
        words = [BINARY, "verify", "colreduce", *SMALL, "--out", "out", "--M", "1:400:+1"]
        generator = random.Random(1)
        kept = 0
        for _ in range(50):
            progress = self.killed(words, reports=generator.randrange(4),
                                   delay_s=generator.uniform(0, 0.01))
            lines = self.rows.read_text().split("\n") if self.rows.exists() else [""]
            cells = [line for line in lines[:-1] if json.loads(line)["type"] == "cell"]
            self.assertGreaterEqual(len(cells), kept + progress, "a reported row is on the disk")
            kept = len(cells)
        self.assertLess(kept, 800, "every kill met a sweep at work")
        self.assertEqual(subprocess.run(words, cwd=self.root, capture_output=True, check=False,
                                        env=ONE_THREAD).returncode, 0)
        self.assertEqual(len({cell["key"] for cell in self.cells()}), 800)
        self.assertEqual(len(self.cells()), 800, "no cell is done twice")
        self.no_process_is_left()

    def killed(self, words: list[str], reports: int, delay_s: float) -> int:
        """Kills the program some time after so many progress lines; returns how many it printed."""
        with subprocess.Popen(words, cwd=self.root, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, env=ONE_THREAD) as process:
            assert process.stderr
            seen = 0
            while seen < reports and (line := process.stderr.readline()):
                seen += line.startswith("[")
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
            return seen + sum(line.startswith("[") for line in
                              process.stderr.read().split("\n")[:-1])

    def no_process_is_left(self) -> None:
        """A worker ends with the sweep that it served."""
        deadline = time.monotonic() + 20
        while running := [at for at in Path("/proc").glob("[0-9]*/cwd") if self.is_here(at)]:
            self.assertLess(time.monotonic(), deadline, running)
            time.sleep(0.05)

    def is_here(self, link: Path) -> bool:
        try:
            return link.resolve(strict=True) == self.root.resolve()
        except OSError:  # ended meanwhile, or another user's
            return False

    def test_a_full_disk_loses_nothing_and_is_one_sentence(self) -> None:
        sweep = ["colreduce", *SMALL, "--out", "out"]
        timed = ["--sample-seconds", "0.001"]
        for command, words, count in (("verify", ["--M", "1:9:+1"], 18),
                                      ("bench", ["--M", "1:3:+1", *timed], 18 + 6)):
            with self.subTest(command):
                before = self.rows.read_bytes() if self.rows.exists() else b""
                limit = len(before) + 9000  # bytes: a few rows, and then a part of one
                full = subprocess.run(
                    [BINARY, command, *sweep, *words], cwd=self.root, text=True,
                    capture_output=True, check=False, timeout=60,
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
                self.assertEqual(full.returncode, 2, full.stderr)
                last = full.stderr.strip().splitlines()[-1]
                self.assertEqual(last, "attnbench: cannot write out/rows.jsonl: File too large")
                torn = self.rows.read_bytes()
                self.assertTrue(torn.startswith(before))
                self.assertEqual(len(torn), limit, "the last row is torn")
                reported = sum(line.startswith("[") for line in full.stderr.splitlines())
                whole = torn[len(before):].split(b"\n")[:-1]
                self.assertEqual(sum(json.loads(line)["type"] == "cell" for line in whole),
                                 reported, "every reported row is there")
                self.assertGreater(reported, 0)
                again = self.run_it(command, *sweep, *words)
                self.assertEqual(again.returncode, 0, again.stderr)
                self.assertEqual(len({cell["key"] for cell in self.cells()}), count)

    def test_in_process_gives_the_same_rows(self) -> None:
        self.verify("--M", "3")
        apart = self.cells()
        result = self.run_it("verify", "colreduce", *SMALL, "--M", "3", "--in-process",
                             "--out", "here")
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = (self.root / "here" / "rows.jsonl").read_text().splitlines()[1:]
        for row, other in zip(map(json.loads, lines), apart, strict=True):
            for name in ("key", "status", "check"):
                self.assertEqual(row[name], other[name])

    def test_an_output_that_cannot_be_written_is_said_so(self) -> None:
        with open("/dev/full", "w", encoding="utf-8") as full:
            result = subprocess.run([BINARY, "list"], cwd=self.root, stdout=full, text=True,
                                    stderr=subprocess.PIPE, check=False, timeout=60)
        self.assertEqual(result.returncode, 2)
        self.assertRegex(result.stderr, r"^attnbench: cannot write .*No space left on device\n$")

    def test_a_cell_that_outlasts_its_time_is_a_timeout_and_the_sweep_goes_on(self) -> None:
        result = self.run_it("verify", "colreduce", "--backend", "cpu_reference", "--device", "cpu",
                             "--N", "2000", "--M", "40000,4", "--timeout", "2", "--out", "out")
        self.assertEqual([cell["status"] for cell in self.cells()], ["TIMEOUT", "OK"],
                         result.stderr)
        self.assertEqual(self.cells()[0]["reason"], "no answer in 2 s")

    def test_google_benchmark_flags_work(self) -> None:
        bench = ["bench", "colreduce", *SMALL, "--M", "4,8", "--sample-seconds", "0.01"]
        listed = self.run_it(*bench, "--out", "list", "--benchmark_list_tests")
        self.assertEqual(len(listed.stdout.split("rows:")[0].split()), 4, listed.stdout)
        result = self.run_it(*bench, "--out", "out", "--benchmark_filter=cpu_fused.*M8",
                             "--benchmark_out=gb.json")
        self.assertEqual(result.returncode, 0, result.stderr)
        (cell,) = self.cells()
        self.assertEqual((cell["backend"], cell["shape"]["M"]), ("cpu_fused", 8))
        self.assertGreaterEqual(cell["time"]["cold"]["n"], 5)
        if cell["clock"]["mhz"] is not None:
            self.assertEqual(len(cell["clock"]["mhz"]), cell["time"]["cold"]["n"])
            self.assertGreater(cell["clock"]["median_mhz"], 100)
        recorded = json.loads((self.root / "gb.json").read_text())["benchmarks"]
        self.assertEqual(len(recorded), 1)
        self.assertAlmostEqual(recorded[0]["real_time"] * 1e6, cell["time"]["cold"]["median"],
                               delta=1.5)

    def test_an_unknown_google_benchmark_flag_is_refused(self) -> None:
        result = self.run_it("bench", "colreduce", *SMALL, "--out", "out", "--benchmark_bogus=1")
        self.assertEqual(result.returncode, 2)

    def test_dry_run_and_list_launch_and_write_nothing(self) -> None:
        dry = self.verify("--M", "4,8", "--dry-run")
        self.assertIn("4 cells, roughly", dry.stdout)
        self.assertEqual(len(self.verify("--M", "4,8", "--list").stdout.split()), 4)
        self.assertFalse(self.rows.exists())

    def test_every_row_can_be_repeated_by_its_own_command(self) -> None:
        self.verify("--M", "7", "--mask", "causal", "--scale", "0.3", "--data", "peaked")
        cell = self.cells()[-1]
        self.run_it(*cell["repro"].split()[1:], "--out", "again")
        (again,) = [json.loads(line) for line in
                    (self.root / "again" / "rows.jsonl").read_text().splitlines()[1:]]
        for name in ("backend", "shape", "options", "data", "status", "check"):
            self.assertEqual(again[name], cell[name], name)

    def test_report_reads_what_verify_wrote(self) -> None:
        self.verify("--M", "3")
        for form, mark in (("table", "  "), ("csv", ","), ("markdown", " | ")):
            report = self.run_it("report", "out/rows.jsonl", "--format", form)
            self.assertEqual(report.returncode, 0)
            self.assertIn("cpu_fused", report.stdout)
            self.assertIn(mark, report.stdout.splitlines()[0])


if __name__ == "__main__":
    if not BINARY:
        print("skipped: $ATTNBENCH does not name the program")
        sys.exit(77)
    unittest.main()
