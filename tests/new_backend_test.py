"""tools/new_backend: what it writes is right as it stands, and is known everywhere by its list line.

$ATTNBENCH names the program, whose build folder lends its object files: the scratch copy of the tree
compiles the new files and the list alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = os.environ.get("ATTNBENCH", "")
LIST = "impls/colreduce/backends.cpp"
HOST, DEVICE = "first_try", "second_try"
# What the scratch build takes over. LibTorch is left out: linking it takes longer than the rest.
KEPT = re.compile(r"(ATTN_(CUDA|ARCHS|NVCC|WERROR|PYTHON)"
                  r"|CMAKE_(BUILD_TYPE|PREFIX_PATH|(CXX|CUDA)_(COMPILER|FLAGS\w*|HOST_COMPILER))"
                  r"|(fmt|nlohmann_json|CLI11|benchmark|GTest)_DIR):.*")


def copy_tree(target: Path) -> None:
    shutil.copy(ROOT / "CMakeLists.txt", target)
    for name in ("examples", "harness", "impls", "reference", "tests", "tools"):
        shutil.copytree(ROOT / name, target / name,
                        ignore=shutil.ignore_patterns("__pycache__"))


class Scratch(unittest.TestCase):
    """A copy of the tree for each test."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = Path(folder.name)
        copy_tree(self.tree)

    def new_backend(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, self.tree / "tools" / "new_backend", *words],
                              text=True, capture_output=True, check=False)


class Names(Scratch):
    def test_a_bad_name_is_refused_and_nothing_is_written(self) -> None:
        before = {path: path.read_bytes() for path in self.tree.rglob("*") if path.is_file()}
        for sentence, words in {
            "there is a 'fused_simt' in impls/colreduce already": ["fused_simt"],
            "there is a 'libtorch' in": ["libtorch"],
            "there is a 'key_splits' in": ["key_splits"],
            "'My-kernel' is no identifier": ["My-kernel"],
            "'kernel.cu' is no identifier": ["kernel.cu"],
            "'2nd' is no identifier": ["2nd"],
            "'' is no identifier": [""],
            "'while' means something in C++": ["while", "--cpp"],
            "'supports' means something in C++ or in the template": ["supports"],
            "files *_sm90.cu are compiled for sm_90a": ["kernel_sm90", "--cpp"],
            "files *_none.* are those": ["kernel_none", "--cpp"],
            "files *_cuda.* are those": ["kernel_cuda"],
            "files libtorch*.cpp": ["libtorch_kernel", "--cpp"],
        }.items():
            with self.subTest(sentence):
                result = self.new_backend(*words)
                self.assertEqual(result.returncode, 2)
                self.assertEqual(result.stderr.count("\n"), 1)
                self.assertIn(sentence, result.stderr)
        after = {path: path.read_bytes() for path in self.tree.rglob("*") if path.is_file()}
        self.assertEqual(after, before)

    def test_the_suffix_decides_the_kind_of_the_list_line(self) -> None:
        words = {"ATTN_BACKEND_CUDA(kernel)": ["kernel"],
                 "ATTN_BACKEND_SM90(a_kernel_with_a_long_name_sm90)":
                     ["a_kernel_with_a_long_name_sm90"],
                 "ATTN_BACKEND_HOST(kernel_of_the_host)": ["kernel_of_the_host", "--cpp"]}
        before = (self.tree / LIST).read_text().split()
        for name in words.values():
            self.assertEqual(self.new_backend(*name).returncode, 0)
        added = [word for word in (self.tree / LIST).read_text().split() if word not in before]
        self.assertEqual(added, list(words))
        for file in ("kernel.cu", "a_kernel_with_a_long_name_sm90.cu", "kernel_of_the_host.cpp"):
            text = (self.tree / "impls" / "colreduce" / file).read_text()
            self.assertIn(f'.id = "{file.split(".", maxsplit=1)[0]}"', text)
            self.assertNotIn("new_backend", text)
        formatter = shutil.which("clang-format-14")
        if formatter:
            subprocess.run([formatter, "--dry-run", "-Werror", f"--style=file:{ROOT}/.clang-format",
                            *sorted((self.tree / "impls" / "colreduce").glob("*kernel*")),
                            self.tree / LIST], check=True)


