"""Pruning visual tokens: a small ViT with random weights drops, after some of its layers, the
tokens that get the least attention, once with eager PyTorch and once with the operator.

    python examples/python/prune_tokens.py [--device cuda] [--tokens 4096] ...

Fails where both do not keep the same tokens, but for ties of rounding.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attnbench
from measure import MIB, median_ms, peak_bytes

Scorer = Callable[[Tensor, Tensor], Tensor]  # q, k [B, H, N, D] -> [B, N]


def eager_scores(q: Tensor, k: Tensor) -> Tensor:
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1, dtype=torch.float32)
    return weights.mean(dim=(1, 2))


def operator_scores(q: Tensor, k: Tensor) -> Tensor:
    return attnbench.colreduce(q, k, "mean", heads="mean")


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(),
                                 nn.Linear(4 * width, width))

    def forward(self, x: Tensor, scorer: Scorer | None) -> tuple[Tensor, Tensor | None]:
        """x [B, N, C] -> the same, and the tokens' scores [B, N] where a scorer is given."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # views [B, H, N, D] of the projection: no copy
        attended = F.scaled_dot_product_attention(q, k, v)
        x = x + self.project(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x)), scorer(q, k) if scorer else None


class PrunedViT(nn.Module):
    def __init__(self, layers: int, width: int, heads: int, prune_every: int, keep: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.prune_every, self.keep = prune_every, keep

    def forward(self, x: Tensor, scorer: Scorer | None) -> tuple[Tensor, Tensor]:
        """x [B, 1 + N, C], whose token 0 stays -> what remains, and where it was [B, n]."""
        where = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        for i, block in enumerate(self.blocks):
            prunes = scorer is not None and (i + 1) % self.prune_every == 0
            x, scores = block(x, scorer if prunes else None)
            if scores is None:
                continue
            scores[:, 0] = math.inf
            count = 1 + math.ceil(self.keep * (x.shape[1] - 1))
            kept = scores.topk(count, dim=1).indices.sort(dim=1).values
            x = x.gather(1, kept[..., None].expand(-1, -1, x.shape[2]))
            where = where.gather(1, kept)
        return x, where


def common(a: Tensor, b: Tensor) -> float:
    """Share of the tokens of a that are in b too; both [B, n]."""
    return float((a[:, :, None] == b[:, None, :]).any(-1).double().mean())


@torch.inference_mode()
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--keep", type=float, default=0.5, help="share kept at each pruning")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    torch.manual_seed(1)
    model = PrunedViT(args.layers, args.width, args.heads, 2, args.keep).to(device, dtype).eval()
    x = torch.randn(args.images, 1 + args.tokens, args.width).to(device, dtype)

    print(f"{device}, {args.images} images of {args.tokens} tokens, {args.layers} layers, every "
          f"second keeps {args.keep:.0%}")
    print(f"{'':<12} {'ms':>10} {'peak MiB':>10} {'tokens left':>12}")
    kept: dict[str, Tensor] = {}
    scorers: dict[str, Scorer | None] = {
        "no pruning": None, "attnbench": operator_scores, "eager": eager_scores}
    for name, scorer in scorers.items():
        ms = median_ms(lambda: model(x, scorer), device, args.repeats)
        peak = peak_bytes(lambda: model(x, scorer), device)
        kept[name] = model(x, scorer)[1]
        print(f"{name:<12} {ms:10.2f} {peak / MIB:10.1f} {kept[name].shape[1]:12}")
    share = common(kept["attnbench"], kept["eager"])
    print(f"{share:.1%} of the tokens that are left are the same")
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    raise SystemExit(main())
