"""Stands in for the package flash-colsum 0.1.0; only the import changes.

The same shapes, types and errors. Tensors may also lie on a CPU, and causal batches may hold more
than one sequence. Answers are right for every head dimension and every length, where the package
reads 64 components of each head or counts padding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attnbench.operators import Mask, colreduce

__all__ = ["flash_colsum"]


def flash_colsum(query: Tensor, key: Tensor, scale: float | None = None, is_causal: bool = False,
                 cls_len: int | None = None) -> Tensor:
    """The mean over heads and queries of the attention weights of each key.

    Args:
        query: [B, H, S, D], or [B, H, M, D] where is_causal.
        key: The same shape, or [B, H, N, D] where is_causal.
        scale: Factor of the scores; None is 1 / sqrt(D).
        is_causal: Query m sees the keys n <= m + max(N - M, 0).
        cls_len: Only the first cls_len queries contribute, such as CLS tokens; more than there are
            means all.

    Returns:
        [B, N] in float16, whatever the type of the query.

    Raises:
        ValueError: A tensor has not 4 axes; the shapes do not fit to each other; cls_len is not
            positive or stands beside is_causal; or, as for `attnbench.colreduce`, types or devices
            differ.
    """
    if query.ndim != 4 or key.ndim != 4:
        raise ValueError(f"query and key must have 4 axes, not {query.ndim} and {key.ndim}")
    if cls_len is not None and is_causal:
        raise ValueError("cls_len must be None where is_causal is set")
    if cls_len is not None and cls_len <= 0:
        raise ValueError(f"cls_len must be positive, not {cls_len}")
    if query.shape[1] != key.shape[1]:
        raise ValueError("query and key must have as many heads, not "
                         f"{query.shape[1]} and {key.shape[1]}")
    queries, keys = query.shape[2], key.shape[2]
    if not is_causal and queries != keys:
        raise ValueError("query and key must have the same shape where is_causal is not set, not "
                         f"{tuple(query.shape)} and {tuple(key.shape)}")
    mask: Mask = "none"
    if is_causal:
        mask = "causal" if queries <= keys else "causal_top_left"
    half = query.dtype == torch.float16
    means = colreduce(query, key, "mean", mask=mask, scale=scale, heads="mean", mean_over="all",
                      query_end=-1 if cls_len is None else min(int(cls_len), queries),
                      out_dtype=torch.float16 if half else torch.float32)
    return means if half else means.to(torch.float16)
