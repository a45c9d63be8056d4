"""Attention residuals: share of the memory's speed that every backend reaches, by shape, cold."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import command
from panels import DPI, WIDTH_IN, environment_line
from rows import Cell, NoRows, Rows, runs_of
from style import NOTE_COLOUR, RC, backend_styles, size_label

FAMILY = "attnres_"
SUITE = "shapes"
ROW_IN = 0.2  # of a shape's line


def label(cell: Cell) -> str:
    """Sizes, and the options that differ from the default: `N4 S8 B4 T16k D2048, adds`."""
    sizes = " ".join(f"{name}{size_label(cell.shape[name])}" for name in "NSBTD"
                     if name in cell.shape)
    adds = cell.options.get("dpartial") == "add" or cell.options.get("add_to", "none") != "none"
    return sizes + (", adds" if adds else "") + (
        ", update" if cell.options.get("update") == "on" else "")


def measured(rows: Rows, suite: str) -> list[Cell]:
    """Timed cells whose row says how far from the memory's limit they are."""
    return [c for c in rows.select("bench", suite)
            if c.op.startswith(FAMILY) and c.timed and c.sol_pct is not None]


def _draw(ax: Axes, op: str, cells: Sequence[Cell]) -> None:
    """One line a shape, in the order of the rows; hollow markers where nothing was checked."""
    shapes = list(dict.fromkeys(label(c) for c in cells))
    for name, look in backend_styles(c.backend for c in cells).items():
        own = [c for c in cells if c.backend == name]
        (line,) = ax.plot([c.sol_pct for c in own], [shapes.index(label(c)) for c in own], ls="none",
                          marker=look.marker, color=look.colour, mec="white", mew=0.5, label=name)
        line.set_gid(f"{op}:{name}")
        hollow = [c for c in own if c.status != "OK"]
        ax.plot([c.sol_pct for c in hollow], [shapes.index(label(c)) for c in hollow], ls="none",
                marker=look.marker, color=look.colour, mfc="white")
    ax.axvline(100.0, color="#222222", lw=0.8, zorder=1.4)
    ax.set_xlim(0, 105)
    ax.set_yticks(range(len(shapes)), shapes)
    ax.set_ylim(len(shapes) - 0.5, -0.5)
    ax.set_title(op, pad=5)
    ax.set_xlabel("of the speed of light [%]")


def figure(rows: Rows, suite: str | None = None) -> Figure:
    cells = measured(rows, suite or SUITE)
    if not cells:
        raise NoRows(f"no speed of light of {FAMILY}* in the rows of suite {suite or SUITE}")
    operators = sorted({c.op for c in cells})
    lines = max(len({label(c) for c in cells if c.op == op}) for op in operators)
    height = 1.45 + ROW_IN * lines
    text = (f"{environment_line(runs_of(cells))} · suite {suite or SUITE}\nCold L2, medians; 100 % "
            "is the bytes that the operator must move at the copy rate measured in the same run, "
            "or its arithmetic where that takes longer.\n"
            f"Repeat: attnbench bench {operators[0]} --suite {suite or SUITE}")
    with rc_context(RC):
        fig = Figure(figsize=(WIDTH_IN, height), dpi=DPI)
        axes = fig.subplots(1, len(operators), squeeze=False)[0]
        fig.subplots_adjust(left=0.14, right=0.99, wspace=0.75, bottom=0.85 / height,
                            top=1 - 0.55 / height)
        for ax, op in zip(axes, operators):
            _draw(ax, op, [c for c in cells if c.op == op])
        handles = {line.get_label(): line for ax in axes for line in ax.lines
                   if (line.get_gid() or "").startswith(FAMILY)}
        fig.legend(handles=list(handles.values()), loc="upper right", ncols=len(handles),
                   bbox_to_anchor=(0.994, 1 - 0.08 / height))
        fig.text(0.008, 1 - 0.1 / height, "Attention residuals: share of the speed of light",
                 va="top", fontsize=11, weight="bold")
        note = fig.text(0.008, 0.07 / height, text, va="bottom", fontsize=7, color=NOTE_COLOUR,
                        linespacing=1.35)
        note.set_gid("caption")
    return fig


if __name__ == "__main__":
    sys.exit(command.main("depth_bandwidth", __doc__, figure))
