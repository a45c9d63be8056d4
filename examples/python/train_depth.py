"""Training a small Transformer whose residual stream is a softmax over depth (block attention
residuals), once by an eager loop and once by attnbench.BlockRunner.

    python examples/python/train_depth.py [--device cuda] [--layers 16] [--recompute none] ...

It learns to tell which token stood `lag` places before. Fails where the losses of both differ or
do not fall.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnbench import BlockRunner
from measure import MIB, median_ms, peak_bytes

TOKENS = 32


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]; nothing is added: the network does that over depth."""
        qkv = self.qkv(self.norm(h)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.project(attended.transpose(1, 2).flatten(2))
        return out


def mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(),
                         nn.Linear(4 * width, width))


class EagerRunner(BlockRunner):
    """The same network from PyTorch's operators: every read stacks its sources."""

    def read(self, sources: list[Tensor], query: Tensor) -> Tensor:
        v = torch.stack(sources)  # [N, B, T, D]
        rms = (v.float().square().mean(-1) + self.eps).rsqrt()
        weights = ((v @ query).float() * rms).softmax(0).to(v.dtype)
        return (weights[..., None] * v).sum(0)

    def forward(self, embedding: Tensor) -> Tensor:
        blocks, partial = [embedding], None
        for i, sublayer in enumerate(self.sublayers):
            if partial is not None and i % self.block_size == 0:
                blocks.append(partial)
                partial = None
            u = sublayer(self.read(blocks if partial is None else [*blocks, partial],
                                   self.queries[i]))
            partial = u if partial is None else partial + u
        return self.read(blocks if partial is None else [*blocks, partial], self.queries[-1])


class Transformer(nn.Module):
    def __init__(self, runner: type[BlockRunner], layers: int, width: int, heads: int,
                 length: int, **options: Any) -> None:
        super().__init__()
        sublayers = [part for _ in range(layers) for part in (Attention(width, heads), mlp(width))]
        self.tokens, self.places = nn.Embedding(TOKENS, width), nn.Embedding(length, width)
        self.depth = runner(sublayers, width, **options)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, TOKENS))

    def loss(self, tokens: Tensor, lag: int) -> Tensor:
        """Of tokens [B, T]."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        logits = self.head(self.depth(self.tokens(tokens) + self.places(places)))
        return F.cross_entropy(logits[:, lag:].flatten(0, 1), tokens[:, :-lag].flatten())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--block-size", type=int, default=4, help="sublayers: two a layer")
    parser.add_argument("--recompute", default="block", choices=("none", "keep_o1", "block"))
    parser.add_argument("--lag", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3, help="steps that are timed")
    args = parser.parse_args(argv)
    device = torch.device(args.device)

    def model(runner: type[BlockRunner]) -> Transformer:
        torch.manual_seed(1)
        return Transformer(runner, args.layers, args.width, args.heads, args.length,
                           block_size=args.block_size, recompute=args.recompute).to(device)

    print(f"{device}, {2 * args.layers} sublayers in blocks of {args.block_size}, {args.batch} "
          f"sequences of {args.length} tokens, width {args.width}, recompute {args.recompute}")
    print(f"{'':<12} {'ms a step':>10} {'peak MiB':>10} {'first loss':>11} {'last loss':>10}")
    losses: dict[str, list[float]] = {}
    for name, runner in (("attnbench", BlockRunner), ("eager", EagerRunner)):
        transformer = model(runner)
        optimizer = torch.optim.AdamW(transformer.parameters(), lr=3e-3)
        generator = torch.Generator().manual_seed(2)

        def step() -> Tensor:
            tokens = torch.randint(TOKENS, (args.batch, args.length), generator=generator)
            loss = transformer.loss(tokens.to(device), args.lag)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.detach()

        losses[name] = [float(step()) for _ in range(args.steps)]
        ms = median_ms(step, device, args.repeats)
        peak = peak_bytes(step, device)
        print(f"{name:<12} {ms:10.2f} {peak / MIB:10.1f} {losses[name][0]:11.4f} "
              f"{losses[name][-1]:10.4f}")
    near = [math.isclose(a, b, rel_tol=1e-2)
            for a, b in zip(losses["attnbench"][:10], losses["eager"][:10])]
    print(f"{sum(near)} of the first {len(near)} losses are the same, but for rounding")
    falls = all(of_one[-1] < of_one[0] for of_one in losses.values())
    return 0 if all(near) and falls else 1


if __name__ == "__main__":
    raise SystemExit(main())