@unittest.skipUnless(BINARY and shutil.which("make"), "needs $ATTNBENCH and make")
class IsKnownEverywhere(Scratch):
    def setUp(self) -> None:
        super().setUp()
        self.main_build = Path(BINARY).resolve().parent
        self.cache = (self.main_build / "CMakeCache.txt").read_text().splitlines()
        self.with_cuda = "ATTN_WITH_CUDA_BUILT:INTERNAL=1" in self.cache
        self.build = self.tree / "build"

    def build_it(self) -> None:
        options = [f"-D{line}" for line in self.cache if KEPT.fullmatch(line)]
        subprocess.run(["cmake", "-G", "Unix Makefiles", "-S", self.tree, "-B", self.build, *options,
                        "-DATTN_TORCH=OFF"], check=True, capture_output=True)
        # Newer than what configuring wrote, so that make has nothing to do for them.
        lent = [path.relative_to(self.main_build)
                for path in (self.main_build / "CMakeFiles").rglob("*.o")
                if re.match(r"attn_(host|cuda|sm90)\.dir|attnbench\.dir",
                            str(path.relative_to(self.main_build / "CMakeFiles")))]
        for path in lent:
            if path.name != "backends.cpp.o":  # which may list libtorch, left out here
                (self.build / path.parent).mkdir(parents=True, exist_ok=True)
                shutil.copy(self.main_build / path, self.build / path)
        made = subprocess.run(["cmake", "--build", self.build, "--target", "attnbench", "-j2"],
                              text=True, capture_output=True, check=False)
        self.assertEqual(made.returncode, 0, made.stdout + made.stderr)
        compiled = re.findall(r"Building \w+ object \S+/(\S+)\.o", made.stdout)
        self.assertEqual(set(compiled), {"backends.cpp", f"{HOST}.cpp",
                                         *([f"{DEVICE}.cu"] if self.with_cuda else [])})

    def run_it(self, *words: str) -> str:
        result = subprocess.run([self.build / "attnbench", *words], cwd=self.tree, text=True,
                                capture_output=True, check=False, timeout=300)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def statuses(self, out: str, backend: str) -> list[str]:
        path = self.tree / "results" / out / "rows.jsonl"
        cells = [json.loads(line) for line in path.read_text().splitlines()]
        return [cell["status"] for cell in cells if cell.get("backend") == backend]

    def test_with_no_other_edit_than_its_list_line(self) -> None:
        self.assertEqual(self.new_backend(HOST, "--cpp").returncode, 0)
        self.assertEqual(self.new_backend(DEVICE).returncode, 0)
        self.build_it()
        listed = self.run_it("list")
        self.assertRegex(listed, f"\n    {HOST} +one query after the other, on one thread\n")
        self.assertRegex(listed, f"\n    {DEVICE} +" + (
            "a dot product at a time on CUDA cores" if self.with_cuda else "NOT_BUILT"))

        matrix = ["verify", "colreduce", "--suite", "edge", "--where", "M<=70 && N<=70 && B<=8"]
        self.run_it(*matrix, "--backend", HOST, "--device", "cpu", "--out", "results/cpu/matrix")
        passed = self.statuses("cpu/matrix", HOST)
        self.assertGreater(passed.count("OK"), 50)
        self.assertLessEqual(set(passed), {"OK", "UNSUPPORTED"})
        self.run_it(*matrix, "--backend", DEVICE, "--out", "results/any/matrix")
        self.assertLessEqual(set(self.statuses("any/matrix", DEVICE)),
                             {"OK", "UNSUPPORTED"} if self.with_cuda else {"NOT_BUILT"})

        self.run_it("bench", "colreduce", "--suite", "small", "--where", "N<=128",
                    "--backend", f"cpu_reference,{HOST}", "--sample-seconds", "0.01", "--device", "cpu",
                    "--out", "results/cpu/bench")
        self.assertEqual(set(self.statuses("cpu/bench", HOST)), {"OK"})
        compared = self.run_it("compare", HOST, HOST, "--device", "cpu", "--M", "8", "--N", "32",
                               "--cache", "hot", "--cell-seconds", "4", "--out",
                               "results/cpu/compare")
        self.assertIn(f"A {HOST}, B {HOST}, provisional", compared)
        self.draws_it()

    def draws_it(self) -> None:
        os.environ.setdefault("MPLBACKEND", "Agg")
        sys.path[:0] = [str(ROOT / "plots")]
        try:
            import correctness_matrix
            import readme_figure
        except ImportError as missing:
            self.skipTest(f"{missing}, so no figure was drawn")
        import rows
        found = rows.latest(self.tree / "results", "cpu")
        for figure in (correctness_matrix.figure(found), readme_figure.figure(found)):
            texts = [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]
            self.assertTrue(any(HOST in text for text in texts), texts)


if __name__ == "__main__":
    unittest.main()
