"""The column reduction in float64 PyTorch with its error bound: tests of the package use both.

The formulas are those of reference/colreduce/README.md, written anew: tensor by tensor, with the
whole M x N matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

U = 2.0 ** -24  # unit roundoff of float32
WALK = 4
ROUNDOFF = {torch.float16: 2.0 ** -11, torch.bfloat16: 2.0 ** -8, torch.float32: U}
HALF_SUBNORMAL = {torch.float16: 2.0 ** -25, torch.bfloat16: 2.0 ** -134,
                  torch.float32: 2.0 ** -150}
INF = math.inf


@dataclass
class Answer:
    """The exact result, how far a right one may be from it, and the same of the lse."""

    value: Tensor
    tolerance: Tensor
    lse: Tensor
    lse_tolerance: Tensor

    def worst(self, got: Tensor) -> float:
        """Largest error over its tolerance; infinite where shapes or NaN patterns differ."""
        return _worst(got, self.value, self.tolerance)

    def worst_lse(self, got: Tensor) -> float:
        return _worst(got, self.lse, self.lse_tolerance)


def _worst(got: Tensor, value: Tensor, tolerance: Tensor) -> float:
    got = got.double()
    if got.shape != value.shape:
        return INF
    same = (got == value) | (got.isnan() & value.isnan())
    ratio = torch.where(same, 0.0, (got - value).abs() / tolerance)
    return INF if ratio.isnan().any() else float(ratio.max())


def _part(q: Tensor, k: Tensor, reduction: str, mask: str, scale: float, heads: str,
          mean_over: str, softcap: float, window: int, begin: int, end: int, given: Tensor | None,
          half_weights: bool) -> Answer:
    """Of q [B, H, M, D] and k [B, H_kv, N, D] in float64 without lengths; before rounding."""
    h, m_rows, d = q.shape[1:]
    group, n_rows = h // k.shape[1], k.shape[2]
    every = k.repeat_interleave(group, 1)
    s = scale * q @ every.transpose(-1, -2)
    if softcap > 0:
        s = softcap * torch.tanh(s / softcap)
    m = torch.arange(m_rows, device=q.device)[:, None]
    n = torch.arange(n_rows, device=q.device)
    diagonal = {"none": n_rows, "causal": n_rows - m_rows, "causal_top_left": 0}[mask]
    seen = n <= m + diagonal
    if window >= 0:
        seen &= n >= m + n_rows - m_rows - window
    seen &= (m >= begin) & (m < end)

    reach = abs(scale) * q.norm(dim=-1, keepdim=True)  # [B, H, M, 1]
    norms = every.norm(dim=-1)[:, :, None, :]
    largest = reach * norms.amax(-1, keepdim=True)
    per_key = WALK * math.sqrt(d) * 2 * U * reach
    drift = 4 * U * largest + 8 * U * largest.clamp(max=softcap) + 8 * U
    hidden = s.masked_fill(~seen, -INF)
    if given is None:
        lse = hidden.logsumexp(-1, keepdim=True)
    else:
        lse = given.double()[..., None]
    p = torch.where(seen & ~lse.isinf(), (s - lse).exp(), 0.0)
    if given is None:
        drift = 2 * drift - 8 * U + per_key * (p * norms).sum(-1, keepdim=True)
        drift = drift + WALK * math.sqrt(n_rows) * U
    else:
        drift = drift + 4 * U * lse.abs()
    terms = p * (per_key * norms + drift)
    terms = torch.where(p == 0, 0.0, terms)

    over_rows: Callable[[Tensor], Tensor] = (
        (lambda t: t.amax(2)) if reduction == "max" else (lambda t: t.sum(2)))

    def over_heads(t: Tensor) -> Tensor:
        if heads == "each":
            return t
        if heads == "group":
            return t.unflatten(1, (-1, group)).sum(2)
        return t.amax(1) if heads == "max" else t.sum(1)

    combined = 1 if heads == "each" else group if heads == "group" else h
    adds_heads = heads not in ("each", "max") and combined > 1
    divisor = torch.full((n_rows,), float(h if heads == "mean" else 1), device=q.device,
                         dtype=torch.float64)
    if reduction == "mean":
        divisor = divisor * (seen.sum(0).clamp(min=1) if mean_over == "visible" else end - begin)
    total = over_heads(over_rows(p))
    count = (1 if reduction == "max" else end - begin) * (combined if adds_heads else 1)
    bound = over_heads(over_rows(terms)) + count * 2.0 ** -126
    alone = reduction == "max" and not adds_heads
    if not alone:
        bound = bound + total * WALK * math.sqrt(count) * U
    if half_weights:
        walk = 1 if alone else WALK
        bound = bound + 2.0 ** -11 * walk * over_heads(over_rows(p * p)).sqrt()
        bound = bound + count * 2.0 ** -25 / 256
    finite = torch.where(lse.isinf(), 0.0, lse.abs())
    lse_bound = torch.where(lse.isinf(), 0.0, drift + 4 * U * finite + U * finite + 2.0 ** -150)
    return Answer(total / divisor, bound / divisor, lse[..., 0], lse_bound[..., 0])


def reference(query: Tensor, key: Tensor, reduction: str = "sum", *, mask: str = "none",
              scale: float | None = None, heads: str = "each", mean_over: str = "visible",
              softcap: float = 0.0, window: int = -1, query_begin: int = 0, query_end: int = -1,
              q_len: Sequence[int] | None = None, kv_len: Sequence[int] | None = None,
              cu_q: Sequence[int] | None = None, cu_k: Sequence[int] | None = None,
              lse: Tensor | None = None, out_dtype: torch.dtype | None = None) -> Answer:
    """The answer to the call of `attnbench.colreduce` with the same arguments."""
    packed = cu_q is not None and cu_k is not None
    q, k = query.detach().double(), key.detach().double()
    if packed:
        q, k = q.transpose(0, 1)[None], k.transpose(0, 1)[None]
        lse = None if lse is None else lse[None]
    b, h, m_rows, d = q.shape
    n_rows = k.shape[2]
    of_heads = {"each": [b, h], "group": [b, k.shape[1]]}.get(heads, [b])
    value = q.new_zeros([*of_heads, n_rows])
    lses = q.new_full([b, h, m_rows], -INF)
    answer = Answer(value, value.clone(), lses, torch.zeros_like(lses))
    if packed:
        assert cu_q is not None and cu_k is not None
        parts: list[tuple[int, slice, slice]] = [
            (0, slice(cu_q[i], cu_q[i + 1]), slice(cu_k[i], cu_k[i + 1]))
            for i in range(len(cu_q) - 1)]
    else:
        parts = [(i, slice(0, q_len[i] if q_len else m_rows),
                  slice(0, kv_len[i] if kv_len else n_rows)) for i in range(b)]
    # f32 inputs are never weighed in 16 bits; a CPU's are not either.
    half_weights = query.is_cuda and query.dtype != torch.float32
    for batch, rows, keys in parts:
        one = slice(batch, batch + 1)
        count = rows.stop - rows.start
        begin = max(count + query_begin, 0) if query_begin < 0 else min(query_begin, count)
        end = count if query_end < 0 else min(query_end, count)
        if begin >= end or keys.start == keys.stop:
            continue
        part = _part(q[one, :, rows], k[one, :, keys], reduction, mask,
                     1 / math.sqrt(d) if scale is None else scale, heads, mean_over, softcap,
                     window, begin, end, None if lse is None else lse[one, :, rows], half_weights)
        answer.value[one, ..., keys] = part.value
        answer.tolerance[one, ..., keys] = part.tolerance
        answer.lse[one, :, rows] = part.lse
        answer.lse_tolerance[one, :, rows] = part.lse_tolerance
    out = out_dtype or torch.float32
    answer.tolerance += ROUNDOFF[out] * answer.value.abs() + HALF_SUBNORMAL[out]
    if packed:
        answer = Answer(*(t[0] for t in vars(answer).values()))
    return answer
