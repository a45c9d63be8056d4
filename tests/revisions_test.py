"""`compare id@revision`: backends of two git revisions in one process, from a repository made here.

$ATTNBENCH names the program. The repository holds this source tree with cpu_reference as its only
backend, so that a revision compiles in seconds; one commit makes it several times slower.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import program  # noqa: E402
from program import ROOT  # noqa: E402

ORACLE_CALL = "    const ColReduce::Reference reference = ColReduce::oracle(p, tensors);\n"
SLOW_DOWN = "    for (int i = 0; i < 5; ++i) ColReduce::oracle(p, tensors);\n"
CELL = ["--device", "cpu", "--cache", "hot", "--M", "32", "--N", "64", "--D", "16"]


class Repository:
    """The commits: `empty` (no sources), `quick`, `slow`, `broken`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "-q")
        self.commits = {"empty": self.commit("empty")}
        self.copy_sources()
        self.commits["quick"] = self.commit("quick")
        source = folder / "impls" / "colreduce" / "cpu_reference.cpp"
        text = source.read_text()
        assert text.count(ORACLE_CALL) == 1
        source.write_text(text.replace(ORACLE_CALL, SLOW_DOWN + ORACLE_CALL))
        self.commits["slow"] = self.commit("slow")
        source.write_text("no C++")
        self.commits["broken"] = self.commit("broken")

    def git(self, *words: str) -> str:
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        return subprocess.run(["git", *identity, *words], cwd=self.folder, text=True, check=True,
                              capture_output=True).stdout.strip()

    def commit(self, name: str) -> str:
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", name)
        return self.git("rev-parse", "HEAD")

    def copy_sources(self) -> None:
        for name in ("CMakeLists.txt", "examples", "harness", "reference", "tests", "tools",
                     "impls/common"):
            source, target = ROOT / name, self.folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("attnres*"))
            else:
                shutil.copy(source, target)
        operators = self.folder / "harness" / "operators.cpp"  # one is enough to compare
        operators.write_text("".join(line for line in operators.read_text().splitlines(True)
                                     if "attnres" not in line.lower()))
        own = self.folder / "impls" / "colreduce"
        own.mkdir()
        shutil.copy(ROOT / "impls" / "colreduce" / "cpu_reference.cpp", own)
        backends = (ROOT / "impls" / "colreduce" / "backends.cpp").read_text()
        (own / "backends.cpp").write_text(
            re.sub(r"(#define ATTN_COLREDUCE_BACKENDS).*?(?=\n\n)",
                   r"\1 ATTN_BACKEND_HOST(cpu_reference)", backends, flags=re.DOTALL))


class Revisions(program.ProgramTest):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.repository = Repository(Path(folder.name))
        # One thread: beside other programs a cell so small would measure how threads meet.
        cls.environment = {"ATTN_REPOSITORY": folder.name, "ATTN_CUDA": "OFF",
                           "OMP_NUM_THREADS": "1"}

    def test_two_revisions_of_a_backend_are_compared_in_one_process(self) -> None:
        words = ["compare", "cpu_reference@HEAD~2", "cpu_reference@HEAD~1", *CELL,
                 "--cell-seconds", "4", "--out", "out"]
        first = self.run_it(*words)
        self.assertIn(first.returncode, (0, 1), first.stderr)
        names = [f"cpu_reference@{self.repository.commits[name][:7]}" for name in ("quick", "slow")]
        self.assertIn(f"A {names[0]}, B {names[1]}, provisional", first.stdout)
        (row,) = [row for row in self.records("compare") if not row["control"]]
        self.assertEqual((row["backend_a"], row["backend_b"]), tuple(names))
        self.assertEqual(row["status"], "OK", row["reason"])
        self.assertGreater(row["ratio"], 1.5, "the second revision does the work six times")
        cells = {cell["backend"]: cell for cell in self.records("cell")}
        self.assertEqual(len({cells[name]["plugin"]["hash"] for name in names}), 2)
        self.assertEqual(cells[names[0]]["check"]["nerr_max"], cells[names[1]]["check"]["nerr_max"])
        self.validate()
        self.assertEqual(first.stderr.count("building the backends of"), 2)

        verified = self.run_it("verify", "colreduce", "--backend", "cpu_reference@HEAD~2", *CELL[:2],
                               "--M", "5", "--out", "out")
        self.assertEqual(verified.returncode, 0, verified.stderr)
        self.assertNotIn("building", verified.stderr, "what was built is there")

    def test_what_cannot_be_built_is_one_sentence(self) -> None:
        for sentence, arm in {
            "there is no git revision 'v9' in": "cpu_reference@v9",
            "there is no git revision '--all' in": "cpu_reference@--all",
            "predates harness/plugin/export.cpp: its backends cannot be built":
                f"cpu_reference@{self.repository.commits['empty']}",
            "revision 'HEAD' does not build: see ": "cpu_reference@HEAD",
            "there is no backend 'cpu_fused@": "cpu_fused@HEAD~2",
        }.items():
            with self.subTest(sentence):
                self.refused(sentence, "compare", arm, "cpu_reference", *CELL)


if __name__ == "__main__":
    program.main()
