"""Speed-up of every backend over the suite's baseline, cold."""

from __future__ import annotations

import sys

import numpy as np
from matplotlib.figure import Figure

import command
from panels import Measure, cold_words, draw_measure, sweep_figure
from rows import Cell, Rows, Spread
from style import backend_styles
from suites import cell_name, load_suite, speedup


def figure(rows: Rows, suite: str | None = None) -> Figure:
    table = load_suite(rows, suite)
    baseline = table.baseline()
    # By name: rows of another revision may know more options, all of them at their defaults.
    by_name = {cell_name(c): c for c in table.cells if c.backend == baseline}

    def ratio(cell: Cell) -> Spread | None:
        if cell.backend == baseline:
            return Spread(1, 1.0, 1.0, 1.0) if cell.timed else None
        return speedup(by_name.get(cell_name(cell)), cell)

    measure = Measure(f"speed-up over {baseline}", ratio)

    def draw(axes: np.ndarray) -> None:
        draw_measure(axes[0], table, measure, extra=[0.9, 1.1])
        for ax in axes[0]:
            ax.axhline(1.0, color=backend_styles(table.all_backends)[baseline].colour, lw=0.8,
                       zorder=1.4)

    how = (f"{cold_words(table)}, ratio of medians of {{count}} samples, bars ratio of opposite "
           f"quartiles; no ratio where {baseline} has no time.")
    return sweep_figure(table, f"Speed-up over {baseline}", how, (measure,), draw)


if __name__ == "__main__":
    sys.exit(command.main("speedup", __doc__, figure))
