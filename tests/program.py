"""What tests of the program from outside share: a folder to run it in, and its rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "plots")]

import rows  # noqa: E402

try:
    import jsonschema
except ImportError:
    jsonschema = None

BINARY = os.environ.get("ATTNBENCH", "")
Record = dict[str, Any]


class ProgramTest(unittest.TestCase):
    """Runs $ATTNBENCH in a folder of its own, with rows in out/rows.jsonl."""

    environment: dict[str, str] = {}  # of the program, besides the test's

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.path = self.root / "out" / "rows.jsonl"

    def run_it(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([BINARY, *words], cwd=self.root, text=True, capture_output=True,
                              check=False, timeout=500, env=os.environ | self.environment)

    def records(self, kind: str) -> list[Record]:
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [line for line in lines if line["type"] == kind]

    def refused(self, sentence: str, *words: str) -> None:
        """Exit code 2, and one sentence at the end of stderr."""
        result = self.run_it(*words)
        self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
        last = result.stderr.strip().splitlines()[-1]
        self.assertTrue(last.startswith("attnbench: "), result.stderr)
        self.assertIn(sentence, last)

    def validate(self) -> None:
        """Every line of the rows, by the reader of the plots and by the schema."""
        rows.read_file(self.path)
        if jsonschema is None:
            return
        schema = json.loads((ROOT / "results" / "row.schema.json").read_text(encoding="utf-8"))
        validator = jsonschema.Draft202012Validator(schema)
        for line in self.path.read_text().splitlines():
            validator.validate(json.loads(line))


def main() -> None:
    """Runs the tests of the script, or skips them all where there is no program."""
    if not BINARY:
        print("skipped: $ATTNBENCH does not name the program")
        sys.exit(77)
    unittest.main()
