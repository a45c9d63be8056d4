"""Attention residuals: reads over depth, and networks around modules of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from attnbench.library import load_operators

load_operators()
_MIX = torch.ops.attnbench.attnres_mix.default
_PHASE1 = torch.ops.attnbench.attnres_phase1.default
_MERGE = torch.ops.attnbench.attnres_merge.default
_NETWORK = torch.ops.attnbench.attnres_network.default

Sublayer = Callable[[Tensor], Tensor]
Schedule = Literal["auto", "one_shot", "two_phase"]
Recompute = Literal["none", "keep_o1", "block"]


class Read(NamedTuple):
    """What one query has read."""

    out: Tensor  # [..., D] in the type of the sources
    lse: Tensor  # [...] normalisers in float32, natural logarithm
    sum: Tensor  # [..., D] the last source with the update; without one empty, [0]


def attnres_mix(sources: Sequence[Tensor], query: Tensor, eps: float = 1e-6, *,
                update: Tensor | None = None, gamma: Tensor | None = None,
                norm_eps: float = 1e-6) -> Read:
    """One query reads all sources: a softmax over depth, token by token.

        out = sum over n of p_n v_n,  p = softmax over n of <query, v_n> / rms(v_n)

    Args:
        sources: 1 to 128 tensors [..., D] in float16, bfloat16 or float32, oldest first.
        query: [D], in any of these types; a key norm's weight and a scale are factors of it.
        eps: Added to the mean square of a source.
        update: [..., D] added to the last source first; the sum is rounded to its type and read.
        gamma: [D] in the type of the query: `out` is then its RMS norm with this weight.
        norm_eps: Added to the mean square of the output, for its norm.

    Returns:
        The read. It is differentiable once, in every tensor; nothing is saved for that but
        what came in, and the sum.

    Raises:
        ValueError: An argument is not valid; the message says in one sentence what it must be.
    """
    return Read(*_MIX(sources, query, eps, update=update, gamma=gamma, norm_eps=norm_eps))


def attnres_phase1(sources: Sequence[Tensor], queries: Tensor,
                   eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """S queries read the same sources at once, as `attnres_mix` does.

    Args:
        sources: 1 to 128 tensors [..., D] in float16, bfloat16 or float32.
        queries: [S, D] with S from 1 to 64, in any of these types.
        eps: Added to the mean square of a source.

    Returns:
        The reads [S, ..., D], which `unbind(0)` separates, and their normalisers [S, ...] in
        float32. Both are differentiable once.
    """
    reads: Tensor
    lse: Tensor
    reads, lse = _PHASE1(sources, queries, eps)
    return reads, lse


def attnres_merge(partial: Tensor, query: Tensor, read: Tensor, lse: Tensor, eps: float = 1e-6,
                  *, update: Tensor | None = None, gamma: Tensor | None = None,
                  norm_eps: float = 1e-6) -> Read:
    """The mix of one more source and of those that the query has read already.

    Args:
        partial: [..., D] the source, such as the sum of a block's sublayers so far.
        query: [D].
        read: [..., D] what `attnres_phase1` has read with this query, in the type of `partial`.
        lse: [...] the normalisers of that, in float32.
        eps, update, gamma, norm_eps: As of `attnres_mix`, the last source being `partial`.

    Returns:
        The read. It is differentiable once, in every tensor.
    """
    return Read(*_MERGE(partial, query, read, lse, eps, update=update, gamma=gamma,
                        norm_eps=norm_eps))


class _Sublayers(torch.Tensor):
    """Carries a network's sublayers through PyTorch's dispatcher, which takes tensors alone: what
    holds the tensor, such as the graph of a result, keeps them alive."""

    functions: tuple[Sublayer, ...]
    __torch_function__ = torch._C._disabled_torch_function_impl


def _call_sublayer(h: Tensor, sublayers: Tensor, index: int) -> Tensor:
    assert isinstance(sublayers, _Sublayers)
    out = sublayers.functions[index](h)
    if not isinstance(out, Tensor):
        raise TypeError(f"attnres_network: sublayer {index} must return a tensor, not "
                        f"{type(out).__name__}")
    return out


_LIBRARY = torch.library.Library("attnbench", "IMPL")
_LIBRARY.impl("attnres_sublayer", _call_sublayer, "CompositeImplicitAutograd")


@torch.compiler.disable
def attnres_network(embedding: Tensor, queries: Tensor, sublayers: Iterable[Sublayer], *,
                    block_size: int = 8, schedule: Schedule = "auto",
                    recompute: Recompute = "block", eps: float = 1e-6) -> Tensor:
    """A network with block attention residuals around L sublayers, with its gradients.

    Sublayer l reads, by queries[l], the embedding, the sums of the finished blocks and that of
    its own block so far; queries[L] reads the embedding and all blocks.

    Args:
        embedding: [..., D] in float16, bfloat16 or float32.
        queries: [L + 1, D], in any of these types, on the device of the embedding.
        sublayers: Modules, or functions that use no tensor with a gradient besides what they
            read. Each returns a tensor like the one it reads. It must not write that, and must
            clone it to keep it: the memory is the runner's.
        block_size: Sublayers of a block, 1 to 64; the last block may be short.
        schedule: How a block reads the older ones: `one_shot` for each sublayer, `two_phase` for
            all at once, or what moves less memory (`auto`).
        recompute: What the backward computes again: `none`; sublayers and merges (`keep_o1`);
            the reads of older blocks too (`block`). Gradients have the same bits where sublayers
            are deterministic; random numbers and autocast are those of the forward.
        eps: Added to the mean square of a source.

    Returns:
        [..., D]. Gradients flow, once, to the embedding, the queries and the parameters of the
        modules.

    Raises:
        ValueError: An argument, or what a sublayer returns, is not valid. What a sublayer raises
            comes through.
    """
    functions = tuple(sublayers)
    parameters = [list(f.parameters()) if isinstance(f, nn.Module) else [] for f in functions]
    carrier = torch.empty(0).as_subclass(_Sublayers)
    carrier.functions = functions
    out: Tensor = _NETWORK(embedding, queries, carrier,
                           [p for of_one in parameters for p in of_one],
                           [len(of_one) for of_one in parameters], block_size, schedule, recompute,
                           eps)
    return out


class BlockRunner(nn.Module):
    """`attnres_network` as a module: it owns the sublayers and the queries, which begin as zeros,
    so that every read is a mean.

    Args:
        sublayers: L modules [..., D] -> [..., D].
        width: D.
        block_size, schedule, recompute, eps: As of `attnres_network`; attributes that may change.
        device, dtype: Of the queries.
    """

    def __init__(self, sublayers: Iterable[nn.Module], width: int, *, block_size: int = 8,
                 schedule: Schedule = "auto", recompute: Recompute = "block", eps: float = 1e-6,
                 device: torch.device | str | None = None,
                 dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.sublayers = nn.ModuleList(sublayers)
        self.queries = nn.Parameter(
            torch.zeros(len(self.sublayers) + 1, width, device=device, dtype=dtype))
        self.block_size = block_size
        self.schedule: Schedule = schedule
        self.recompute: Recompute = recompute
        self.eps = eps

    def forward(self, embedding: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        return attnres_network(embedding, self.queries, self.sublayers,
                               block_size=self.block_size, schedule=self.schedule,
                               recompute=self.recompute, eps=self.eps)
