"""Attention residuals in PyTorch: the forms that a user would write, and the fp64 answer by the explicit
formulas of reference/attnres/README.md, forward and backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Outputs = tuple[Tensor, ...]
CHUNK_TOKENS = 4096  # of the fp64 answer, which is a multiple of the data's size


def total_bytes(tensors: Iterable[Tensor | None]) -> int:
    return sum(t.element_size() * t.nelement() for t in tensors if t is not None)


def inverse_rms(x: Tensor, eps: float) -> Tensor:
    """(|x|^2 / D + eps)^(-1/2) over the last axis."""
    return torch.rsqrt(x.square().mean(-1) + eps)


def phase1_eager(v: Tensor, wt: Tensor, eps: float) -> Outputs:
    """S queries [S, D] read N sources [N, B, T, D] by matrix products: out [S, B, T, D], lse."""
    x = v.float()
    logits = torch.einsum("nbtd,sd->snbt", x, wt.float()) * inverse_rms(x, eps)
    lse = torch.logsumexp(logits, 1)
    weights = torch.exp(logits - lse.unsqueeze(1))
    return torch.einsum("snbt,nbtd->sbtd", weights, x).to(v.dtype), lse


def phase1_fusable(v: Tensor, wt: Tensor, eps: float) -> Outputs:
    """The same query by query, by products and sums that a compiler can fuse."""
    x = v.float()
    r = inverse_rms(x, eps)
    out, lses = [], []
    for query in wt.float():
        logits = (x * query).sum(-1) * r
        lse = torch.logsumexp(logits, 0)
        out.append((torch.exp(logits - lse).unsqueeze(-1) * x).sum(0).to(v.dtype))
        lses.append(lse)
    return torch.stack(out), torch.stack(lses)


def merge(partial: Tensor, wt: Tensor, read: Tensor, z: Tensor, eps: float) -> Outputs:
    """The partial sum [B, T, D], one more source, into what phase 1 has read for the query [1, D]."""
    b, o = partial.float(), read.float()
    logit = (b * wt[0].float()).sum(-1) * inverse_rms(b, eps)
    weight = torch.sigmoid(logit - z).unsqueeze(-1)
    return ((o + weight * (b - o)).to(read.dtype),)


def _softmax64(v: Tensor, wt: Tensor, eps: float) -> tuple[Tensor, ...]:
    """Logits [S, N, t], weights, r [N, t] and lse [S, t] of fp64 sources [N, t, D]."""
    r = 1 / torch.sqrt(v.square().sum(-1) / v.shape[-1] + eps)
    logits = torch.einsum("ntd,sd->snt", v, wt) * r
    lse = torch.logsumexp(logits, 1)
    return logits, torch.exp(logits - lse.unsqueeze(1)), r, lse


def phase1_answer(v: Tensor, wt: Tensor, eps: float) -> Outputs:
    """out [S, t, D] and lse [S, t] in fp64, of v [N, t, D] and wt [S, D] in fp64."""
    _, p, _, lse = _softmax64(v, wt, eps)
    return torch.einsum("snt,ntd->std", p, v), lse


def phase1_bwd_answer(v: Tensor, wt: Tensor, dout: Tensor, eps: float) -> Outputs:
    """dv [N, t, D], and what these tokens give dwt [S, D]."""
    logits, p, r, _ = _softmax64(v, wt, eps)
    c = torch.einsum("std,ntd->snt", dout, v)
    g = p * (c - (p * c).sum(1, keepdim=True)) if v.shape[0] > 1 else torch.zeros_like(c)
    k = (g * logits).sum(0) * r.square() / v.shape[-1]
    dv = (torch.einsum("snt,std->ntd", p, dout) + torch.einsum("snt,sd->ntd", g * r, wt)
          - k.unsqueeze(-1) * v)
    return dv, torch.einsum("snt,ntd->sd", g * r, v)


def _weights64(b: Tensor, wt: Tensor, z: Tensor, eps: float) -> tuple[Tensor, ...]:
    r = 1 / torch.sqrt(b.square().sum(-1) / b.shape[-1] + eps)
    logit = (b * wt[0]).sum(-1) * r
    return logit, r, torch.sigmoid(logit - z), torch.sigmoid(z - logit)


def merge_answer(b: Tensor, wt: Tensor, read: Tensor, z: Tensor, eps: float) -> Outputs:
    """out [t, D] in fp64."""
    _, _, a, other = _weights64(b, wt, z, eps)
    return (other.unsqueeze(-1) * read + a.unsqueeze(-1) * b,)


def merge_bwd_answer(b: Tensor, wt: Tensor, read: Tensor, z: Tensor, dout: Tensor, held: Tensor,
                     eps: float) -> Outputs:
    """`held` plus db [t, D], dread [t, D], dz [t], and what these tokens give dwt [1, D]."""
    logit, r, a, other = _weights64(b, wt, z, eps)
    dl = a * other * (dout * (b - read)).sum(-1)
    k = logit * r.square() / b.shape[-1]
    db = (a.unsqueeze(-1) * dout
          + dl.unsqueeze(-1) * (r.unsqueeze(-1) * wt[0] - k.unsqueeze(-1) * b))
    return held + db, other.unsqueeze(-1) * dout, -dl, ((dl * r).unsqueeze(-1) * b).sum(0)[None]


def normal(*shape: int, generator: torch.Generator, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    """Random data of standard deviation `scale`."""
    return (torch.randn(*shape, generator=generator, device=generator.device) * scale).to(dtype)


def query_scale(width: int) -> float:
    """The power of two that gives logits the size of 1, as in reference/attnres/contract.cpp."""
    return 2.0 ** -((math.ceil(math.log2(width)) + 1) // 2)


class Problem:
    """Inputs of one cell, what is computed from them, and its answer."""

    def __init__(self, op: str, shape: dict[str, int], eps: float, seed: int, device: str,
                 dtype: torch.dtype = torch.bfloat16) -> None:
        generator = torch.Generator(device=device).manual_seed(seed)
        rows = (shape["B"], shape["T"])
        width = shape["D"]
        self.op = op
        self.eps = eps
        self.backward = op.endswith("_bwd")
        self.reads = op.startswith("attnres_phase1")

        def data(*lead: int, kind: torch.dtype = dtype) -> Tensor:
            return normal(*lead, *rows, width, generator=generator, dtype=kind)

        queries = shape["S"] if self.reads else 1
        wt = normal(queries, width, generator=generator, dtype=dtype, scale=query_scale(width))
        if self.reads:
            self.inputs: Outputs = (data(shape["N"]), wt)
            self.dout = data(queries) if self.backward else None
        else:
            z = normal(*rows, generator=generator, dtype=torch.float32)
            self.inputs = (data(), wt, data(), z)
            self.dout = data() if self.backward else None
        self.held = data() if self.backward and not self.reads else None
        self.bytes = total_bytes((*self.inputs, self.dout, self.held))

    def forward(self, function: Callable[..., Any]) -> Outputs:
        out = function(*self.inputs, self.eps)
        return out if isinstance(out, tuple) else (out,)

    def prepare_backward(self, function: Callable[..., Any]) -> Callable[[], None]:
        """Runs the forward, and returns what the backward then has to do: gradients land in .grad."""
        leaves = tuple(t.requires_grad_() for t in self.inputs)
        for leaf in leaves:
            leaf.grad = None
        if self.held is not None:
            leaves[0].grad = self.held.clone()  # the partial sum's gradient is added to it
        out = self.forward(function)[0]
        return lambda: torch.autograd.backward(out, self.dout, inputs=leaves)

    def gradients(self) -> Outputs:
        """In the order of the answer: dv, dwt; or db, dread, dz, dwt."""
        grads = [t.grad for t in self.inputs]
        order = grads if self.reads else [grads[0], grads[2], grads[3], grads[1]]
        if any(g is None for g in order):
            raise RuntimeError("a gradient is missing")
        return tuple(g for g in order if g is not None)

    def answer(self, first: int, end: int) -> Outputs:
        """The answer of tokens [first, end), in fp64; of dwt what these tokens give."""
        def rows(t: Tensor) -> Tensor:
            return t.detach().flatten(-3, -2)[..., first:end, :].double()

        wt = self.inputs[1].detach().double()
        if self.reads:
            v = rows(self.inputs[0])
            if self.dout is None:
                return phase1_answer(v, wt, self.eps)
            return phase1_bwd_answer(v, wt, rows(self.dout), self.eps)
        b, read = rows(self.inputs[0]), rows(self.inputs[2])
        z = self.inputs[3].detach().flatten()[first:end].double()
        if self.dout is None or self.held is None:
            return merge_answer(b, wt, read, z, self.eps)
        return merge_bwd_answer(b, wt, read, z, rows(self.dout), rows(self.held), self.eps)

    def error(self, got: Outputs, limits: dict[torch.dtype, float]) -> tuple[float, int]:
        """The largest norm of an output's error, over that of the answer times the limit of its type;
        and which output has it. NaN is infinite."""
        tokens = self.inputs[0].shape[-3] * self.inputs[0].shape[-2]
        wrong = [0.0] * len(got)
        right = [0.0] * len(got)
        summed: dict[int, Tensor] = {}

        def count(i: int, mine: Tensor, exact: Tensor) -> None:
            wrong[i] += float((mine.detach().double() - exact).square().sum())
            right[i] += float(exact.square().sum())

        for first in range(0, tokens, CHUNK_TOKENS):
            end = min(first + CHUNK_TOKENS, tokens)
            for i, exact in enumerate(self.answer(first, end)[:len(got)]):
                if self.backward and i == len(got) - 1:  # dwt is summed over tokens
                    summed[i] = summed[i] + exact if i in summed else exact
                elif exact.dim() >= 2 and exact.shape[-2:] == (end - first, got[i].shape[-1]):
                    count(i, got[i].flatten(-3, -2)[..., first:end, :], exact)
                else:  # one number a token
                    count(i, got[i].flatten(-2, -1)[..., first:end], exact)
        for i, exact in summed.items():
            count(i, got[i], exact)
        errors = []
        for w, r, t in zip(wrong, right, got):
            ratio = math.sqrt(w / r) if r > 0 else math.inf if w > 0 else 0.0
            errors.append(math.inf if math.isnan(ratio) else ratio / limits[t.dtype])
        worst = max(range(len(errors)), key=errors.__getitem__)
        return errors[worst], worst
