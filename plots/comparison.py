"""The newest comparison of two backends: every cell's ratio of times with its interval."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

import command
from panels import DPI, WIDTH_IN, environment_line
from rows import Comparison, Comparisons, NoRows, RowError, latest_comparisons
from style import FAILURE_COLOUR, NOTE_COLOUR, RC, STATUS, size_label

COLOURS = {"FASTER": "#009e73", "SLOWER": FAILURE_COLOUR, "SAME": "#333333",
           "UNDECIDED": "#999999"}
ROW_IN, HEAD_IN, FOOT_IN = 0.24, 0.75, 0.75
FINE_TICKS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25)
TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
COARSE_TICKS = tuple(digit * 10.0**power for power in range(-4, 5) for digit in (1, 2, 5))


def cell_name(cell: Comparison) -> str:
    """Sizes, type, reduction, mask, and the data unless it is normal."""
    sizes = " ".join(f"{name}{size_label(size)}" for name, size in cell.shape.items()
                     if name != "H_kv")
    words = [sizes, cell.dtype, str(cell.options.get("reduction", "")),
             str(cell.options.get("mask", "")), "" if cell.data == "normal" else cell.data]
    return " ".join(word for word in words if word)


def draw_interval(ax: Axes, gid: str, y: float, ratio: float, ends: tuple[float, float] | None,
                  **look: object) -> None:
    if ends is not None:
        bar = ax.errorbar([ratio], [y], xerr=[[ratio - ends[0]], [ends[1] - ratio]], fmt="none",
                          ecolor=look["color"], elinewidth=1.2, capsize=2.5)
        bar[2][0].set_gid(f"interval:{gid}")
    (line,) = ax.plot([ratio], [y], ls="none", **look)
    line.set_gid(f"ratio:{gid}")


def draw_cell(ax: Axes, y: int, cell: Comparison) -> None:
    if cell.ratio is None:
        status = STATUS.get(cell.status)  # none: both were right, and the time was spent
        words = f"{status.glyph} {status.meaning}" if status else "not measured"
        note = ax.text(0.5, y, words, ha="center", va="center",
                       transform=ax.get_yaxis_transform(), color=NOTE_COLOUR)
        note.set_gid(f"status:{cell.key}")
        return
    colour = COLOURS[cell.verdict or "UNDECIDED"]
    hollow = cell.status == "UNCHECKED"
    draw_interval(ax, cell.key, y, cell.ratio, cell.ci99, color=colour, marker="o", ms=5,
                  mfc="white" if hollow else colour)


def draw_mean(ax: Axes, y: int, comparisons: Comparisons) -> None:
    session = comparisons.session
    if session.mean is not None:
        draw_interval(ax, "mean", y, session.mean, session.mean_ci99, color="#0072b2", marker="D",
                      ms=6)


def caption(comparisons: Comparisons) -> str:
    cells, session = comparisons.cells, comparisons.session
    first = cells[0]
    counts = ", ".join(f"{sum(c.verdict == v for c in cells)} {v}" for v in COLOURS
                       if any(c.verdict == v for c in cells))
    mean = "" if session.mean is None else (
        f"Geometric mean {session.mean:.3f}, worst cell {session.worst:.3f}, "
        f"SLOWER {100 * (session.slower_share or 0):.0f} % of the cells compared. ")
    runs = list({c.run.run_id: c.run for c in cells}.values())
    proven = "" if session.proven else f" UNPROVEN: {'; '.join(session.doubts)}."
    return "\n".join([
        f"{environment_line(runs)} · suite {first.suite or 'none'} · {len(cells)} cells",
        f"{first.level} level, {first.cache} caches; bars: 99 % intervals; grey band: "
        f"differences below {100 * session.delta:.2g} % count as none. {counts}.",
        f"{mean}Sentinel drift {100 * session.drift:.1f} %.{proven}",
    ])


def figure(comparisons: Comparisons) -> Figure:
    cells = comparisons.cells
    first = cells[0]
    rows = len(cells) + 1
    height = HEAD_IN + ROW_IN * (rows + 1) + FOOT_IN
    with rc_context(RC):
        fig = Figure(figsize=(WIDTH_IN * 0.75, height), dpi=DPI)
        ax = fig.add_axes((0.36, FOOT_IN / height + 0.35 / height, 0.6,
                           (height - HEAD_IN - FOOT_IN) / height))
        ax.set_xscale("log")
        delta = comparisons.session.delta
        ax.axvspan(1 / (1 + delta), 1 + delta, color="#e8e8e8", lw=0)
        ax.axvline(1.0, color="#222222", lw=0.8)
        for y, cell in enumerate(cells):
            draw_cell(ax, y, cell)
        draw_mean(ax, len(cells), comparisons)
        ax.set_yticks(range(rows), [cell_name(c) for c in cells] + ["geometric mean"], fontsize=7.5)
        ax.set_ylim(rows - 0.3, -0.7)
        low, high = ax.get_xlim()
        ticks = FINE_TICKS if high < 1.5 * low else TICKS if high < 4 * low else COARSE_TICKS
        ax.xaxis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(f"time of {first.backend_b} / time of {first.backend_a}")
        marks = [Line2D([], [], ls="none", marker="o", color=colour, label=verdict)
                 for verdict, colour in COLOURS.items()]
        fig.legend(handles=marks, loc="upper right", ncols=4, bbox_to_anchor=(0.99, 1))
        fig.text(0.01, 1 - 0.1 / height, f"{first.backend_b} against {first.backend_a}", va="top",
                 fontsize=11, weight="bold")
        note = fig.text(0.01, 0.07 / height, caption(comparisons), va="bottom", fontsize=7,
                        color=NOTE_COLOUR, linespacing=1.35)
        note.set_gid("caption")
    return fig


def draw(results: Path, device: str, out: Path, mix: bool = False) -> Path:
    """Writes OUT/DEVICE/comparison.png; NoRows when nothing was compared."""
    comparisons = latest_comparisons(results, device, mix)
    if comparisons.left_out:
        print(f"{device}: comparisons of another machine or driver left out: "
              f"{', '.join(comparisons.left_out)}", file=sys.stderr)
    return command.save(figure(comparisons), out / device, "comparison")


def main(argv: Sequence[str] | None = None) -> int:
    """2 with a sentence when it cannot be drawn."""
    options = command.parser(__doc__ or "")
    options.add_argument("--out", type=Path, default=command.ROOT / "plots", help="folder of figures")
    args = options.parse_args(argv)
    try:
        print(draw(args.results, args.device, args.out, args.mix))
    except (NoRows, RowError, OSError) as error:
        print(f"comparison: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
