"""results/row.schema.json: takes every committed row and what the harness writes, and bites."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "plots"), str(ROOT / "tests")]

import rows  # noqa: E402
import synthetic_rows as synthetic  # noqa: E402

try:
    import jsonschema
except ImportError:
    MISSING = "SKIPPED: Python has no jsonschema, so no row was validated."
    if __name__ == "__main__":
        print(MISSING)
        sys.exit(77)
    raise unittest.SkipTest(MISSING) from None

SCHEMA = json.loads((ROOT / "results" / "row.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SHAPE = {"B": 1, "H": 2, "H_kv": 0, "M": 64, "N": 128, "D": 64}


def valid(record: Any) -> bool:
    return bool(VALIDATOR.is_valid(record))


def changed(record: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the field at a dotted path replaced."""
    result = copy.deepcopy(record)
    *parents, last = path.split(".")
    place = result
    for name in parents:
        place = place[name]
    place[last] = value
    return result


def complete_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


class Schema(unittest.TestCase):
    def check_file(self, path: Path) -> None:
        for number, line in enumerate(complete_lines(path), start=1):
            error = jsonschema.exceptions.best_match(VALIDATOR.iter_errors(json.loads(line)))
            if error is not None:
                self.fail(f"{path}:{number}: {error.json_path}: {error.message[:200]}")
        rows.read_file(path)

    def test_schema_itself(self) -> None:
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        statuses = SCHEMA["$defs"]["cell"]["properties"]["status"]["enum"]
        self.assertEqual(sorted(statuses), sorted(rows.STATUSES))

    def test_synthetic_rows(self) -> None:
        records = [synthetic.run(), synthetic.run("cpu"), *synthetic.sweep("readme"),
                   *synthetic.sweep("small"), *synthetic.matrix()]
        for record in records:
            VALIDATOR.validate(record)

    def test_every_field_is_required_and_none_is_added(self) -> None:
        for record in (synthetic.run(),
                       synthetic.cell("mma_sm80", "bench", "readme", SHAPE)):
            for field in record:
                short = {name: value for name, value in record.items() if name != field}
                self.assertFalse(valid(short), field)
            self.assertFalse(valid(record | {"extra": 1}))

    def test_rules_of_each_status(self) -> None:
        ok = synthetic.cell("mma_sm80", "bench", "readme", SHAPE)
        refused = synthetic.cell("mma_sm80", "bench", "readme", SHAPE, "UNSUPPORTED")
        wrong = synthetic.cell("mma_sm80", "bench", "readme", SHAPE, "INCORRECT")
        noisy = synthetic.cell("mma_sm80", "bench", "readme", SHAPE, "NOISY")
        verified = synthetic.cell("mma_sm80", "verify", "edge", SHAPE)
        for record in (ok, refused, wrong, noisy, verified):
            self.assertTrue(valid(record))
        for record, path, value in (
            (ok, "time", None), (ok, "check", None), (ok, "mem", None), (ok, "status", "FINE"),
            (ok, "check.before", False), (ok, "check.after", None), (ok, "check.after", False),
            (ok, "check.nerr_max", 1.5), (ok, "check.nerr_max", None), (ok, "math", None),
            (ok, "check.bit_stable", False), (ok, "mode", "verify"),
            (ok, "time.cold.median", 0), (ok, "shape.B", -1), (ok, "shape.B", "1"),
            (ok, "shape", {"B": 1}), (ok, "options.mask", "diagonal"), (ok, "sol.bound", "luck"),
            (refused, "reason", None), (refused, "reason", ""), (refused, "time", ok["time"]),
            (refused, "sol", ok["sol"]), (wrong, "reason", None), (noisy, "reason", None),
            (noisy, "time", None), (verified, "time", ok["time"]),
        ):
            self.assertFalse(valid(changed(record, path, value)), f"{path} = {value}")
        for record, path, value in (
            (ok, "suite", None), (ok, "time.hot", None), (ok, "mem.hidden", None),
            (ok, "options.q_strides", "64:32:1:1"), (verified, "check.after", None),
            (wrong, "check.nerr_max", None), (wrong, "check", None),
            (ok | {"deterministic": False}, "check.bit_stable", False),
            (refused | {"status": "NOT_BUILT", "math": None, "class": None,
                        "deterministic": None}, "device", None),
        ):
            self.assertTrue(valid(changed(record, path, value)), f"{path} = {value}")

    def test_run_line(self) -> None:
        run = synthetic.run()
        for path, value in (("schema", 2), ("utc", "21 November"), ("git.sha", "main"),
                            ("device.kind", "tpu"), ("ceilings.copy_Bps", 0),
                            ("ceilings", {}), ("host.user", "someone")):
            self.assertFalse(valid(changed(run, path, value)), f"{path} = {value}")

    def test_comparisons(self) -> None:
        called = synthetic.comparison("mma_sm80", "wgmma_sm90", "readme", SHAPE)
        undecided = synthetic.comparison("mma_sm80", "wgmma_sm90", "readme", SHAPE, 1.001,
                                         "UNDECIDED")
        failed = synthetic.comparison("mma_sm80", "wgmma_sm90", "readme", SHAPE, None,
                                      status="INCORRECT")
        quick = synthetic.comparison("mma_sm80", "wgmma_sm90", "readme", SHAPE,
                                     level="provisional")
        end = synthetic.session_end()
        doubtful = synthetic.session_end(doubts=["the sentinel drifted by 3.0 %"])
        for record in (called, undecided, failed, quick, end, doubtful):
            VALIDATOR.validate(record)
            for field in record:
                short = {name: value for name, value in record.items() if name != field}
                self.assertFalse(valid(short), field)
            self.assertFalse(valid(record | {"extra": 1}))
        cut = called["runs"][0][0] | {"ns": [1000] * 19}
        for record, path, value in (
            (called, "verdict", "BETTER"), (called, "ratio", None), (called, "ratio", 0),
            (called, "ci99", None), (called, "ci99", [0.9]), (called, "p", None),
            (called, "p", 1.5), (called, "level", "sure"), (called, "status", "UNCHECKED"),
            (called, "status", "NOISY"), (called, "processes", 4), (called, "blocks", 39),
            (called, "runs", [[]]), (called, "runs", [[cut]]), (called, "clock.a_mhz", 0),
            (called, "shape", {"B": 1}), (called, "cache", "warm"), (called, "delta", 0),
            (quick, "blocks", 11), (failed, "reason", None), (failed, "verdict", "FASTER"),
            (failed, "ratio", 0.9), (failed, "runs", called["runs"]),
            (end, "doubts", ["why"]), (end, "proven", False), (doubtful, "proven", True),
            (end, "worst", None), (end, "slower_share", None), (end, "slower_share", 1.1),
            (end, "sentinel", [300000]), (end, "event", "lunch"), (end, "withdrawn", ["?"]),
        ):
            self.assertFalse(valid(changed(record, path, value)), f"{path} = {value}")
        for record, path, value in (
            (undecided, "ci99", None), (undecided, "processes", 2), (called, "clock", None),
            (called, "clock.cycles", {"ratio": 0.9, "ci99": [0.89, 0.91]}),
            (called | {"verdict": "UNDECIDED"}, "status", "UNCHECKED"),
            (quick, "status", "UNCHECKED"), (end, "geometric_mean.ci99", None),
        ):
            self.assertTrue(valid(changed(record, path, value)), f"{path} = {value}")

    def test_committed_rows(self) -> None:
        for path in sorted((ROOT / "results").glob("*/*/rows.jsonl")):
            with self.subTest(path.relative_to(ROOT)):
                self.check_file(path)

    def test_rows_of_the_harness(self) -> None:
        program = os.environ.get("ATTNBENCH", "")
        if not Path(program).is_file():
            self.skipTest("ATTNBENCH names no program")
        sizes = "--B 2 --H 2 --M 17 --N 33 --D 16 --dtype f32,f16 --mask none,causal".split()
        quick = {"verify": [], "bench": ["--sample-seconds", "0.02"]}
        with tempfile.TemporaryDirectory() as folder:
            for mode in ("verify", "bench"):
                subprocess.run([program, mode, "colreduce", *sizes, *quick[mode], "--out", folder],
                               check=True, capture_output=True, timeout=300)
            (path,) = Path(folder).rglob("rows.jsonl")
            self.check_file(path)
            modes = {cell.mode for cell in rows.read_file(path)}
        self.assertEqual(modes, {"verify", "bench"})


if __name__ == "__main__":
    unittest.main()
