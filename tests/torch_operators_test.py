"""The operators in PyTorch: values within the derived bound against float64, every option, strides,
shapes without data, compilation, capture in a graph, errors, gradients."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest
from typing import Any

from torch_package import on_gpu, torch

import attnbench
from torch_reference import Answer, reference

Tensor = torch.Tensor
F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32

# (shape of query, heads and rows of key, options): tile edges, M > N, a row or all of it masked.
CASES: list[tuple[tuple[int, int, int, int], tuple[int, int], dict[str, Any]]] = [
    ((1, 1, 1, 8), (1, 1), {}),
    ((2, 3, 65, 64), (3, 129), {"reduction": "mean"}),
    ((1, 2, 33, 128), (2, 257), {"reduction": "max", "mask": "causal"}),
    ((1, 2, 40, 32), (2, 17), {"reduction": "mean", "mask": "causal"}),
    ((1, 2, 40, 32), (2, 17), {"reduction": "mean", "mask": "causal_top_left"}),
    ((2, 4, 31, 72), (2, 67), {"mask": "causal", "heads": "group"}),
    ((2, 4, 31, 80), (1, 67), {"heads": "mean", "reduction": "mean", "mean_over": "all",
                               "mask": "causal"}),
    ((1, 6, 20, 64), (3, 45), {"heads": "sum", "reduction": "max"}),
    ((1, 6, 20, 64), (3, 45), {"heads": "max", "scale": 0.5}),
    ((1, 2, 50, 64), (2, 50), {"window": 7, "mask": "causal", "softcap": 3.0}),
    ((1, 2, 64, 64), (2, 300), {"query_begin": -32, "mask": "causal"}),
    ((1, 2, 64, 64), (2, 64), {"query_end": 1, "reduction": "mean"}),
    ((3, 2, 21, 64), (2, 34), {"q_len": [21, 0, 5], "kv_len": [0, 34, 33], "mask": "causal"}),
    ((2, 2, 21, 64), (2, 34), {"kv_len": [1, 20], "query_begin": -4, "heads": "mean"}),
]


class Values:
    """The same tests on a CPU and on a GPU."""

    device = "cpu"

    def random(self, *shape: int, dtype: torch.dtype = F16, seed: int = 1) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(
            self.device, dtype)

    def check(self: Any, q: Tensor, k: Tensor, options: dict[str, Any],
              limit: float = 1) -> Answer:
        expected = reference(q, k, **options)
        self.assertLessEqual(expected.worst(attnbench.colreduce(q, k, **options)), limit)
        return expected

    def test_every_option_is_within_the_bound(self: Any) -> None:
        for (b, h, m, d), (h_kv, n), options in CASES:
            for dtype in (F16, BF16, F32):
                with self.subTest(m=m, n=n, dtype=dtype, **options):
                    q = self.random(b, h, m, d, dtype=dtype)
                    k = self.random(b, h_kv, n, d, dtype=dtype, seed=2)
                    expected = self.check(q, k, options)
                    wrong = attnbench.colreduce(q, k, **options) * 1.01
                    self.assertTrue(m == 1 or expected.worst(wrong) > 1, "the bound is too wide")
                    if options.get("reduction", "sum") == "sum":
                        self.check(q, k, options | {"out_dtype": dtype})

    def test_packed_sequences(self: Any) -> None:
        cu_q, cu_k = [0, 5, 5, 38], [0, 40, 41, 74]
        q, k = self.random(38, 4, 64), self.random(74, 2, 64, seed=2)
        for heads, shape in (("each", (4, 74)), ("group", (2, 74)), ("sum", (74,))):
            for mask in ("none", "causal"):
                options = {"cu_q": cu_q, "cu_k": cu_k, "heads": heads, "mask": mask}
                self.assertEqual(self.check(q, k, options).value.shape, shape)
        scores, lse = attnbench.colreduce(q, k, cu_q=cu_q, cu_k=cu_k, return_lse=True)
        self.assertLessEqual(reference(q, k, cu_q=cu_q, cu_k=cu_k).worst_lse(lse), 1)
        again = {"cu_q": cu_q, "cu_k": cu_k, "lse": lse}
        self.check(q, k, again)

    def test_an_lse_comes_out_and_goes_in(self: Any) -> None:
        q, k = self.random(2, 4, 37, 64), self.random(2, 2, 61, 64, seed=2)
        for options in ({"mask": "causal"}, {"mask": "causal_top_left", "query_begin": 4}, {}):
            scores, lse = attnbench.colreduce(q, k, return_lse=True, **options)
            expected = reference(q, k, **options)
            self.assertEqual((lse.shape, lse.dtype), ((2, 4, 37), F32))
            self.assertLessEqual(expected.worst(scores), 1)
            self.assertLessEqual(expected.worst_lse(lse), 1)
            self.check(q, k, options | {"lse": lse})
            spread = torch.stack([lse, lse], -1)[..., 0]  # a view that is not dense
            self.assertTrue(torch.equal(attnbench.colreduce(q, k, lse=spread, **options),
                                        attnbench.colreduce(q, k, lse=lse, **options)))

    def test_layouts_of_model_code_need_no_copy(self: Any) -> None:
        q, k = self.random(2, 4, 33, 64), self.random(2, 4, 48, 64, seed=2)
        expected = reference(q, k, mask="causal")
        fused = self.random(2, 48, 3, 4, 64, seed=3)  # [B, rows, (q, k, v), H, D]
        fused[:, :, 1].copy_(k.transpose(1, 2))
        fused[:, :33, 0].copy_(q.transpose(1, 2))
        forms = {
            "[B, rows, H, D]": (q.transpose(1, 2).contiguous().transpose(1, 2), k),
            "slices of a fused projection": (fused[:, :33, 0].transpose(1, 2),
                                             fused[:, :, 1].transpose(1, 2)),
            "every other row": (self.random(2, 4, 66, 64)[:, :, ::2].copy_(q), k),
            "an odd offset": (self.random(2 * 4 * 33 * 64 + 1)[1:].view_as(q).copy_(q), k),
        }
        for name, (query, key) in forms.items():
            with self.subTest(name):
                got = attnbench.colreduce(query, key, mask="causal")
                self.assertLessEqual(expected.worst(got), 1)
        shared = self.random(1, 1, 48, 64).expand(2, 4, 48, 64)
        self.check(q, shared, {})
        lone = self.random(2, 4, 33, 65)[..., ::65]  # D = 1, whose stride means nothing
        self.check(lone, lone, {})

    def test_poison_stays_where_it_falls(self: Any) -> None:
        q, k = self.random(1, 2, 20, 64), self.random(1, 2, 30, 64, seed=2)
        q[0, 1, 3, 5] = float("nan")
        got = attnbench.colreduce(q, k, mask="causal_top_left")
        self.assertTrue(got[0, 1, :4].isnan().all())
        self.assertEqual(int(got.isnan().sum()), 4)

    def test_opcheck(self: Any) -> None:
        q, k = self.random(2, 4, 9, 16), self.random(2, 2, 12, 16, seed=2)
        plain = torch.ops.attnbench.colreduce.default
        with_lse = torch.ops.attnbench.colreduce_with_lse.default
        lse = with_lse(q, k)[1]
        torch.library.opcheck(plain, (q, k))
        torch.library.opcheck(plain, (q, k.float().requires_grad_().half(), "mean"),
                              {"mask": "causal", "heads": "mean", "out_dtype": F16})
        torch.library.opcheck(plain, (q, k), {"lse": lse, "query_begin": -2})
        torch.library.opcheck(plain, (q[0].transpose(0, 1), k[0].transpose(0, 1)),
                              {"cu_q": [0, 4, 9], "cu_k": [0, 7, 12]})
        torch.library.opcheck(with_lse, (q, k), {"heads": "group", "window": 3})

    def test_compile_keeps_one_graph(self: Any) -> None:
        def scores(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
            wide = attnbench.colreduce(q * 2, k, "mean", mask="causal", query_begin=-8)
            return wide + 1, attnbench.colreduce(q, k, return_lse=True)[1].amax(-1)

        # The graph as it is, without a code generator: what is tested is that there is one.
        compiled = torch.compile(scores, fullgraph=True, dynamic=True, backend="aot_eager")
        for rows in (9, 12, 15):
            q, k = self.random(1, 2, rows, 32), self.random(1, 2, 2 * rows, 32, seed=2)
            for got, expected in zip(compiled(q, k), scores(q, k)):
                self.assertTrue(torch.equal(got, expected))

    def test_the_result_has_no_gradient(self: Any) -> None:
        q = self.random(1, 2, 5, 16, dtype=F32).requires_grad_()
        k = self.random(1, 2, 6, 16, dtype=F32, seed=2)
        scores = attnbench.colreduce(q, k)
        self.assertFalse(scores.requires_grad)
        for mode in (torch.no_grad(), torch.inference_mode()):
            with mode:
                self.assertTrue(torch.equal(attnbench.colreduce(q, k), scores))
        loss = (scores * q.sum()).sum()  # the gradient of the weights is not in it
        loss.backward()
        self.assertTrue(torch.allclose(q.grad, scores.sum().expand_as(q)))

    def test_what_is_invalid_is_said_in_one_sentence(self: Any) -> None:
        q, k = self.random(2, 4, 9, 16), self.random(2, 2, 12, 16, seed=2)
        lse = attnbench.colreduce(q, k, return_lse=True)[1]
        call = attnbench.colreduce
        packed = {"cu_q": [0, 9], "cu_k": [0, 12]}
        for sentence, attempt in (
            ("reduction must be one of sum, mean, max, not 'min'", lambda: call(q, k, "min")),
            ("mask must be one of", lambda: call(q, k, mask="right")),
            ("heads must be one of", lambda: call(q, k, heads="all")),
            ("mean_over must be one of", lambda: call(q, k, mean_over="none")),
            ("4 axes, [B, H, rows, D], not 3 and 3", lambda: call(q[0], k[0])),
            ("3 axes, [rows, heads, D]", lambda: call(q, k, **packed)),
            ("must both be float16, bfloat16 or float32", lambda: call(q, k.float())),
            ("must both be", lambda: call(q.double(), k.double())),
            ("same batch size, not 2 and 1", lambda: call(q, k[:1])),
            ("same head dimension, not 16 and 8", lambda: call(q, k[..., :8])),
            ("heads of query must be a multiple", lambda: call(q[:, :3], k)),
            ("on one device", lambda: call(q, k.to("meta"))),
            ("M must be at least 1, not 0", lambda: call(q[:, :, :0], k)),
            ("D stride of 1, not 2", lambda: call(q[..., ::2], k[..., ::2])),
            ("must not make elements overlap", lambda: call(
                self.random(200).as_strided((1, 1, 9, 16), (200, 200, 3, 1)), k[:1, :1])),
            ("scale must be finite", lambda: call(q, k, scale=float("nan"))),
            ("scale must be finite", lambda: call(q, k, scale=float("inf"))),
            ("softcap must be 0", lambda: call(q, k, softcap=-1.0)),
            ("window must be -1 or at least 0", lambda: call(q, k, window=-2)),
            ("query_begin must be", lambda: call(q, k, query_begin=9)),
            ("query_end must be", lambda: call(q, k, query_end=10)),
            ("q_len must have one length per batch", lambda: call(q, k, q_len=[9])),
            ("kv_len must lie between 0 and N", lambda: call(q, k, kv_len=[1, 13])),
            ("cu_k must end with N, not 11", lambda: call(
                q[0].transpose(0, 1), k[0].transpose(0, 1), cu_q=[0, 9], cu_k=[0, 11])),
            ("lse must have a number for each query", lambda: call(q, k, lse=lse[..., 1:])),
            ("lse must be float32", lambda: call(q, k, lse=lse.half())),
            ("lse must be None", lambda: call(q, k, lse=lse, return_lse=True)),
            ("out_dtype must be float32 or the type of query", lambda: call(q, k, out_dtype=BF16)),
        ):
            with self.subTest(sentence):
                with self.assertRaises(ValueError) as caught:
                    attempt()
                message = str(caught.exception).splitlines()[0]
                self.assertTrue(message.startswith("colreduce: "), message)
                self.assertIn(sentence, message)


class OnCpu(Values, unittest.TestCase):
    def test_the_answer_depends_on_no_thread_count(self) -> None:
        q, k = self.random(1, 3, 70, 64), self.random(1, 3, 700, 64, seed=2)
        threads = torch.get_num_threads()
        try:
            answers = []
            for count in (1, 2):
                torch.set_num_threads(count)
                answers.append(attnbench.colreduce(q, k))
        finally:
            torch.set_num_threads(threads)
        self.assertTrue(torch.equal(*answers))


@on_gpu
class OnGpu(Values, unittest.TestCase):
    device = "cuda"

    def test_a_graph_replays_it_over_other_data(self) -> None:
        q, k = self.random(2, 4, 64, 64), self.random(2, 4, 512, 64, seed=2)
        attnbench.colreduce(q, k, mask="causal")
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            scores = attnbench.colreduce(q, k, mask="causal")
        for seed in (3, 4):
            q.copy_(self.random(2, 4, 64, 64, seed=seed))
            graph.replay()
            self.assertTrue(torch.equal(scores, attnbench.colreduce(q, k, mask="causal")))

    def test_it_runs_on_the_current_stream(self) -> None:
        q, k = self.random(2, 4, 64, 64), self.random(2, 4, 512, 64, seed=2)
        expected = attnbench.colreduce(q, k)
        late = torch.zeros_like(q)
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)  # the copy is late: another stream would read zeros
            late.copy_(q)
            scores = attnbench.colreduce(late, k)
        stream.synchronize()
        self.assertTrue(torch.equal(scores, expected))

    def test_the_workspace_goes_back(self) -> None:
        q, k = self.random(2, 4, 256, 64), self.random(2, 4, 512, 64, seed=2)
        before = torch.cuda.memory_allocated()
        scores = attnbench.colreduce(q, k)
        rounded = (scores.numel() * 4 + 511) // 512 * 512  # as the allocator counts
        self.assertEqual(torch.cuda.memory_allocated() - before, rounded)

    def test_tensors_on_two_devices_are_refused(self) -> None:
        q = self.random(1, 1, 4, 16)
        with self.assertRaisesRegex(ValueError, "on one device"):
            attnbench.colreduce(q, q.cpu())


class Shapes(unittest.TestCase):
    def test_meta_tensors_give_shapes_and_types(self) -> None:
        q = torch.empty(2, 6, 7, 64, dtype=BF16, device="meta")
        k = torch.empty(2, 3, 11, 64, dtype=BF16, device="meta")
        for heads, shape in (("each", (2, 6, 11)), ("group", (2, 3, 11)), ("mean", (2, 11)),
                             ("sum", (2, 11)), ("max", (2, 11))):
            scores, lse = attnbench.colreduce(q, k, heads=heads, return_lse=True)
            self.assertEqual((scores.shape, scores.dtype, scores.device.type),
                             (shape, F32, "meta"))
            self.assertEqual((lse.shape, lse.dtype), ((2, 6, 7), F32))
        self.assertEqual(attnbench.colreduce(q, k, out_dtype=BF16).dtype, BF16)
        packed = attnbench.colreduce(q[0].transpose(0, 1), k[0].transpose(0, 1), cu_q=[0, 7],
                                     cu_k=[0, 11])
        self.assertEqual(packed.shape, (6, 11))
        with self.assertRaisesRegex(ValueError, "same head dimension"):
            attnbench.colreduce(q, k[..., :8])


class Import(unittest.TestCase):
    def run_python(self, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], env=os.environ | environment,
                              text=True, capture_output=True, check=False)

    def test_it_needs_no_gpu(self) -> None:
        done = self.run_python(
            "import torch, attnbench; assert not torch.cuda.is_initialized(); "
            "q, k = torch.ones(1, 1, 2, 8), torch.ones(1, 1, 3, 8); "
            "print(tuple(attnbench.colreduce(q, k).shape))",
            CUDA_VISIBLE_DEVICES="")
        self.assertEqual((done.returncode, done.stdout.strip()), (0, "(1, 1, 3)"), done.stderr)

    def test_a_missing_library_is_one_sentence(self) -> None:
        done = self.run_python("import attnbench", ATTNBENCH_LIBRARY="/nowhere/libattnbench.so")
        self.assertEqual(done.stderr.splitlines()[-1],
                         "ImportError: ATTNBENCH_LIBRARY names /nowhere/libattnbench.so, "
                         "which is no file")


if __name__ == "__main__":
    unittest.main()
