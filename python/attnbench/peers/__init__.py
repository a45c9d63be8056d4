"""Published packages as backends, to measure beside: each a function for `--backend`.

    pip install 'attnbench[peers]'
    python -m attnbench bench colreduce --suite readme \\
        --backend auto,attnbench.peers:flash_colreduce,attnbench.peers:flash_colsum

A package that is not installed, or a machine without a GPU, makes their cells UNSUPPORTED with the
reason. What each package documents is passed on; what it does not take is refused here. Whether its
answers are right is for the harness to say.
"""

from __future__ import annotations

import importlib
import importlib.util

import torch

from attnbench.backends import backend

MATH = "16-bit tl.dot, fp32 accumulate, exp2; the result is rounded to 16 bits"


def missing(package: str, device: str, dtype: str) -> str | None:
    """Why a package of Triton kernels cannot run at all."""
    for module in (package, "triton"):
        if importlib.util.find_spec(module) is None:
            return f"the Python package {module} is not installed"
    if device != "cuda":
        return "its kernels need a GPU"
    return "dtype must be f16 or bf16" if dtype == "f32" else None


def colreduce_takes(*, B: int, H: int, H_kv: int, M: int, N: int, D: int, dtype: str, mask: str,
                    reduction: str, device: str) -> str | None:
    """The supports() of flash_colreduce. Its mask is key <= query + max(N - M, 0)."""
    if reason := missing("flash_colreduce", device, dtype):
        return reason
    if H_kv != H:
        return "H_kv must be H"
    if mask == "causal" and M > N or mask == "causal_top_left" and M < N:
        return "its causal mask is right-aligned for M <= N and left-aligned for M >= N"
    if mask != "none" and reduction == "mean" and M > N:
        return "a causal mean must have M <= N"
    if D < 16:
        return "D must be at least 16"
    return "B * H must be at most 65535" if B * H > 65535 else None


@backend(math=MATH, device="cuda", supports=colreduce_takes)
def flash_colreduce(q: torch.Tensor, k: torch.Tensor, *, scale: float, mask: str,
                    reduction: str) -> torch.Tensor:
    """flash-colreduce: a Triton kernel a query tile, columns added with atomics."""
    module = importlib.import_module("flash_colreduce")
    out: torch.Tensor = module.flash_colreduce(q, k, reduction, is_causal=mask != "none",
                                               scale=scale)
    return out


def colsum_takes(*, B: int, H: int, H_kv: int, M: int, N: int, dtype: str, mask: str,
                 reduction: str, mean_over: str, heads: str, query_end: int,
                 device: str) -> str | None:
    """The supports() of flash_colsum."""
    if reason := missing("flash_colsum", device, dtype):
        return reason
    if reduction != "mean" or heads != "mean":
        return "reduction and heads must be mean"
    if H_kv != H:
        return "H_kv must be H"
    if mask == "none":
        return "M must be N without a mask" if M != N else None
    if query_end != -1:
        return "query_end must be -1 under a mask"
    if B != 1 or M > N or (mask == "causal_top_left" and M != N):
        return "under a mask B must be 1, M at most N, and the last query must see every key"
    return "mean_over must be all under a mask" if mean_over != "all" else None


@backend(math=MATH, device="cuda", supports=colsum_takes)
def flash_colsum(q: torch.Tensor, k: torch.Tensor, *, scale: float, mask: str, reduction: str,
                 mean_over: str, heads: str, query_end: int) -> torch.Tensor:
    """flash-colsum: Triton kernels for a mean over heads and queries."""
    del reduction, mean_over, heads  # a mean over all of them, as flash_colsum.supports has checked
    module = importlib.import_module("flash_colsum")
    rows = None if query_end == -1 else query_end
    means: torch.Tensor = module.flash_colsum(q, k, scale=scale, is_causal=mask != "none",
                                              cls_len=rows)
    return means.unsqueeze(1)
