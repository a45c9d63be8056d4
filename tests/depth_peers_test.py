"""tools/depth_peers.py: rows that the schema takes, whatever becomes of a peer; byte floors that are the
harness's; and, where PyTorch is, forms that agree with the fp64 answer, and that with its definition."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "plots"), str(ROOT / "tools")]

import depth_peers  # noqa: E402
import peer_rows  # noqa: E402
import rows  # noqa: E402

try:
    import jsonschema
except ImportError:
    jsonschema = None

try:
    import torch
except ImportError:
    torch = None

FAKE_WORKER = """
import json, sys, time
peer = sys.argv[1]
for line in sys.stdin:
    request = json.loads(line)
    result = {"status": "OK", "reason": None, "samples": [2e6, 1e6, 3e6], "flush_bytes": 1 << 27,
              "check": {"before": True, "after": True, "nerr_max": 0.5, "at": [0],
                        "ref": "gpu_f64", "bit_stable": True},
              "mem": {"inputs": 1, "outputs": 2, "workspace": 0, "hidden": 4}}
    if "hello" in request:
        result = {"name": "NVIDIA H200", "sms": 132, "l2_bytes": 62914560, "torch": "2.11.0",
                  "mem_bytes": 150000000000, "cuda": "13.0", "copy_Bps": 4.2e12}
    elif peer == "torch_compile" and request["op"] == "attnres_merge":
        time.sleep(60)
    elif peer == "torch_compile" and request["op"] == "attnres_phase1_bwd":
        sys.exit(1)
    elif peer == "torch_compile" and request["op"] == "attnres_merge_bwd":
        result |= {"status": "INCORRECT", "reason": "wrong"}
    elif peer == "flash_attn_res":
        result = {"status": "NOT_BUILT", "reason": "No module named 'flash_attn_res'"}
    print(json.dumps(result), flush=True)
