"""Backends in Python to measure beside, and to copy: PyTorch's operators, and torch.compile of
them.

    python -m attnbench bench colreduce --suite readme \\
        --backend attnbench.examples:eager,attnbench.examples:compiled
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch

from attnbench.backends import backend


def unseen(mask: str, window: int, rows: range, M: int, N: int,
           device: torch.device) -> torch.Tensor:
    """Which keys the contributing queries do not see: [rows, N], a boolean."""
    query = torch.arange(rows.start, rows.stop, device=device).unsqueeze(1)
    key = torch.arange(N, device=device)
    diagonal = 0 if mask == "causal_top_left" else N - M
    hidden = torch.zeros(len(rows), N, dtype=torch.bool, device=device)
    if mask != "none":
        hidden |= key > query + diagonal
    if window >= 0:
        hidden |= key < query + (N - M) - window
    return hidden


def combine_heads(columns: torch.Tensor, heads: str, key_heads: int) -> torch.Tensor:
    """[B, H, N] to [B, output heads, N]."""
    if heads == "group":
        B, H, N = columns.shape
        return columns.reshape(B, key_heads, H // key_heads, N).sum(2)
    if heads == "mean":
        return columns.mean(1, keepdim=True)
    if heads == "sum":
        return columns.sum(1, keepdim=True)
    return columns.amax(1, keepdim=True) if heads == "max" else columns


@backend(math="16-bit matmul and softmax with 16-bit results on a GPU, fp32 on a CPU; fp32 sums")
def eager(q: torch.Tensor, k: torch.Tensor, *, scale: float, mask: str = "none",
          reduction: str = "sum", mean_over: str = "visible", heads: str = "each",
          query_begin: int = 0, query_end: int = -1, window: int = -1,
          softcap: float = 0.0) -> torch.Tensor:
    """PyTorch's operators one after the other, the whole matrix of weights in memory."""
    B, H, M, D = q.shape
    key_heads, N = k.shape[1:3]
    rows = range(M)[query_begin:None if query_end == -1 else query_end]
    q = q[:, :, rows.start:rows.stop]
    if q.device.type == "cpu":  # not every PyTorch adds 16-bit products up in fp32 there
        q, k = q.float(), k.float()
    k = k.repeat_interleave(H // key_heads, dim=1)

    # alpha scales the fp32 sums: a product with 16-bit scores would round them a second time.
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q.reshape(B * H, len(rows), D),
                           k.reshape(B * H, N, D).transpose(1, 2), beta=0, alpha=scale)
    scores = scores.view(B, H, len(rows), N)
    if softcap > 0:
        scores = softcap * torch.tanh(scores.float() / softcap)
    hidden = None
    if mask != "none" or window >= 0:
        hidden = unseen(mask, window, rows, M, N, q.device)
        scores = scores.masked_fill(hidden, float("-inf"))
    weights = scores.softmax(-1)
    if hidden is not None:  # a query that sees no key has no weights
        weights = weights.masked_fill(hidden, 0)

    if reduction == "max":
        columns = weights.amax(-2).float()
    else:
        columns = weights.sum(-2, dtype=torch.float32)
    columns = combine_heads(columns, heads, key_heads)
    if reduction == "mean" and (mean_over == "all" or hidden is None):
        columns = columns / len(rows)
    elif reduction == "mean" and hidden is not None:
        columns = columns / (~hidden).sum(0).clamp(min=1)
    return columns


@functools.cache
def compiler() -> Callable[..., torch.Tensor]:
    """torch.compile of `eager`, anew for every shape: what it falls back to would be `eager`."""
    config = torch._dynamo.config
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    for name in (limit, f"accumulated_{limit}"):
        setattr(config, name, max(getattr(config, name), 1 << 14))
    return torch.compile(eager, fullgraph=True, dynamic=False)


def can_compile(device: str) -> str | None:
    """The supports() of `compiled`."""
    if device == "cuda":
        return None if importlib.util.find_spec("triton") else "torch.compile needs Triton on a GPU"
    found = shutil.which(os.environ.get("CXX", "g++"))
    return None if found else "torch.compile needs a C++ compiler on a CPU"


@backend(summary="torch.compile of eager, for every shape anew", supports=can_compile,
         math="16-bit matmul on a GPU, fp32 on a CPU; softmax and sums as they are fused")
@functools.wraps(eager)
def compiled(q: torch.Tensor, k: torch.Tensor, **options: Any) -> torch.Tensor:
    return compiler()(q, k, **options)
