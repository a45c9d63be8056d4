"""Stands in for the package flash-colreduce 0.2.2; only the import changes.

The same shapes, types and errors. Tensors may also lie on a CPU. For more queries than keys under
its mask a mean divides by the queries that see the key, where the package divides by others, and no
sum is rounded before it is divided.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor

from attnbench.operators import Mask, Reduction, colreduce

__all__ = ["flash_colreduce"]


def flash_colreduce(query: Tensor, key: Tensor, reduction: str, is_causal: bool = False,
                    scale: float | None = None) -> Tensor:
    """The sum, mean or maximum over the queries of the attention weights of each key.

    Args:
        query: [B, H, M, D].
        key: [B, H, N, D].
        reduction: `sum`, `mean` (over the queries that see the key) or `max`.
        is_causal: Query m sees the keys n <= m + max(N - M, 0).
        scale: Factor of the scores; None is 1 / sqrt(D).

    Returns:
        [B, H, N] in the type of the query.

    Raises:
        ValueError: Batch size, heads or head dimension differ; the reduction is another word; or,
            as for `attnbench.colreduce`, types or devices differ.
    """
    if query.ndim != 4 or key.ndim != 4:
        raise ValueError(f"query and key must have 4 axes, not {query.ndim} and {key.ndim}")
    if query.shape[1] != key.shape[1]:
        raise ValueError("query and key must have as many heads, not "
                         f"{query.shape[1]} and {key.shape[1]}")
    mask: Mask = "none"
    if is_causal:
        mask = "causal" if query.shape[2] <= key.shape[2] else "causal_top_left"
    return colreduce(query, key, cast(Reduction, reduction), mask=mask, scale=scale,
                     out_dtype=query.dtype)
