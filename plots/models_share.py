"""The shapes of published models: share of the speed of light that every backend reaches, cold."""

from __future__ import annotations

import sys

from matplotlib.figure import Figure

import command
from panels import environment_line
from rows import Cell, NoRows, Rows, runs_of
from shares import shares_figure
from style import size_label

SUITE = "models"


def label(cell: Cell) -> str:
    """Sizes, and the options that tell models apart: `H32/8 D128 32k, last 64`."""
    shape, options = cell.shape, cell.options
    heads = str(shape["H"])
    if shape["H_kv"] not in (0, shape["H"]):
        heads += f"/{shape['H_kv']}"
    text = f"B{shape['B']} H{heads} D{shape['D']} {size_label(shape['N'])}"
    if options.get("window", "-1") != "-1":
        text += f", window {int(options['window']) + 1}"
    if options.get("query_begin", "0") != "0":
        text += f", last {options['query_begin'].lstrip('-')}"
    return text


def figure(rows: Rows, suite: str | None = None) -> Figure:
    suite = suite or SUITE
    cells = [c for c in rows.select("bench", suite)
             if c.op == "colreduce" and c.timed and c.sol_pct is not None]
    if not cells:
        raise NoRows(f"no speed of light of colreduce in the rows of suite {suite}")
    whole = [c for c in cells if c.options.get("query_begin", "0") == "0"]
    observed = [c for c in cells if c not in whole]
    groups = {"all queries": whole, "an observation window": observed}
    text = (f"{environment_line(runs_of(cells))} · suite {suite}\nCold L2, medians; 100 % is the "
            "largest of memory, matrix, exponential and launch time at the ceilings measured in "
            f"the same run.\nRepeat: attnbench bench colreduce --suite {suite}")
    return shares_figure("Models: share of the speed of light", text,
                         {name: group for name, group in groups.items() if group}, label)


if __name__ == "__main__":
    sys.exit(command.main("models_share", __doc__, figure))
