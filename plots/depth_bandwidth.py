"""Attention residuals: share of the memory's speed that every backend reaches, by shape, cold."""

from __future__ import annotations

import sys
from matplotlib.figure import Figure

import command
from panels import environment_line
from rows import Cell, NoRows, Rows, runs_of
from shares import shares_figure
from style import size_label

FAMILY = "attnres_"
SUITE = "shapes"


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


def figure(rows: Rows, suite: str | None = None) -> Figure:
    cells = measured(rows, suite or SUITE)
    if not cells:
        raise NoRows(f"no speed of light of {FAMILY}* in the rows of suite {suite or SUITE}")
    operators = sorted({c.op for c in cells})
    text = (f"{environment_line(runs_of(cells))} · suite {suite or SUITE}\nCold L2, medians; 100 % "
            "is the bytes that the operator must move at the copy rate measured in the same run, "
            "or its arithmetic where that takes longer.\n"
            f"Repeat: attnbench bench {operators[0]} --suite {suite or SUITE}")
    return shares_figure("Attention residuals: share of the speed of light", text,
                         {op: [c for c in cells if c.op == op] for op in operators}, label)


if __name__ == "__main__":
    sys.exit(command.main("depth_bandwidth", __doc__, figure))
