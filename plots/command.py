"""Command line of the figure scripts: reads rows, draws, writes a PNG."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from rows import NoRows, RowError, Rows, latest

ROOT = Path(__file__).resolve().parent.parent
DEVICE = "nvidia-h200"


def parser(summary: str) -> argparse.ArgumentParser:
    """Options that every script of this folder takes."""
    options = argparse.ArgumentParser(description=summary)
    options.add_argument("--results", type=Path, default=ROOT / "results", help="folder of rows")
    options.add_argument("--device", default=DEVICE, help="folder below it (%(default)s)")
    options.add_argument("--mix", action="store_true",
                         help="draw rows of different machines or drivers together")
    return options


def say_left_out(rows: Rows, device: str) -> None:
    if rows.left_out:
        print(f"{device}: rows of another machine or driver left out: "
              f"{', '.join(rows.left_out)}", file=sys.stderr)


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Writes the PNG; the same rows give the same bytes with the same libraries.

    A palette halves the file: line art has few colours.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    image = Image.open(drawn).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def main(name: str, summary: str, figure: Callable[[Rows, str | None], Figure],
         argv: Sequence[str] | None = None) -> int:
    """Draws one figure of one device into OUT/DEVICE/NAME.png; 2 with a sentence when it cannot."""
    options = parser(summary)
    options.add_argument("--out", type=Path, default=ROOT / "plots", help="folder of figures")
    options.add_argument("--suite", help="default: readme on a GPU, small on a CPU")
    args = options.parse_args(argv)
    try:
        rows = latest(args.results, args.device, args.mix)
        say_left_out(rows, args.device)
        print(save(figure(rows, args.suite), args.out / args.device, name))
    except (NoRows, RowError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0
