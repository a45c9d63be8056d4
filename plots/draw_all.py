"""Draws every figure for which there are rows, and says in a line what it skipped and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import command
import comparison
import correctness_matrix
import depth_bandwidth
import models_share
import peers
import readme_figure
import speed_of_light
import speedup
from rows import NoRows, RowError, devices, latest

FIGURES = {
    "readme_figure": readme_figure.figure,
    "speedup": speedup.figure,
    "speed_of_light": speed_of_light.figure,
    "correctness_matrix": correctness_matrix.figure,
    "depth_bandwidth": depth_bandwidth.figure,
    "models_share": models_share.figure,
    "peers": peers.figure,
    "colsum_figure": lambda rows, suite: readme_figure.figure(rows, suite or "colsum"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """0 when everything that has rows is drawn, 2 with a sentence when rows cannot be read."""
    options = command.parser(__doc__)
    options.add_argument("--out", type=Path, default=command.ROOT / "plots",
                         help="folder of figures")
    options.set_defaults(device=None)
    args = options.parse_args(argv)
    try:
        for device in [args.device] if args.device else devices(args.results):
            rows = latest(args.results, device, args.mix)
            command.say_left_out(rows, device)
            for name, figure in FIGURES.items():
                try:
                    print("drew", command.save(figure(rows, None), args.out / device, name))
                except NoRows as reason:
                    print(f"skipped {name} of {device}: {reason}")
            try:
                print("drew", comparison.draw(args.results, device, args.out, args.mix))
            except NoRows as reason:
                print(f"skipped comparison of {device}: {reason}")
        if not args.device and not devices(args.results):
            print(f"skipped every figure: no rows in {args.results}")
    except NoRows as reason:
        print(f"skipped every figure: {reason}")
    except (RowError, OSError) as error:
        print(f"draw_all: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