"""
SHAPE = "N4,S8,B4,T16384,D2048"


class Rows(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = Path(folder.name)

    def measured(self, *arguments: str, worker: str = FAKE_WORKER) -> list[dict[str, Any]]:
        """All lines that a run with a stand-in for the worker writes."""
        script = self.out / "worker.py"
        script.write_text(worker)
        argv = ["--shape", SHAPE, "--cell-limit", "2", "--out", str(self.out), *arguments]
        self.assertEqual(depth_peers.main(argv, [sys.executable, str(script)]), 0)
        (path,) = self.out.glob("nvidia-h200/*/rows.jsonl")
        self.cells = rows.read_file(path)
        return [json.loads(line) for line in path.read_text().splitlines()]

    def test_every_cell_has_a_row_whatever_becomes_of_its_peer(self) -> None:
        run, *cells = self.measured()
        self.assertEqual(run["type"], "run")
        self.assertNotIn(str(self.out), json.dumps(run))
        self.assertEqual({(c["backend"], c["op"].removeprefix("attnres_")): c["status"]
                          for c in cells}, {
            ("torch_eager", "phase1"): "OK", ("torch_eager", "merge"): "OK",
            ("torch_eager", "phase1_bwd"): "OK", ("torch_eager", "merge_bwd"): "OK",
            ("torch_compile", "phase1"): "OK", ("torch_compile", "merge"): "TIMEOUT",
            ("torch_compile", "phase1_bwd"): "CRASH", ("torch_compile", "merge_bwd"): "INCORRECT",
            ("flash_attn_res", "phase1"): "NOT_BUILT", ("flash_attn_res", "merge"): "NOT_BUILT",
            ("flash_attn_res", "phase1_bwd"): "NOT_BUILT",
            ("flash_attn_res", "merge_bwd"): "NOT_BUILT"})
        self.assertEqual(len({c["key"] for c in cells}), len(cells))

    def test_the_schema_takes_them(self) -> None:
        if jsonschema is None:
            self.skipTest("Python has no jsonschema")
        schema = json.loads((ROOT / "results" / "row.schema.json").read_text(encoding="utf-8"))
        validator = jsonschema.Draft202012Validator(schema)
        for record in self.measured():
            self.assertEqual([e.message for e in validator.iter_errors(record)], [], record)

    def test_a_time_is_the_median_and_its_share_of_the_copy_rate(self) -> None:
        self.measured("--peer", "torch_eager", "--op", "attnres_phase1")
        (cell,) = self.cells
        assert cell.cold is not None
        self.assertEqual((cell.cold.median, cell.cold.p25, cell.cold.n), (2.0, 1.5, 3))
        self.assertAlmostEqual(cell.sol_pct or 0, 100 * 3223355392 / 4.2e12 / 2e-3)
        self.assertEqual(cell.beyond_bytes, 4)

    def test_a_spent_budget_leaves_the_rest_unrun(self) -> None:
        _, *cells = self.measured("--time-budget", "0")
        self.assertEqual({c["status"] for c in cells}, {"TIMEOUT"})
        self.assertEqual({c["reason"] for c in cells}, {"not run: the time budget was spent"})

    def test_without_a_gpu_there_are_no_rows(self) -> None:
        script = self.out / "worker.py"
        script.write_text("raise SystemExit(1)")
        self.assertEqual(depth_peers.main(["--out", str(self.out)],
                                          [sys.executable, str(script)]), 2)
        self.assertEqual(list(self.out.glob("*/*")), [])

    def test_the_repro_asks_for_this_cell(self) -> None:
        for cell in peer_rows.cells(peer_rows.PEERS, peer_rows.OPERATORS, peer_rows.SHAPES, 3):
            words = depth_peers.repro(cell).split()
            self.assertEqual(words[:2], ["python3", "tools/depth_peers.py"])
            args = depth_peers.options(words[2:])
            self.assertIn(cell, peer_rows.cells(args.peer, args.op, args.shape, args.seed))


class ByteFloors(unittest.TestCase):
    def test_they_are_those_of_the_harness(self) -> None:
        floors = {}
        for cell in peer_rows.cells(["torch_eager"], peer_rows.OPERATORS, peer_rows.SHAPES, 1):
            floors[cell.op, cell.sizes] = cell
        compared = set()
        for path in sorted((ROOT / "results").glob("*/*/rows.jsonl")):
            for line in path.read_text().splitlines():
                record = json.loads(line)
                mine = floors.get((record.get("op"), tuple(record.get("shape", {}).items())))
                if mine is None or record.get("mem") is None or record["mode"] != "bench":
                    continue
                same = {k: v for k, v in record["options"].items() if k != "sources"} == {
                    k: v for k, v in mine.options.items() if k != "sources"}
                if same:
                    self.assertEqual(mine.least_bytes, record["mem"]["lower_bound"], record["key"])
                    compared.add(mine.op)
        self.assertEqual(compared, set(peer_rows.OPERATORS))


@unittest.skipIf(torch is None, "Python has no PyTorch")
class Formulas(unittest.TestCase):
    SHAPE = {"N": 3, "S": 2, "B": 2, "T": 5, "D": 24}
    EPS = 2.0 ** -20

    def problem(self, op: str, dtype: Any, sizes: dict[str, int] | None = None) -> Any:
        import peer_formulas
        return peer_formulas.Problem(op, sizes or self.SHAPE, self.EPS, 1, "cpu", dtype)

    def test_forms_and_their_gradients_agree_with_the_answer(self) -> None:
        import peer_formulas as f
        import peer_worker
        for sizes in (self.SHAPE, self.SHAPE | {"N": 1}, self.SHAPE | {"S": 5, "T": 5, "D": 5}):
            for op, forms in (("attnres_phase1", (f.phase1_eager, f.phase1_fusable)),
                              ("attnres_merge", (f.merge,))):
                for form in forms:
                    with self.subTest(op=op, form=form.__name__, sizes=sizes):
                        forward = self.problem(op, torch.bfloat16, sizes)
                        got = forward.forward(form)
                        self.assertLessEqual(forward.error(got, peer_worker.LIMITS)[0], 1)
                        wrong = tuple(t * 1.03 for t in got)
                        self.assertGreater(forward.error(wrong, peer_worker.LIMITS)[0], 1)
                        backward = self.problem(op + "_bwd", torch.bfloat16, sizes)
                        backward.prepare_backward(form)()
                        got = backward.gradients()
                        self.assertLessEqual(backward.error(got, peer_worker.LIMITS)[0], 1)
                        for i in range(len(got)):
                            if sizes["N"] == 1 and op == "attnres_phase1" and i == 1:
                                continue  # of one source the queries' gradient is zero
                            wrong = tuple(t * (1.03 if i == j else 1) for j, t in enumerate(got))
                            error, worst = backward.error(wrong, peer_worker.LIMITS)
                            self.assertGreater(error, 1)
                            self.assertEqual(worst, i)

    def test_the_answer_is_the_definition(self) -> None:
        p = self.problem("attnres_phase1", torch.float64)
        v, wt = p.inputs
        out, lse = p.answer(0, 10)
        n_sources, width = v.shape[0], v.shape[-1]
        for s in range(wt.shape[0]):
            for t in range(10):
                row = [v.flatten(1, 2)[n, t].tolist() for n in range(n_sources)]
                logits = []
                for x in row:
                    r = 1 / math.sqrt(sum(a * a for a in x) / width + self.EPS)
                    logits.append(r * sum(a * b for a, b in zip(x, wt[s].tolist())))
                z = math.log(sum(math.exp(logit) for logit in logits))
                self.assertAlmostEqual(float(lse[s, t]), z, 12)
                for d in range(width):
                    mixed = sum(math.exp(logit - z) * x[d] for logit, x in zip(logits, row))
                    self.assertAlmostEqual(float(out[s, t, d]), mixed, 12)

    def test_the_answers_gradients_are_autograds(self) -> None:
        import peer_formulas as f
        p = self.problem("attnres_phase1_bwd", torch.float64)
        v, wt = (x.detach().requires_grad_() for x in (p.inputs[0].flatten(1, 2), p.inputs[1]))
        expected = torch.autograd.grad(f.phase1_answer(v, wt, self.EPS)[0], (v, wt),
                                       p.dout.flatten(1, 2))
        self.close(p.answer(0, 10), expected)
        p = self.problem("attnres_merge_bwd", torch.float64)
        b, wt, read, z = p.inputs
        leaves = [x.detach().double().requires_grad_()
                  for x in (b.flatten(0, 1), wt, read.flatten(0, 1), z.flatten())]
        db, dwt, dread, dz = torch.autograd.grad(f.merge_answer(*leaves, self.EPS)[0], leaves,
                                                 p.dout.flatten(0, 1))
        self.close(p.answer(0, 10), (p.held.flatten(0, 1) + db, dread, dz, dwt))

    def close(self, got: Any, expected: Any) -> None:
        self.assertEqual(len(got), len(expected))
        for mine, exact in zip(got, expected):
            self.assertTrue(torch.allclose(mine, exact, rtol=2.0 ** -40, atol=2.0 ** -40))


if __name__ == "__main__":
    unittest.main()
