"""The installed library for C++: `cmake --install`, and the project under examples/find_package
built against it and run, out of the source tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = Path(os.environ.get("ATTNBENCH_LIBRARY", ""))


class Install(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def run_it(self, *words: str | Path) -> str:
        done = subprocess.run(words, cwd=self.root, text=True, capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, f"{words}\n{done.stdout}{done.stderr}")
        return done.stdout

    def test_a_project_of_its_own_builds_and_runs_against_it(self) -> None:
        self.run_it("cmake", "--install", LIBRARY.parent, "--prefix", "prefix")
        self.assertEqual(sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*.so")),
                         ["prefix/lib/libattnbench.so"])
        shutil.copytree(ROOT / "examples" / "find_package", self.root / "source")
        launcher = shutil.which("ccache")
        options = [f"-DCMAKE_CXX_COMPILER_LAUNCHER={launcher}"] if launcher else []
        self.run_it("cmake", "-S", "source", "-B", "build",
                    "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror",
                    f"-DCMAKE_PREFIX_PATH={self.root / 'prefix'}", *options)
        self.run_it("cmake", "--build", "build")
        answer = self.run_it(self.root / "build" / "key_scores")
        self.assertIn("sum of all scores 128", answer)
        self.assertIn("reduction must be one of sum, mean, max, not 'median'", answer)
        self.assertIn("loss before", self.run_it(self.root / "build" / "depth_network"))

    def test_nothing_but_the_interface_is_exported(self) -> None:
        names = subprocess.run(["nm", "-DC", "--defined-only", LIBRARY], text=True,
                               capture_output=True, check=True).stdout
        shown = [line.split(" ", 2)[2] for line in names.splitlines()]
        for function in ("colreduce", "attnres_mix", "attnres_network"):
            self.assertIn(f"attnbench::{function}(", "".join(shown))
        self.assertEqual([s for s in shown if not s.startswith(("attnbench::", "attnbench_"))], [])


if __name__ == "__main__":
    if not LIBRARY.is_file():
        print("skipped: $ATTNBENCH_LIBRARY does not name the library")
        sys.exit(77)
    if b"attnbench::colreduce" not in LIBRARY.read_bytes():
        print("skipped: the library was built without PyTorch 2.4 or newer")
        sys.exit(77)
    unittest.main()
