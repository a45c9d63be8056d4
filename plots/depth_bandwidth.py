"""Attention residuals: share of the memory's speed that every backend and every peer in PyTorch reaches,
by shape, forward beside backward, cold."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from matplotlib.figure import Figure

import command
from panels import environment_line
from rows import Cell, NoRows, Rows, runs_of
from shares import shares_figure
from style import size_label

FAMILY = "attnres_"
SUITE = "shapes"
FAILURES = ("INCORRECT", "OOM", "TIMEOUT", "CRASH")
# Rows of panels, in the order in which a network asks for them.
PLACES = {FAMILY + name: place for place, name in enumerate(
    ("phase1", "merge", "merge_pair", "mix", "network"))}


def label(cell: Cell) -> str:
    """Sizes, and the options that differ from the default: `N4 S8 B4 T16k D2048, adds`."""
    words = " ".join(f"{name}{size_label(cell.shape[name])}" for name in "LNSBTD"
                     if name in cell.shape)
    if cell.options.get("dpartial") == "add" or cell.options.get("add_to", "none") != "none":
        words += ", adds"
    for name in ("update", "norm"):
        value = cell.options.get(name, "off")
        if value != "off":
            words += f", {name}" + ("" if value == "on" else f" {value}")
    return words


def forward_of(operator: str) -> str:
    return operator.removesuffix("_bwd")


def measured(rows: Rows, suite: str) -> list[Cell]:
    """Timed cells whose row says how far from the memory's limit they are, and those that failed: of
    one label and backend the newest, since rows from before a field was there have another key."""
    found = [c for c in rows.select("bench", suite) if c.op.startswith(FAMILY)
             and ((c.timed and c.sol_pct is not None) or c.status in FAILURES)]
    found.sort(key=lambda c: c.run.utc)
    newest = {(c.op, c.backend, label(c)): c for c in found}
    return [c for c in found if newest[c.op, c.backend, label(c)] is c]


def operators(cells: Iterable[Cell]) -> list[str]:
    """Those with times, a backward behind its forward."""
    return sorted({c.op for c in cells if c.timed},
                  key=lambda op: (PLACES.get(forward_of(op), len(PLACES)), op))


def figure(rows: Rows, suite: str | None = None) -> Figure:
    cells = measured(rows, suite or SUITE)
    if not any(c.timed for c in cells):
        raise NoRows(f"no speed of light of {FAMILY}* in the rows of suite {suite or SUITE}")
    ops = operators(cells)
    text = (f"{environment_line(runs_of(cells))} · suite {suite or SUITE}\nCold L2, medians; 100 % "
            "is the bytes that the operator must move at the copy rate measured in the same run, "
            "or its arithmetic where that takes longer.\n"
            f"Repeat: attnbench bench {ops[0]} --suite {suite or SUITE}; tools/depth_peers.py")
    return shares_figure("Attention residuals: share of the speed of light", text,
                         {op: [c for c in cells if c.op == op] for op in ops}, label,
                         row_of=forward_of)


if __name__ == "__main__":
    sys.exit(command.main("depth_bandwidth", __doc__, figure))
