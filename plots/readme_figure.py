"""The README figure: cold latency and memory beyond the inputs along the suite's four columns."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import command
from panels import Measure, cold_words, draw_measure, sweep_figure
from rows import Cell, Rows, Spread
from suites import ColumnCells, load_suite

MIB = 2.0**20
ITEM_BYTES = {"f16": 2, "bf16": 2, "f32": 4}
MATRIX_STYLE: dict[str, Any] = {"color": "#222222", "ls": (0, (4, 3)), "lw": 1.0}


def memory(cell: Cell) -> Spread | None:
    if cell.beyond_bytes is None:
        return None
    mib = cell.beyond_bytes / MIB
    return Spread(1, mib, mib, mib)


LATENCY = Measure("cold latency [ms]", lambda cell: cell.cold)
MEMORY = Measure("workspace + hidden [MiB]", memory)


def matrix_mib(data: ColumnCells, size: int) -> float:
    """The attention matrix stored once in the input type."""
    cell = data.at(size)[0]
    elements = cell.shape["B"] * cell.shape["H"] * cell.shape["M"] * cell.shape["N"]
    return elements * ITEM_BYTES[cell.dtype] / MIB


def figure(rows: Rows, suite: str | None = None) -> Figure:
    table = load_suite(rows, suite)

    def draw(axes: np.ndarray) -> None:
        draw_measure(axes[0], table, LATENCY)
        matrices = [[matrix_mib(data, x) for x in data.sizes] for data in table.columns]
        draw_measure(axes[1], table, MEMORY, extra=[v for column in matrices for v in column])
        for ax, data, sizes in zip(axes[1], table.columns, matrices):
            (line,) = ax.plot(data.sizes, sizes, zorder=1.8, **MATRIX_STYLE)
            line.set_gid("matrix")

    on_cpu = all(c.device == "cpu" for c in table.cells)
    how = (f"{cold_words(table)}, median of {{count}} samples, bars p25–p75. Memory besides inputs "
           "and outputs" + (": not known on a CPU, where nothing counts it." if on_cpu else "."))
    return sweep_figure(table, "Column sums of attention: latency and memory", how,
                        (LATENCY, MEMORY), draw,
                        [Line2D([], [], label="one M × N matrix per head", **MATRIX_STYLE)])


if __name__ == "__main__":
    sys.exit(command.main("readme_figure", __doc__, figure))
