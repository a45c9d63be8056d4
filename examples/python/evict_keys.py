"""Evicting keys from the cache of a small decoder with random weights: after the prompt each layer
keeps the keys that the last queries attend to most, as SnapKV does (Li et al., 2024), once with
eager PyTorch and once with the operator.

    python examples/python/evict_keys.py [--device cuda] [--prompt 16384] ...

Fails where both do not keep the same keys, but for ties of rounding.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attnbench
from measure import MIB, median_ms, peak_bytes

# Of q [B, H, N, D], k [B, H_kv, N, D] and the number of last queries, [B, H_kv, N].
Scorer = Callable[[Tensor, Tensor, int], Tensor]


def eager_scores(q: Tensor, k: Tensor, window: int) -> Tensor:
    last = q[:, :, -window:].unflatten(1, (k.shape[1], -1))  # [B, H_kv, group, window, D]
    scores = last @ k[:, :, None].transpose(-1, -2) / math.sqrt(q.shape[-1])
    n = torch.arange(k.shape[2], device=k.device)
    hidden = n > n[-window:, None]
    return scores.masked_fill(hidden, -math.inf).softmax(-1, dtype=torch.float32).sum((2, 3))


def operator_scores(q: Tensor, k: Tensor, window: int) -> Tensor:
    return attnbench.colreduce(q, k, mask="causal", query_begin=-window, heads="group")


@dataclass
class Cache:
    """Keys and values of a layer, [B, H_kv, n, D] each."""

    k: Tensor
    v: Tensor

    def bytes(self) -> int:
        return 2 * self.k.numel() * self.k.element_size()


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, key_heads: int) -> None:
        super().__init__()
        self.D, self.heads, self.key_heads = width // heads, heads, key_heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, (heads + 2 * key_heads) * self.D)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(),
                                 nn.Linear(4 * width, width))

    def forward(self, x: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor, Cache]:
        """x [B, rows, C] behind the cache -> the same, the queries and the longer cache."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (-1, self.D)).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.key_heads, self.key_heads], 1)  # views, no copies
        if cache:
            k, v = torch.cat([cache.k, k], 2), torch.cat([cache.v, v], 2)
        group = self.heads // self.key_heads
        attended = F.scaled_dot_product_attention(
            q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1),
            is_causal=cache is None)
        x = x + self.project(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x)), q, Cache(k, v)


def evicted(cache: Cache, scores: Tensor, window: int, budget: int) -> tuple[Cache, Tensor]:
    """The cache of `budget` keys: the last `window` and the others of the largest scores; and where
    they were [B, H_kv, budget]."""
    scores = scores.clone()
    scores[..., -window:] = math.inf
    kept = scores.topk(budget, dim=-1).indices.sort(dim=-1).values
    at = kept[..., None].expand(-1, -1, -1, cache.k.shape[-1])
    return Cache(cache.k.gather(2, at), cache.v.gather(2, at)), kept


def decode(layers: nn.ModuleList, x: Tensor, caches: list[Cache], steps: int) -> Tensor:
    """Feeds the last token's vector [B, 1, C] back `steps` times."""
    for _ in range(steps):
        longer = []
        for layer, cache in zip(layers, caches):
            x, _, grown = layer(x, cache)
            longer.append(grown)
        caches = longer
    return x


@torch.inference_mode()
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--prompt", type=int, default=2048)
    parser.add_argument("--budget", type=int, default=256, help="keys kept a layer and key head")
    parser.add_argument("--window", type=int, default=32, help="queries that are asked")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--key-heads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    torch.manual_seed(1)
    layers = nn.ModuleList(Layer(args.width, args.heads, args.key_heads)
                           for _ in range(args.layers)).to(device, dtype).eval()
    x = torch.randn(1, args.prompt, args.width).to(device, dtype)
    queries, full = [], []
    for layer in layers:
        x, q, cache = layer(x, None)
        queries.append(q)
        full.append(cache)
    last = x[:, -1:]

    print(f"{device}, prompt of {args.prompt}, {args.layers} layers, {args.budget} keys kept by "
          f"the last {args.window} queries")
    print(f"{'':<12} {'score ms':>10} {'peak MiB':>10} {'cache MiB':>10} {'ms a token':>11}")
    places: dict[str, Tensor] = {}
    scorers: dict[str, Scorer | None] = {
        "no eviction": None, "attnbench": operator_scores, "eager": eager_scores}
    for name, scorer in scorers.items():
        caches, score_ms, peak = full, 0.0, 0
        if scorer is not None:
            def score(scorer: Scorer = scorer) -> list[Tensor]:
                return [scorer(q, c.k, args.window) for q, c in zip(queries, full)]

            score_ms = median_ms(score, device, args.repeats)
            peak = peak_bytes(score, device)
            pairs = [evicted(c, s, args.window, args.budget) for c, s in zip(full, score())]
            caches = [cache for cache, _ in pairs]
            places[name] = torch.stack([kept for _, kept in pairs])
        token_ms = median_ms(lambda: decode(layers, last, caches, args.steps), device,
                             args.repeats) / args.steps
        size = sum(cache.bytes() for cache in caches)
        print(f"{name:<12} {score_ms:10.2f} {peak / MIB:10.1f} {size / MIB:10.2f} {token_ms:11.2f}")
    ours, eager = places["attnbench"], places["eager"]
    share = float((ours[..., :, None] == eager[..., None, :]).any(-1).double().mean())
    print(f"{share:.1%} of the keys that are kept are the same")
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    raise SystemExit(main())
