"""`python -m attnbench`: Python functions are verified, timed and compared like any other backend,
what is wrong with their answers is found, and a sweep survives them.

The library is $ATTNBENCH_LIBRARY, or build/libattnbench.so; without it, or without PyTorch, the
tests are skipped.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import program  # noqa: E402
from program import ROOT, Record  # noqa: E402

sys.path[:0] = [str(ROOT / "python")]

LIBRARY = Path(os.environ.get("ATTNBENCH_LIBRARY") or ROOT / "build" / "libattnbench.so")
SMALL = ["--device", "cpu", "--H", "2", "--M", "8", "--N", "24", "--D", "16"]

MODULE = '''
import ctypes, os, time
import torch
from attnbench.examples import eager

torch.set_num_threads(1)
print("this may not be taken for an answer")

def right(q, k, *, scale, mask, reduction, **options):
    """What is right."""
    return eager(q, k, scale=scale, mask=mask, reduction=reduction, **options)

def in_place(q, k, out, scale, mask, reduction):
    out.copy_(eager(q, k, scale=scale, mask=mask, reduction=reduction))

def sleepy(q, k, **options):
    time.sleep(0.05)
    return right(q, k, **options)

def scaled(q, k, **options):
    return 1.01 * right(q, k, **options)

KEPT = []
def stale(q, k, **options):
    KEPT.append(right(q, k, **options))
    return KEPT[0]

def outside(q, k, out, **options):
    ctypes.c_float.from_address(out.data_ptr() + 4 * out.numel()).value = 1
    return right(q, k, **options)

def spoils(q, k, **options):
    out = right(q, k, **options)
    k.zero_()
    return out

def raises(q, k, **options):
    raise ZeroDivisionError("the lake is empty.\\nlook at the river")

def dies(q, k, **options):
    os._exit(3)

def hangs(q, k, **options):
    if os.environ.get("STARTED"):
        open(os.environ["STARTED"], "w").close()
    while True:
        time.sleep(1)

def hoards(q, k, **options):
    return torch.empty(1 << 50)

def picky(q, k, **options):
    return right(q, k, **options)
def only_long_heads(D, **others):
    if D < 32:
        raise NotImplementedError("D must be at least 32.")
picky.supports = only_long_heads
picky.numerics = "fp32"
picky.math = "by hand"
picky.deterministic = True

def unmasked(q, k, *, scale):
    return eager(q, k, scale=scale)

number = 3
def vague(q, k): pass
vague.numerics = "about"
'''


class PythonTest(program.ProgramTest):
    environment = {"PYTHONPATH": str(ROOT / "python"), "ATTNBENCH_LIBRARY": str(LIBRARY)}

    def setUp(self) -> None:
        super().setUp()
        (self.root / "mine.py").write_text(MODULE)

    def run_it(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "attnbench", *words], cwd=self.root, text=True,
                              capture_output=True, check=False, timeout=500,
                              env=os.environ | self.environment)

    def cells(self) -> dict[str, Record]:
        """The last row of each backend."""
        return {cell["backend"]: cell for cell in self.records("cell")}


class Works(PythonTest):
    def test_it_passes_the_edge_cases_and_is_refused_what_it_does_not_take(self) -> None:
        result = self.run_it("verify", "colreduce", "--suite", "edge", "--device", "cpu", "--where",
                             "M<=20 && N<=100", "--out", "out", "--backend",
                             "mine:right,mine:in_place,mine:unmasked,mine:picky")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        found: dict[str, list[Record]] = {}
        for cell in self.records("cell"):
            found.setdefault(cell["backend"], []).append(cell)
        self.assertEqual(list(found), ["py_in_place", "py_picky", "py_right", "py_unmasked"])
        for backend in ("py_right", "py_in_place"):
            self.assertEqual({cell["status"] for cell in found[backend]}, {"OK"})
        self.assertGreater(len(found["py_right"]), 20)
        for backend, reasons in {
            "py_picky": {"D must be at least 32"},
            "py_unmasked": {"it has no parameter 'mask', and mask is causal",
                            "it has no parameter 'reduction', and reduction is max"},
        }.items():
            statuses = {cell["status"] for cell in found[backend]}
            self.assertEqual(statuses, {"OK", "UNSUPPORTED"}, backend)
            self.assertLessEqual(reasons, {cell["reason"] for cell in found[backend]}, backend)
        picky = next(cell for cell in found["py_picky"] if cell["status"] == "OK")
        self.assertEqual((picky["class"], picky["math"], picky["deterministic"]),
                         ("fp32_P", "by hand", True))
        self.validate()

    def test_a_time_budget_does_not_end_at_a_refused_cell_however_large(self) -> None:
        shapes = [f"B1H1M{M}N4096D{D}" for M, D in ((8, 32), (4000000, 16), (9, 32))]
        self.run_it("verify", "colreduce", "--backend", "mine:picky", "--device", "cpu",
                    *(word for shape in shapes for word in ("--shape", shape)),
                    "--time-budget", "100s", "--cell-limit", "1000", "--out", "out")
        self.assertEqual([(cell["shape"]["M"], cell["status"]) for cell in self.records("cell")],
                         [(8, "OK"), (4000000, "UNSUPPORTED"), (9, "OK")])

    def test_rows_time_and_name_the_function_and_repeat_the_cell(self) -> None:
        self.run_it("bench", "colreduce", "--backend", "mine:right", *SMALL, "--numerics", "fp32",
                    "--layout", "bshd", "--sample-seconds", "0.01", "--out", "out")
        cell = self.cells()["py_right"]
        self.validate()
        self.assertGreater(cell["time"]["cold"]["median"], 0)
        self.assertEqual((cell["status"], cell["class"]), ("OK", "fp32_P"), cell["reason"])
        self.assertEqual(cell["plugin"]["file"], "mine:right")
        self.assertTrue(cell["plan"].startswith("torch "), cell["plan"])
        words = cell["repro"].split()
        self.assertEqual(words[:5], ["python", "-m", "attnbench", "--numerics", "fp32"])
        (self.root / "mine.py").write_text(MODULE + "\n")
        self.run_it(*words[3:], "--out", "out")
        self.assertEqual(len({cell["key"] for cell in self.records("cell")}), 2)

    def test_it_is_compared_with_another_and_with_our_own(self) -> None:
        for a, b in (("mine:sleepy", "mine:right"), ("mine:right", "cpu_fused")):
            result = self.run_it("compare", a, b, *SMALL, "--cache", "hot", "--cell-seconds", "0.5",
                                 "--out", "out")
            self.assertIn(result.returncode, (0, 1, 4), result.stderr)
        faster, own = [row for row in self.records("compare") if not row["control"]]
        self.assertEqual((faster["backend_a"], faster["backend_b"]), ("py_sleepy", "py_right"))
        self.assertEqual(faster["verdict"], "FASTER", faster["reason"])
        self.assertEqual((own["status"], own["backend_b"]), ("OK", "cpu_fused"), own["reason"])
        self.assertIn("--plugin mine:sleepy", faster["repro"])
        self.assertIn("--plugin mine:right", faster["repro"])
        self.validate()

    @unittest.skipUnless(shutil.which(os.environ.get("CXX", "g++")), "there is no C++ compiler")
    def test_compiled_pytorch(self) -> None:
        self.run_it("verify", "colreduce", "--backend", "attnbench.examples:compiled", *SMALL,
                    "--dtype", "f32", "--mask", "causal", "--out", "out")
        cell = self.cells()["py_compiled"]
        self.assertEqual(cell["status"], "OK", cell["reason"])


class IsCaught(PythonTest):
    def test_wrong_ones_get_their_status_and_the_sweep_goes_on(self) -> None:
        expected = {
            "scaled": ("INCORRECT", " +- "),
            "stale": ("INCORRECT", " +- "),
            "outside": ("INCORRECT", "wrote outside out"),
            "spoils": ("INCORRECT", "changed its input k"),
            "raises": ("CRASH", "ZeroDivisionError: the lake is empty (mine.py:"),
            "dies": ("CRASH", "exit code 3"),
            "hangs": ("TIMEOUT", "no answer in 3 s"),
            "hoards": ("OOM", "memory ran out"),
            "unmasked": ("OK", ""),
        }
        result = self.run_it("verify", "colreduce", "--backend",
                             ",".join(f"mine:{name}" for name in expected), *SMALL,
                             "--timeout", "3", "--numerics", "fp32", "--out", "out")
        self.assertEqual(result.returncode, 1, result.stderr)
        cells = self.cells()
        self.assertEqual(len(cells), len(expected))
        for name, (status, reason) in expected.items():
            cell = cells[f"py_{name}"]
            self.assertEqual(cell["status"], status, f"{name}: {cell['reason']}")
            self.assertIn(reason, cell["reason"] or "", name)
        self.validate()

    def test_an_interrupt_ends_it_while_a_function_hangs(self) -> None:
        started = self.root / "started"
        sweep = subprocess.Popen([sys.executable, "-m", "attnbench", "verify", "colreduce",
                                  "--backend", "mine:hangs", *SMALL, "--out", "out"],
                                 cwd=self.root, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL,
                                 env=os.environ | self.environment | {"STARTED": str(started)})
        self.addCleanup(sweep.kill)
        for _ in range(600):
            if started.exists():
                break
            time.sleep(0.1)
        self.assertTrue(started.exists(), "the function was called")
        sweep.send_signal(signal.SIGINT)
        self.assertEqual(sweep.wait(timeout=10), -signal.SIGINT)


class IsListed(PythonTest):
    def test_with_its_first_words(self) -> None:
        listed = self.run_it("list", "--plugin", "mine:right").stdout
        self.assertRegex(listed, r"\n    py_right +What is right\.\n  suites\n")
        self.assertNotIn("taken for an answer", listed)


class IsRefused(PythonTest):
    def test_what_is_no_function(self) -> None:
        self.refused("there is no Python module 'nomodule' for 'nomodule:right'", "verify",
                     "colreduce", "--backend", "cpu_fused,nomodule:right", *SMALL)

    def test_what_is_in_a_module_and_no_backend(self) -> None:
        from attnbench import _callable
        self.addCleanup(sys.path.remove, str(self.root))
        sys.path.append(str(self.root))
        for name, sentence in {
            "mine:nothing": "module 'mine' has no 'nothing'",
            "mine:number": "'mine:number' is no function",
            "mine:vague": "'mine:vague' has numerics 'about', not one of fp64, fp32,",
        }.items():
            with self.subTest(name), self.assertRaisesRegex(_callable.Refusal, sentence):
                _callable.Adapter(name, _callable.find(name)[0])

    def test_by_the_program_without_python(self) -> None:
        if not program.BINARY:
            self.skipTest("$ATTNBENCH does not name the program")
        result = subprocess.run([program.BINARY, "verify", "colreduce", "--backend", "mine:right"],
                                text=True, capture_output=True, check=False, timeout=60)
        self.assertEqual(result.returncode, 2)
        self.assertIn("'mine:right' is a function of Python", result.stderr)


class Protocol(unittest.TestCase):
    """What a function is given, without a program."""

    VALUES: dict[str, Any] = {
        "B": 1, "D": 64, "dtype": "f16", "scale": 0.125, "mask": "causal", "reduction": "sum",
        "window": 7, "lse": "none", "q_len": []}

    def adapter(self, function: Any) -> Any:
        from attnbench._callable import Adapter
        return Adapter("mine:function", function)

    def test_named_parameters_and_no_others(self) -> None:
        adapter = self.adapter(lambda q, k, *, scale, window: None)
        self.assertEqual(adapter.options(self.VALUES, {"mask", "window"}, None),
                         {"scale": 0.125, "window": 7})

    def test_options_get_what_is_unusual(self) -> None:
        adapter = self.adapter(lambda q, k, **options: None)
        self.assertEqual(adapter.options(self.VALUES, {"mask", "window", "B"}, None),
                         {"scale": 0.125, "mask": "causal", "reduction": "sum", "window": 7})

    def test_a_given_lse_and_a_returned_one(self) -> None:
        both = self.adapter(lambda q, k, *, lse, return_lse: None)
        given, returned = self.VALUES | {"lse": "in"}, self.VALUES | {"lse": "out"}
        self.assertEqual(both.options(given, {"lse"}, "tensor"),
                         {"lse": "tensor", "return_lse": False})
        self.assertEqual(both.options(returned, {"lse"}, None), {"lse": None, "return_lse": True})
        neither = self.adapter(lambda q, k: None)
        self.assertEqual(neither.refusal(returned, {"lse"}, "cpu"),
                         "it has no parameter 'return_lse', and lse is out")

    def test_texts_become_values(self) -> None:
        from attnbench._callable import value_of
        for name, text, value in (("scale", "auto", 0.125), ("scale", "1", 1.0),
                                  ("softcap", "30", 30.0), ("window", "-1", -1),
                                  ("cu_q", "0:5:8", [0, 5, 8]), ("kv_len", "none", []),
                                  ("mask", "causal", "causal")):
            found = value_of(name, text, {"D": 64})
            self.assertEqual((type(found), found), (type(value), value), name)

    def test_a_decorator_knows_the_attributes(self) -> None:
        from attnbench.backends import backend
        described = backend(numerics="fp32", id="Mine!", device="cpu")(lambda q, k: None)
        adapter = self.adapter(described)
        self.assertEqual((adapter.numerics, adapter.id, adapter.memory), ("fp32", "mine_", 0))
        with self.assertRaisesRegex(TypeError, "a backend has no colour, only id, summary,"):
            backend(colour="blue")

    def test_results_are_looked_at(self) -> None:
        import torch
        from attnbench._tensors import store
        out = torch.zeros(1, 2, 3)
        store(out, torch.ones(1, 2, 3, dtype=torch.float16), "out")
        self.assertEqual(out.sum(), 6)
        for result, said in ((torch.ones(2, 3), r"it returned out as \[2, 3\], not \[1, 2, 3\]"),
                             (1.0, "it returned a float for out, not a tensor")):
            with self.assertRaisesRegex((TypeError, ValueError), said):
                store(out, result, "out")

    def test_peers_say_why_they_do_not_run(self) -> None:
        from attnbench import peers
        for function in (peers.flash_colreduce, peers.flash_colsum):
            values = {"B": 1, "H": 2, "H_kv": 2, "M": 8, "N": 8, "D": 64, "dtype": "f16",
                      "mask": "none", "reduction": "mean", "mean_over": "all", "heads": "mean",
                      "query_end": -1}
            said = self.adapter(function).refusal(values, set(), "cpu")
            installed = importlib.util.find_spec(function.__name__) is not None
            self.assertEqual(said, "its kernels need a GPU" if installed else
                             f"the Python package {function.__name__} is not installed")


if __name__ == "__main__":
    if not LIBRARY.is_file() or importlib.util.find_spec("torch") is None:
        print(f"skipped: there is no {LIBRARY}, or no PyTorch")
        sys.exit(77)
    unittest.main()
