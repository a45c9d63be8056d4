"""Percent of the speed of light that every backend reaches, cold."""

from __future__ import annotations

import sys

import numpy as np
from matplotlib.figure import Figure

import command
from panels import Measure, cold_words, draw_measure, sweep_figure
from rows import Cell, NoRows, Rows, Spread
from style import size_label
from suites import ColumnCells, load_suite


def percent(cell: Cell) -> Spread | None:
    """The row's percentage; its interval follows from the time's."""
    if cell.sol_pct is None or cell.cold is None:
        return None
    scale = cell.sol_pct * cell.cold.median
    return Spread(cell.cold.n, cell.sol_pct, scale / cell.cold.p75, scale / cell.cold.p25)


PERCENT = Measure("speed of light [%]", percent, log=False)


def tick_label(data: ColumnCells, size: int) -> str:
    """The size, and below it the limit that binds."""
    bounds = sorted({c.bound for c in data.at(size) if c.bound})
    return f"{size_label(size)}\n{' or '.join(bounds)}"


def figure(rows: Rows, suite: str | None = None) -> Figure:
    table = load_suite(rows, suite)
    if not any(c.timed and c.sol_pct is not None for c in table.cells):
        raise NoRows(f"no speed of light in the rows of suite {table.suite}")

    def draw(axes: np.ndarray) -> None:
        draw_measure(axes[0], table, PERCENT, tick_label, extra=[100.0])
        for ax in axes[0]:
            ax.axhline(100.0, color="#222222", lw=0.8, zorder=1.4)

    how = (f"{cold_words(table)}, median of {{count}} samples, bars p25–p75. The limit, named "
           "below each size, is the largest of memory, matrix, exponential and launch time at the "
           "ceilings measured in the same run.")
    return sweep_figure(table, "Percent of the speed of light", how, (PERCENT,), draw,
                        tick_lines=2)


if __name__ == "__main__":
    sys.exit(command.main("speed_of_light", __doc__, figure))
