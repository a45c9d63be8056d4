"""The published packages' functions by our kernels: signatures, shapes, types, values and errors.

What the packages return was read off flash-colreduce 0.2.2 and flash-colsum 0.1.0; the formulas
here are written with the whole matrix in float64.
"""

from __future__ import annotations

import inspect
import math
import unittest
from typing import Any

from torch_package import on_gpu, torch

from attnbench.compat.flash_colreduce import flash_colreduce
from attnbench.compat.flash_colsum import flash_colsum
from torch_reference import HALF_SUBNORMAL, ROUNDOFF, reference

Tensor = torch.Tensor
F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32


def right_aligned(m: int, n: int) -> str:
    """The mask of both packages, in which query i sees keys up to i + max(N - M, 0)."""
    return "causal" if m <= n else "causal_top_left"


class Signatures(unittest.TestCase):
    def described(self, function: Any) -> list[tuple[str, Any]]:
        parameters = inspect.signature(function).parameters.values()
        self.assertEqual({p.kind for p in parameters}, {inspect.Parameter.POSITIONAL_OR_KEYWORD})
        return [(p.name, p.default) for p in parameters]

    def test_they_are_the_published_ones(self) -> None:
        required = inspect.Parameter.empty
        self.assertEqual(self.described(flash_colreduce), [
            ("query", required), ("key", required), ("reduction", required),
            ("is_causal", False), ("scale", None)])
        self.assertEqual(self.described(flash_colsum), [
            ("query", required), ("key", required), ("scale", None), ("is_causal", False),
            ("cls_len", None)])


class Values:
    device = "cpu"

    def pair(self, b: int, h: int, m: int, n: int, d: int,
             dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        seeded = torch.Generator().manual_seed(1)
        return (torch.randn(b, h, m, d, generator=seeded).to(self.device, dtype),
                torch.randn(b, h, n, d, generator=seeded).to(self.device, dtype))

    def test_flash_colreduce(self: Any) -> None:
        for dtype in (F16, BF16, F32):
            for b, h, m, n, d in ((2, 3, 33, 65, 64), (1, 2, 64, 64, 128), (1, 2, 50, 20, 72)):
                q, k = self.pair(b, h, m, n, d, dtype)
                for reduction in ("sum", "mean", "max"):
                    for is_causal, scale in ((False, None), (True, None), (True, 0.25)):
                        with self.subTest(dtype=dtype, m=m, n=n, reduction=reduction,
                                          is_causal=is_causal, scale=scale):
                            got = flash_colreduce(q, k, reduction, is_causal, scale)
                            self.assertEqual((got.shape, got.dtype), ((b, h, n), dtype))
                            expected = reference(
                                q, k, reduction, scale=scale, out_dtype=dtype,
                                mask=right_aligned(m, n) if is_causal else "none")
                            self.assertLessEqual(expected.worst(got), 1)

    def test_flash_colsum(self: Any) -> None:
        for dtype in (F16, BF16, F32):
            for b, m, n, arguments in ((2, 65, 65, {}), (1, 65, 65, {"cls_len": 1}),
                                       (3, 40, 40, {"cls_len": 100, "scale": 0.5}),
                                       (1, 17, 130, {"is_causal": True}),
                                       (1, 50, 20, {"is_causal": True})):
                with self.subTest(dtype=dtype, m=m, n=n, **arguments):
                    q, k = self.pair(b, 2, m, n, 128, dtype)
                    got = flash_colsum(q, k, **arguments)
                    self.assertEqual((got.shape, got.dtype), ((b, n), F16))
                    expected = reference(
                        q, k, "mean", heads="mean", mean_over="all", scale=arguments.get("scale"),
                        query_end=min(arguments.get("cls_len", m), m),
                        mask=right_aligned(m, n) if "is_causal" in arguments else "none")
                    expected.tolerance += (ROUNDOFF[F16] * expected.value  # to the package's type
                                           + HALF_SUBNORMAL[F16])
                    self.assertLessEqual(expected.worst(got), 1)

    def test_every_component_counts(self: Any) -> None:
        q, k = self.pair(1, 2, 32, 32, 128, F16)
        first = flash_colsum(q, k)
        k[..., 64:] = -k[..., 64:]
        self.assertFalse(torch.equal(flash_colsum(q, k), first))

    def test_errors_of_flash_colreduce(self: Any) -> None:
        q, k = self.pair(2, 2, 8, 8, 16, F16)
        for sentence, attempt in (
            ("batch size", lambda: flash_colreduce(q, k[:1], "sum")),
            ("heads", lambda: flash_colreduce(q, k[:, :1], "sum")),
            ("head dimension", lambda: flash_colreduce(q, k[..., :8], "sum")),
            ("reduction must be one of sum, mean, max", lambda: flash_colreduce(q, k, "min")),
            ("4 axes", lambda: flash_colreduce(q[0], k[0], "sum")),
        ):
            with self.subTest(sentence), self.assertRaisesRegex(ValueError, sentence):
                attempt()

    def test_errors_of_flash_colsum(self: Any) -> None:
        q, k = self.pair(2, 2, 8, 8, 16, F16)
        for sentence, attempt in (
            ("4 axes", lambda: flash_colsum(q[0], k)),
            ("cls_len must be None", lambda: flash_colsum(q, k, is_causal=True, cls_len=1)),
            ("cls_len must be positive", lambda: flash_colsum(q, k, cls_len=0)),
            ("same shape", lambda: flash_colsum(q, k[:, :, :4])),
            ("heads", lambda: flash_colsum(q, k[:, :1], is_causal=True)),
            ("head dimension", lambda: flash_colsum(q, k[..., :8], is_causal=True)),
            ("batch size", lambda: flash_colsum(q, k[:1])),
        ):
            with self.subTest(sentence), self.assertRaisesRegex(ValueError, sentence):
                attempt()

    def test_a_default_scale_is_that_of_the_head_dimension(self: Any) -> None:
        q, k = self.pair(1, 2, 9, 9, 48, F16)
        self.assertTrue(torch.equal(flash_colsum(q, k), flash_colsum(q, k, 1 / math.sqrt(48))))


class OnCpu(Values, unittest.TestCase):
    pass


@on_gpu
class OnGpu(Values, unittest.TestCase):
    device = "cuda"


if __name__ == "__main__":
    unittest.main()
