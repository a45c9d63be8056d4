"""The two doors, `make test` and `make reproduce`, with stand-ins for the programs that they call.

A copy of tools/ runs in a temporary project; apt-get, sudo, ctest and attnbench are scripts that
write down how they were called.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Doors(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name) / "project"
        self.bin = Path(folder.name) / "bin"
        self.log = Path(folder.name) / "calls"
        self.bin.mkdir()
        shutil.copytree(ROOT / "tools", self.root / "tools")
        shutil.copy(ROOT / "Makefile", self.root / "Makefile")
        (self.root / "plots").mkdir()
        self.log.touch()

    def script(self, path: Path, body: str = "") -> None:
        """A stand-in that writes its name and arguments to the log and then runs `body`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{path.name} $*" >>"{self.log}"\n{body}\n')
        path.chmod(0o755)

    def python(self, body: str = "") -> None:
        """The project's Python: it has every package, and writes down what it should run."""
        self.script(self.root / ".venv/bin/python",
                    f'case "$1" in -) exec {sys.executable} -c "";; esac\n{body}')

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()

    def called(self, program: str) -> list[str]:
        return [c for c in self.calls() if c.startswith(program) and not c.startswith("python - ")]

    def run_tool(self, name: str, *args: str,
                 **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {k: v for k, v in os.environ.items() if not k.startswith("ATTN_")}
        settings |= {"PATH": f"{self.bin}:{settings['PATH']}", **environment}
        return subprocess.run([self.root / "tools" / name, *args], env=settings, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)


class Bootstrap(Doors):
    def setUp(self) -> None:
        super().setUp()
        for name in ("apt-get", "sudo"):
            self.script(self.bin / name, "exit 1")

    def be(self, user: int) -> None:
        (self.bin / "id").write_text(f"#!/bin/sh\necho {user}\n")
        (self.bin / "id").chmod(0o755)

    def assert_one_sentence(self, text: str, *words: str) -> None:
        self.assertEqual(text.count("\n"), 1, text)
        for word in words:
            self.assertIn(word, text)

    def test_does_nothing_when_all_is_there(self) -> None:
        done = self.run_tool("bootstrap.sh", ATTN_OFFLINE="1", ATTN_TORCH="OFF")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertEqual(self.calls(), [])
        self.assertFalse((self.root / ".venv").exists())

    def test_offline_names_what_is_missing(self) -> None:
        done = self.run_tool("bootstrap.sh", ATTN_OFFLINE="1", CXX="no-such-compiler")
        self.assertEqual(done.returncode, 1)
        self.assert_one_sentence(done.stderr, "g++", "libgtest-dev", "ATTN_OFFLINE=1")
        self.assertEqual(self.calls(), [])

    def test_a_user_without_rights_is_told_the_packages(self) -> None:
        self.be(1000)
        done = self.run_tool("bootstrap.sh", CXX="no-such-compiler")
        self.assertEqual(done.returncode, 1)
        self.assert_one_sentence(done.stderr, "root", "g++", "libfmt-dev")
        self.assertEqual(self.calls(), ["sudo -n true"])

    def test_root_installs_and_failure_is_one_sentence(self) -> None:
        self.be(0)
        done = self.run_tool("bootstrap.sh", CXX="no-such-compiler")
        self.assertEqual(done.returncode, 1)
        self.assert_one_sentence(done.stderr, "could not install", "g++")
        self.assertEqual(len(self.calls()), 2)
        self.assertRegex(self.calls()[1], r"apt-get install .*\bg\+\+ .*libfmt-dev")

    def test_an_installation_that_does_not_help_is_an_error(self) -> None:
        self.be(0)
        self.script(self.bin / "apt-get")
        done = self.run_tool("bootstrap.sh", CXX="no-such-compiler")
        self.assertEqual(done.returncode, 1)
        self.assert_one_sentence(done.stderr, "Still missing", "g++")

    def blas(self, folder: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A system with all that is needed, libtorch-dev and the BLAS of that folder."""
        self.be(0)
        self.script(self.bin / "apt-get")
        (self.bin / "readlink").write_text(
            f'#!/bin/sh\ncase "$*" in *libblas*) echo /usr/lib/{folder}/libblas.so.3;; '
            f'*) exec {shutil.which("readlink")} "$@";; esac\n')
        (self.bin / "readlink").chmod(0o755)
        # A Python with every package, so that none is installed.
        self.python('case "$1" in *find_torch.py) exec python3 "$@";; esac')
        (self.root / "tools/find_torch.py").write_text('print("version=1.13.0\\nroot=/usr")\n')
        return self.run_tool("bootstrap.sh", **environment)

    def test_a_packaged_libtorch_gets_an_optimised_blas(self) -> None:
        self.assertEqual(self.blas("blas").returncode, 0)
        self.assertRegex(self.calls()[-1], r"apt-get install .*\blibopenblas0-pthread$")

    def test_an_optimised_blas_is_left_alone(self) -> None:
        self.assertEqual(self.blas("openblas-pthread").returncode, 0)
        self.assertEqual(self.called("apt-get"), [])

    def test_offline_the_reference_blas_is_only_named(self) -> None:
        done = self.blas("blas", ATTN_OFFLINE="1")
        self.assertEqual((done.returncode, self.called("apt-get")), (0, []))
        self.assertIn("libopenblas0-pthread", done.stdout)

    def torch(self, pip: str = "exit 1", wheel: bool = False,
              **environment: str) -> subprocess.CompletedProcess[str]:
        """A system without a GPU and with all that is needed but torch, and that pip."""
        self.be(0)
        self.script(self.bin / "apt-get")
        self.script(self.bin / "nvidia-smi", "exit 9")
        self.script(self.root / ".venv/bin/python",
                    f'case "$*" in "- 2.4") exit {int(not wheel)};; "-m pip"*) {pip};; '
                    '*find_torch.py) exit 1;; esac')
        return self.run_tool("bootstrap.sh", **environment)

    def test_torch_comes_by_pip_from_the_index_without_cuda(self) -> None:
        self.assertEqual(self.torch("exit 0").returncode, 0)
        (call,) = self.called("python -m pip")
        self.assertTrue(
            call.endswith("torch>=2.4 --index-url https://download.pytorch.org/whl/cpu"), call)
        self.assertEqual(self.called("apt-get"), [])

    def test_without_it_libtorch_comes_by_apt(self) -> None:
        done = self.torch()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(self.called("python -m pip")), 2)
        self.assertTrue(self.called("apt-get")[-1].endswith("libtorch-dev"), self.calls())
        self.assertIn("torch 2.4", done.stdout)

    def test_torch_is_left_alone_where_it_is_there_or_nobody_wants_it(self) -> None:
        for environment in ({"wheel": True}, {"ATTN_OFFLINE": "1"}, {"ATTN_TORCH": "OFF"}):
            with self.subTest(environment):
                self.assertEqual(self.torch(**environment).returncode, 0)
                self.assertEqual(self.called("python -m pip") + self.called("apt-get"), [])


class Test(Doors):
    def door(self, ctest: str) -> subprocess.CompletedProcess[str]:
        for name in ("bootstrap.sh", "build.sh"):
            self.script(self.root / "tools" / name)
        self.script(self.bin / "ctest", ctest)
        (self.root / "build").mkdir()
        return self.run_tool("test.sh")

    def test_ends_with_the_summary(self) -> None:
        summary = "100% tests passed, 0 tests failed out of 7"
        done = self.door(f'echo "{summary}"; echo "Total Test time"; echo "did not run: 3"')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.splitlines()[-1], summary)
        self.assertEqual([c.split()[0] for c in self.calls()],
                         ["bootstrap.sh", "build.sh", "ctest"])

    def test_failure_is_passed_on(self) -> None:
        summary = "86% tests passed, 1 tests failed out of 7"
        done = self.door(f'echo "{summary}"; exit 8')
        self.assertEqual(done.returncode, 8)
        self.assertEqual(done.stdout.splitlines()[-1], summary)

    def test_no_summary_is_a_failure(self) -> None:
        self.assertNotEqual(self.door("exit 0").returncode, 0)


class Reproduce(Doors):
    def door(self, attnbench: str = "", gpu: bool = False, build: str = "",
             **environment: str) -> subprocess.CompletedProcess[str]:
        self.script(self.root / "tools/bootstrap.sh")
        self.script(self.root / "tools/build.sh", build)
        self.script(self.root / "build/attnbench", attnbench)
        cache = f"ATTN_WITH_CUDA_BUILT:INTERNAL={int(gpu)}\n"
        (self.root / "build/CMakeCache.txt").write_text(cache)
        answer = 'case "$1" in -L) echo "GPU 0: NVIDIA H200";; *) echo "NVIDIA H200";; esac'
        self.script(self.bin / "nvidia-smi", answer if gpu else "exit 9")
        self.python()
        for place in ("nvidia-h200/20260101T000000Z_1234567", "cpu/20260101T000000Z_1234567"):
            (self.root / "results" / place).mkdir(parents=True)
            (self.root / "results" / place / "rows.jsonl").touch()
        return self.run_tool("reproduce.sh", **environment)

    def budgets(self) -> list[int]:
        return [int(re.search(r"--time-budget (\d+)s", c)[1]) for c in self.called("attnbench")]

    def test_with_a_gpu(self) -> None:
        done = self.door(gpu=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        verify, bench = self.called("attnbench")
        self.assertIn("verify colreduce --suite edge", verify)
        self.assertIn("bench colreduce --suite readme", bench)
        self.assertEqual(self.called("python"), [
            "python plots/draw_all.py --device nvidia-h200 --out plots",
            "python plots/readme_tables.py --device nvidia-h200"])

    def test_without_a_gpu_readme_is_left_alone(self) -> None:
        done = self.door()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("bench colreduce --suite small", self.called("attnbench")[1])
        self.assertEqual(self.called("python"), [
            "python plots/draw_all.py --device cpu --out build/plots",
            "python plots/draw_all.py --device nvidia-h200 --out plots"])

    def test_the_runs_share_the_budget(self) -> None:
        self.door(ATTN_BUDGET_S="570")
        verify, bench = self.budgets()
        self.assertLessEqual(verify, 285)
        self.assertLessEqual(bench, 540)
        self.assertGreaterEqual(bench, 500)  # the stand-in of verify took no time

    def test_after_a_long_build_the_runs_still_get_their_share(self) -> None:
        self.door(ATTN_BUDGET_S="10")
        verify, bench = self.budgets()
        self.assertEqual(verify, 120)
        self.assertGreaterEqual(bench, 235)

    def test_an_incorrect_cell_is_drawn_and_fails_at_the_end(self) -> None:
        done = self.door('case "$1" in verify) exit 1;; esac')
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(self.called("attnbench")), 2)
        self.assertEqual(len(self.called("python")), 2)

    def test_a_usage_error_stops(self) -> None:
        done = self.door("exit 2")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(self.called("attnbench")), 1)
        self.assertIn("exit code 2", done.stderr)

    def test_new_rows_are_named(self) -> None:
        rows = self.root / "results/cpu/20260102T000000Z_1234567/rows.jsonl"
        done = self.door(f'sleep 0.05; mkdir -p "{rows.parent}"; touch "{rows}"')
        self.assertIn("new rows: results/cpu/20260102T000000Z_1234567/rows.jsonl", done.stdout)


class Sanitize(Doors):
    def run_it(self, body: str = "") -> subprocess.CompletedProcess[str]:
        self.script(self.bin / "compute-sanitizer", body)
        return self.run_tool("sanitize.sh")

    def test_all_four_tools_run_over_every_kernel(self) -> None:
        self.assertEqual(self.run_it().returncode, 0)
        calls = self.called("compute-sanitizer")
        self.assertEqual([re.search(r"--tool (\w+)", call)[1] for call in calls],
                         ["memcheck", "racecheck", "synccheck", "initcheck"])
        listed = (ROOT / "impls" / "colreduce" / "backends.cpp").read_text()
        for call in calls:
            self.assertIn("--in-process", call)
            for backend in re.findall(r"^  ATTN_BACKEND_(?:CUDA|SM90)\((\w+)\)", listed, re.M):
                self.assertIn(backend, call)

    def test_a_finding_fails(self) -> None:
        result = self.run_it('case "$*" in *synccheck*) exit 3;; esac')
        self.assertEqual(result.returncode, 3)
        self.assertEqual(len(self.called("compute-sanitizer")), 3)


class Make(unittest.TestCase):
    @unittest.skipUnless(shutil.which("make"), "make is not installed")
    def test_help_names_the_doors(self) -> None:
        text = subprocess.run(["make", "-s", "-C", ROOT, "help"], text=True, capture_output=True,
                              check=True).stdout
        for target in ("test", "reproduce", "build", "format", "clean"):
            self.assertIn(f"make {target}", text)


if __name__ == "__main__":
    unittest.main()
