"""plots/rows.py: what it takes from rows files, and what it refuses, in one sentence."""

from __future__ import annotations

import json
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "plots"), str(ROOT / "tests")]

import rows  # noqa: E402
import synthetic_rows as synthetic  # noqa: E402

SHAPE = {"B": 1, "H": 2, "H_kv": 2, "M": 64, "N": 128, "D": 64}


def cell(**changes: Any) -> dict[str, Any]:
    return synthetic.cell("mma_sm80", "bench", "readme", SHAPE, **changes)


class Reader(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.results = Path(folder.name)

    def write(self, *records: dict[str, Any], **place: str) -> Path:
        return synthetic.write(self.results, place.pop("device", "nvidia-h200"), records, **place)

    def refused(self, path: Path, *words: str) -> None:
        with self.assertRaises(rows.RowError) as caught:
            rows.read_file(path)
        message = str(caught.exception)
        self.assertEqual(message.count("\n"), 0)
        self.assertTrue(message.startswith(str(path)) and message.endswith("."), message)
        for word in words:
            self.assertIn(word, message)

    def test_units_and_fields(self) -> None:
        (read,) = rows.read_file(self.write(synthetic.run(), cell(
            median_ns=2.5e6, workspace=100, hidden=28, nerr=0.75, mask="causal")))
        assert read.cold is not None
        self.assertAlmostEqual(read.cold.median, 2.5)
        self.assertAlmostEqual(read.cold.p25, 2.5 * 0.985)
        self.assertAlmostEqual(read.cold.p75, 2.5 * 1.02)
        self.assertEqual(read.cold.samples, (2.5,) * 60)
        self.assertEqual((read.beyond_bytes, read.nerr_max, read.sol_pct, read.bound),
                         (128, 0.75, 42.0, "mma"))
        self.assertEqual((read.options["mask"], read.run.revision, read.timed),
                         ("causal", "0123456", True))

    def comparisons(self, *records: dict[str, Any], **place: str) -> None:
        self.write(synthetic.run(), *records, **place)

    def test_comparisons_keep_the_verdict_that_their_session_left_them(self) -> None:
        pair = ("mma_sm80", "wgmma_sm90", "readme")
        stands = synthetic.comparison(*pair, SHAPE)
        fell = synthetic.comparison(*pair, SHAPE | {"M": 128})
        same = synthetic.comparison(*pair, SHAPE | {"M": 256}, 1.0, "SAME")
        control = synthetic.comparison("mma_sm80", "mma_sm80", "readme", SHAPE, 1.0, "SAME",
                                       control=True)
        for doubts, left in (((), "FASTER"), (("why",), "UNDECIDED")):
            self.comparisons(control, stands, fell, same, synthetic.session_end(
                doubts=doubts, withdrawn=[fell["key"]]))
            found = rows.latest_comparisons(self.results, "nvidia-h200")
            self.assertEqual([c.verdict for c in found.cells], [left, "UNDECIDED", "SAME"])
            self.assertEqual(found.session.worst, 1.1)

    def test_a_session_without_its_end_makes_no_calls(self) -> None:
        unfinished = synthetic.comparison("mma_sm80", "split_k", "readme", SHAPE)
        self.comparisons(unfinished)
        with self.assertRaises(rows.NoRows):
            rows.latest_comparisons(self.results, "nvidia-h200")
        finished = synthetic.comparison("mma_sm80", "split_k", "readme", SHAPE | {"M": 2},
                                        session="later")
        self.comparisons(unfinished, finished, synthetic.session_end("later"))
        found = rows.latest_comparisons(self.results, "nvidia-h200")
        self.assertEqual([c.verdict for c in found.cells], ["UNDECIDED", "FASTER"])

    def test_a_cell_without_time_leaves_the_older_measurement(self) -> None:
        pair = ("mma_sm80", "split_k", "readme")
        shapes = [SHAPE | {"M": m} for m in (1, 2)]
        self.comparisons(*(synthetic.comparison(*pair, s) for s in shapes),
                         synthetic.session_end())
        later = [synthetic.comparison(*pair, shapes[0], 1.25, "SLOWER", session="later"),
                 synthetic.comparison(*pair, shapes[1], session="later")
                 | {"ratio": None, "ci99": None, "verdict": "UNDECIDED"}]
        self.write(synthetic.run(utc="2026-11-30T10:15:00Z"), *later,
                   synthetic.session_end("later"), folder="20261130T101500Z_0123456")
        found = rows.latest_comparisons(self.results, "nvidia-h200")
        self.assertEqual([c.verdict for c in found.cells], ["SLOWER", "FASTER"])
        self.assertNotEqual(found.session.session, "later")

    def test_comparisons_of_other_machines_are_left_out_and_named(self) -> None:
        pair = ("mma_sm80", "wgmma_sm90", "readme")
        old = synthetic.run(utc="2026-11-20T10:15:00Z", driver="570.1")
        self.write(old, synthetic.comparison(*pair, SHAPE | {"M": 3}, session="old"),
                   synthetic.session_end("old"), folder="20261120T101500Z_0123456")
        self.comparisons(synthetic.comparison(*pair, SHAPE), synthetic.session_end())
        found = rows.latest_comparisons(self.results, "nvidia-h200")
        self.assertEqual([c.shape["M"] for c in found.cells], [64])
        self.assertEqual(found.left_out, (old["run_id"],))
        mixed = rows.latest_comparisons(self.results, "nvidia-h200", mix=True)
        self.assertEqual(len(mixed.cells), 2)

    def test_broken_comparisons_are_refused(self) -> None:
        good = synthetic.comparison("mma_sm80", "wgmma_sm90", "readme", SHAPE)
        for name, value in (("verdict", "BETTER"), ("ci99", [1]), ("ci99", [2, 1]),
                            ("ratio", "1"), ("shape", {"M": "1"}), ("session", None)):
            path = self.write(synthetic.run(), good | {name: value})
            with self.assertRaises(rows.RowError, msg=f"{name} = {value}"):
                rows.read_comparisons(path)
        with self.assertRaises(rows.RowError):
            rows.read_comparisons(self.write(good))

    def test_statuses_without_a_time(self) -> None:
        for status in rows.STATUSES:
            path = self.write(synthetic.run(), cell(status=status))
            (read,) = rows.read_file(path)
            self.assertEqual(read.timed, status in ("OK", "NOISY", "UNCHECKED"), status)

    def test_torn_last_line_is_ignored(self) -> None:
        path = self.write(synthetic.run(), cell())
        whole = path.read_bytes()
        second = json.dumps(cell(dtype="bf16")).encode()
        for end in (1, len(second) // 2, len(second)):
            path.write_bytes(whole + second[:end])
            self.assertEqual(len(rows.read_file(path)), 1)
        path.write_bytes(whole + second + b"\n")
        self.assertEqual(len(rows.read_file(path)), 2)

    def test_any_other_broken_line_is_an_error(self) -> None:
        path = self.write(synthetic.run(), cell(), cell(dtype="bf16"))
        lines = path.read_bytes().splitlines(keepends=True)
        for broken in (lines[1][:40] + b"\n", b"\n", b"[]\n", b"\xff\n", b"NaN\n",
                       lines[1].replace(b'"nerr_max": 0.5', b'"nerr_max": NaN')):
            path.write_bytes(lines[0] + broken + lines[2])
            self.refused(path, f"{path}:2: ")
        path.write_bytes(lines[0] + lines[1] + lines[2][:40] + b"\n")
        self.refused(path, f"{path}:3: ", "not JSON")

    def test_unknown_schema_type_and_status(self) -> None:
        self.refused(self.write(synthetic.run() | {"schema": 2}, cell()), ":1: ", "schema 2")
        self.refused(self.write(synthetic.run(), cell() | {"type": "sell"}), ":2: ", "sell")
        self.refused(self.write(synthetic.run(), cell() | {"status": "FINE"}), ":2: ", "FINE")
        self.refused(self.write(cell()), ":1: ", "before any run")

    def test_missing_and_mistyped_fields(self) -> None:
        for field in ("backend", "shape", "status", "time", "check", "mem", "sol", "data", "suite"):
            broken = cell()
            del broken[field]
            self.refused(self.write(synthetic.run(), broken), ":2: ", field)
        for change in ({"backend": 3}, {"shape": {"B": "1"}}, {"shape": {"B": True}},
                       {"options": {"mask": []}}, {"time": {}}, {"mem": 5}):
            self.refused(self.write(synthetic.run(), cell() | change), ":2: ", next(iter(change)))
        for field in ("git", "device", "driver", "ceilings", "utc"):
            broken = synthetic.run()
            del broken[field]
            self.refused(self.write(broken, cell()), ":1: ", field)
        falling = cell()
        falling["time"]["cold"]["p75"] = 1.0
        self.refused(self.write(synthetic.run(), falling), ":2: ", "quantiles")
        for samples in ([1.0, 0.0], [1.0, "2"], [True]):
            broken = cell()
            broken["time"]["cold"]["samples"] = samples
            self.refused(self.write(synthetic.run(), broken), ":2: ", "samples")

    def test_unreadable_file(self) -> None:
        path = self.results / "nothing" / "rows.jsonl"
        self.refused(path, "No such file")

    def test_later_row_of_a_cell_wins(self) -> None:
        self.write(synthetic.run(), cell(median_ns=1e6), cell(median_ns=2e6),
                   cell(median_ns=9e6, dtype="bf16"))
        merged = rows.latest(self.results, "nvidia-h200")
        self.assertEqual([c.cold.median for c in merged.cells if c.cold], [2.0, 9.0])
        self.assertEqual([c.cold.median for c in merged.every if c.cold], [1.0, 2.0, 9.0])

    def test_runs_of_a_device_are_merged_newest_last(self) -> None:
        later = synthetic.run(utc="2026-11-22T00:00:00Z")
        self.write(later, cell(median_ns=3e6), folder="20261122T000000Z_0123456")
        self.write(synthetic.run(), cell(median_ns=1e6), cell(median_ns=9e6, dtype="bf16"))
        self.write(synthetic.run("cpu"), cell(device="cpu"), device="cpu")
        merged = rows.latest(self.results, "nvidia-h200")
        self.assertEqual(sorted(c.cold.median for c in merged.cells if c.cold), [3.0, 9.0])
        self.assertEqual(merged.left_out, ())
        self.assertEqual([r.utc for r in rows.runs_of(merged.cells)],
                         ["2026-11-21T10:15:00Z", "2026-11-22T00:00:00Z"])
        self.assertEqual(rows.devices(self.results), ["cpu", "nvidia-h200"])

    def test_other_driver_is_left_out_and_never_mixed_unasked(self) -> None:
        newer = synthetic.run(utc="2026-11-22T00:00:00Z", driver="590.1")
        self.write(synthetic.run(), cell(median_ns=1e6), cell(dtype="bf16"))
        self.write(newer, cell(median_ns=3e6), folder="20261122T000000Z_0123456")
        merged = rows.latest(self.results, "nvidia-h200")
        self.assertEqual([c.cold.median for c in merged.cells if c.cold], [3.0])
        self.assertEqual(merged.left_out, (synthetic.run()["run_id"],))
        self.assertEqual(len(rows.latest(self.results, "nvidia-h200", mix=True).cells), 2)

        cells = [c for path in self.results.glob("*/*/rows.jsonl") for c in rows.read_file(path)]
        with self.assertRaisesRegex(rows.RowError, "580.159.*590.1|590.1.*580.159"):
            rows.merge(cells)
        self.assertEqual(len(rows.merge(cells, mix=True).cells), 2)

    def test_other_device_of_the_same_folder_is_not_comparable(self) -> None:
        self.write(synthetic.run(), cell(), synthetic.run(name="NVIDIA H200 NVL"),
                   cell(dtype="bf16"))
        cells = rows.read_file(next(self.results.glob("*/*/rows.jsonl")))
        with self.assertRaisesRegex(rows.RowError, "NVL"):
            rows.merge(cells)

    def test_no_rows(self) -> None:
        with self.assertRaisesRegex(rows.NoRows, "nvidia-h200"):
            rows.latest(self.results, "nvidia-h200")


if __name__ == "__main__":
    unittest.main()
