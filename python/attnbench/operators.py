"""The operators as typed functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from attnbench.library import load_operators

load_operators()
# The overloads by themselves: without looking for one at each call.
_COLREDUCE = torch.ops.attnbench.colreduce.default
_COLREDUCE_WITH_LSE = torch.ops.attnbench.colreduce_with_lse.default

Reduction = Literal["sum", "mean", "max"]
Mask = Literal["none", "causal", "causal_top_left"]
MeanOver = Literal["visible", "all"]
Heads = Literal["each", "mean", "sum", "max", "group"]
Lengths = Sequence[int]


@overload
def colreduce(query: Tensor, key: Tensor, reduction: Reduction = ..., *, mask: Mask = ...,
              scale: float | None = ..., heads: Heads = ..., mean_over: MeanOver = ...,
              softcap: float = ..., window: int = ..., query_begin: int = ...,
              query_end: int = ..., q_len: Lengths | None = ..., kv_len: Lengths | None = ...,
              cu_q: Lengths | None = ..., cu_k: Lengths | None = ..., lse: Tensor | None = ...,
              out_dtype: torch.dtype | None = ...,
              return_lse: Literal[False] = ...) -> Tensor: ...


@overload
def colreduce(query: Tensor, key: Tensor, reduction: Reduction = ..., *, mask: Mask = ...,
              scale: float | None = ..., heads: Heads = ..., mean_over: MeanOver = ...,
              softcap: float = ..., window: int = ..., query_begin: int = ...,
              query_end: int = ..., q_len: Lengths | None = ..., kv_len: Lengths | None = ...,
              cu_q: Lengths | None = ..., cu_k: Lengths | None = ..., lse: None = ...,
              out_dtype: torch.dtype | None = ...,
              return_lse: Literal[True]) -> tuple[Tensor, Tensor]: ...


def colreduce(query: Tensor, key: Tensor, reduction: Reduction = "sum", *, mask: Mask = "none",
              scale: float | None = None, heads: Heads = "each",
              mean_over: MeanOver = "visible", softcap: float = 0.0, window: int = -1,
              query_begin: int = 0, query_end: int = -1, q_len: Lengths | None = None,
              kv_len: Lengths | None = None, cu_q: Lengths | None = None,
              cu_k: Lengths | None = None, lse: Tensor | None = None,
              out_dtype: torch.dtype | None = None,
              return_lse: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """Reduces the attention weights of every key over the queries, without the M x N matrix.

        R[b, h, n] = reduce over m of softmax(scale * query[b, h, m] . key[b, g, :])[n]

    Args:
        query: [B, H, M, D] in float16, bfloat16 or float32, of any strides with D contiguous;
            packed sequences are [rows of all, H, D].
        key: [B, H_kv, N, D] or [rows of all, H_kv, D], of the same type and on the same device;
            H_kv divides H, and H / H_kv query heads share a key head.
        reduction: `sum`, `mean` or `max` over the queries.
        mask: `none`; `causal`, right-aligned: query m sees keys n <= m + N - M; or
            `causal_top_left`: n <= m.
        scale: Factor of the scores; None is 1 / sqrt(D).
        heads: What becomes of the query heads: `each` is kept, their `mean`, `sum` or `max` is
            taken, or `group` adds those that share a key head.
        mean_over: What a mean divides by: the contributing queries that may see the key (`visible`)
            or `all` contributing queries.
        softcap: c > 0 makes scores c * tanh(score / c); 0 is off.
        window: Keys left of the (right-aligned) diagonal that a query sees; -1 is all.
        query_begin, query_end: Only these queries contribute; negative begins count from the end,
            and the end -1 is all: query_begin=-32 is an observation window of the last 32.
        q_len, kv_len: Lengths of padded sequences, one a batch; what lies beyond does not exist.
        cu_q, cu_k: Prefix sums of packed sequences: sequence i has the rows cu_q[i] to cu_q[i + 1].
        lse: [B, H, M] or [H, M] in float32: the natural logarithm of the sum of the exponentials of
            each query's scores, where a forward pass has it already; it saves one of two passes.
        out_dtype: Type of the result: float32 (None) or that of the query; rounded once.
        return_lse: Return the lse as well; -inf for queries that see no key or do not contribute.

    Returns:
        [B, H, N]; [B, N] where heads are reduced to one; [B, H_kv, N] for `group`; without B for
        packed sequences. 0 where no contributing query sees the key. It has no gradient. With
        `return_lse`, a pair with the lse.

    Raises:
        ValueError: An argument is not valid; the message says in one sentence what it must be.
    """
    options: dict[str, Any] = {}  # those that differ from the operator's own: each costs time
    if mask != "none":
        options["mask"] = mask
    if scale is not None:
        options["scale"] = scale
    if heads != "each":
        options["heads"] = heads
    if mean_over != "visible":
        options["mean_over"] = mean_over
    if softcap != 0.0:
        options["softcap"] = softcap
    if window != -1:
        options["window"] = window
    if query_begin != 0:
        options["query_begin"] = query_begin
    if query_end != -1:
        options["query_end"] = query_end
    if q_len is not None:
        options["q_len"] = q_len
    if kv_len is not None:
        options["kv_len"] = kv_len
    if cu_q is not None:
        options["cu_q"] = cu_q
    if cu_k is not None:
        options["cu_k"] = cu_k
    if lse is not None:
        options["lse"] = lse
    if out_dtype is not None:
        options["out_dtype"] = out_dtype
    if not return_lse:
        scores: Tensor = _COLREDUCE(query, key, reduction, **options)
        return scores
    if lse is not None:
        raise ValueError("colreduce: lse must be None where return_lse asks for it")
    both: tuple[Tensor, Tensor] = _COLREDUCE_WITH_LSE(query, key, reduction, **options)
    return both
