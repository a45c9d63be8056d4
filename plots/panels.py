"""Panels of sweeps over a suite's columns, captions and legends: what the sweep figures share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from rows import Cell, Run, Spread, runs_of
from style import NOTE_COLOUR, RC, STATUS, backend_styles, number_label, size_label
from suites import ColumnCells, SuiteCells

WIDTH_IN = 12.0
DPI = 150
RAIL_STEP = 0.053  # of a panel's height, for each backend with refusals
HOLLOW = "UNCHECKED"


@dataclass(frozen=True)
class Measure:
    """What a row of panels shows."""

    label: str
    value: Callable[[Cell], Spread | None]  # in the label's unit; None where there is none
    log: bool = True


def _plot(ax: Axes, gid: str, *args: Any, **style: Any) -> Line2D:
    (line,) = ax.plot(*args, **style)
    line.set_gid(gid)
    return line


def _draw_backend(ax: Axes, data: ColumnCells, backend: str, look: dict[str, Any],
                  measure: Measure) -> list[float]:
    """One line with its intervals; returns the values drawn. Gaps break the line."""
    found = [(x, data.cells.get((backend, x))) for x in data.sizes]
    spreads = [measure.value(cell) if cell and cell.timed else None for _, cell in found]
    y = [spread.median if spread else np.nan for spread in spreads]
    _plot(ax, f"line:{backend}", data.sizes, y, mec="white", mew=0.5, **look)
    drawn: list[float] = []
    for (x, cell), spread in zip(found, spreads):
        if spread is None or cell is None:
            continue
        drawn += [spread.p25, spread.median, spread.p75]
        if spread.p25 < spread.p75:
            bar = ax.errorbar([x], [spread.median], [[spread.median - spread.p25],
                                                     [spread.p75 - spread.median]],
                              fmt="none", ecolor=look["color"], elinewidth=1, capsize=2.5)
            bar[2][0].set_gid(f"interval:{backend}:{x}")
        if cell.status != "OK":
            hollow = {"mfc": "white"} if cell.status == HOLLOW else {
                "fillstyle": "left", "markerfacecoloralt": "white"}
            _plot(ax, f"status:{cell.status}:{backend}", [x], [spread.median], mec=look["color"],
                  mew=1.3, zorder=4, **{**look, **hollow, "ls": "none"})
    return drawn


def _draw_rail(ax: Axes, data: ColumnCells, rail: Sequence[str], colours: dict[str, str]) -> None:
    """A strip at the top with a marker for every cell that has no result, one line a backend."""
    height = RAIL_STEP * len(rail)
    ax.add_patch(Rectangle((0, 1 - height), 1, height, transform=ax.transAxes, color="#f3f3f3",
                           zorder=1.5, lw=0))
    for index, backend in enumerate(rail):
        y = 1 - RAIL_STEP * (index + 0.5)
        for x in data.sizes:
            cell = data.cells.get((backend, x))
            if cell and not cell.timed:
                _plot(ax, f"rail:{cell.status}:{backend}", [x], [y], ls="none", ms=6.5, mew=0.6,
                      marker=STATUS[cell.status].marker if cell.status in STATUS else "$?$",
                      color=colours[backend], transform=ax.get_xaxis_transform(), clip_on=False,
                      zorder=5)


def _scale_y(axes: Sequence[Axes], values: list[float], log: bool, rail_height: float) -> None:
    """The same y axis for a row of panels: all values below the rail, zeros shown as 0."""
    positive = [v for v in values if v > 0] or [1.0]
    low, high = min(positive), max(positive)
    zeros = log and min(values, default=1.0) <= 0
    for ax in axes:
        if zeros:
            ax.set_yscale("symlog", linthresh=10 ** np.floor(np.log10(low)), linscale=0.6)
        elif log:
            ax.set_yscale("log")
        forward = ax.yaxis.get_transform()
        bottom = float(forward.transform(0.0 if zeros or not log else low))
        top = float(forward.transform(high))
        margin = 0.06 * (top - bottom) or 0.1
        bottom -= margin if log else 0.0
        top = bottom + (top + margin - bottom) / (1 - rail_height)
        ax.set_ylim(*forward.inverted().transform([bottom, top]))
        if log:
            decades = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
            steps = (1,) if high / low > 1e3 else (1, 2, 5)
            ticks = [step * 10.0**d for d in decades for step in steps]
            ticks = [t for t in ticks if low / 2 <= t <= high * 2]
            ticks = ([0.0] if zeros else []) + ticks
        else:
            ticks = [t for t in ax.get_yticks() if 0 <= t <= high]
        ax.yaxis.set_major_locator(FixedLocator(ticks))
        ax.yaxis.set_major_formatter(FixedFormatter([number_label(t) for t in ticks]))
        ax.yaxis.set_minor_locator(NullLocator())


def _scale_x(ax: Axes, data: ColumnCells, label: Callable[[ColumnCells, int], str]) -> None:
    ax.set_xscale("log", base=2)
    if data.sizes:
        ax.set_xlim(data.sizes[0] / 2**0.45, data.sizes[-1] * 2**0.45)
    ax.xaxis.set_major_locator(FixedLocator(list(data.sizes)))
    ax.xaxis.set_major_formatter(FixedFormatter([label(data, x) for x in data.sizes]))
    ax.xaxis.set_minor_locator(NullLocator())


def backend_look(table: SuiteCells, backend: str) -> dict[str, Any]:
    """Line and marker of a backend; later ones are thinner, so that equal values stay visible."""
    style = backend_styles(table.all_backends)[backend]
    above = len(table.backends) - 1 - table.backends.index(backend)
    return {"color": style.colour, "marker": style.marker, "lw": 1.4 + 0.2 * above,
            "ms": 5 + 0.5 * above}


def draw_measure(axes: Sequence[Axes], table: SuiteCells, measure: Measure,
                 tick_label: Callable[[ColumnCells, int], str] = lambda _, x: size_label(x),
                 extra: Sequence[float] = ()) -> None:
    """One row of panels: a column of the suite each, a line for each backend.

    `extra` are values that the y axis must reach besides the drawn ones.
    """
    styles = backend_styles(table.all_backends)
    rail = [b for b in table.backends
            if any(c.backend == b and not c.timed for c in table.cells)]
    values = list(extra)
    for ax, data in zip(axes, table.columns):
        for backend in table.backends:
            look = backend_look(table, backend)
            values += _draw_backend(ax, data, backend, look, measure)
        if rail:
            _draw_rail(ax, data, rail, {b: styles[b].colour for b in rail})
        _scale_x(ax, data, tick_label)
        if not data.sizes:
            ax.text(0.5, 0.5, "no rows", transform=ax.transAxes, ha="center", color=NOTE_COLOUR)
    _scale_y(axes, values, measure.log, RAIL_STEP * len(rail))
    for ax in axes[1:]:
        ax.tick_params(labelleft=False)
    axes[0].set_ylabel(measure.label)
    if rail:
        axes[0].text(0.012, 0.985, "no result", transform=axes[0].transAxes, va="top", fontsize=7,
                     color=NOTE_COLOUR, zorder=6)


def environment_line(runs: Sequence[Run]) -> str:
    """Device, driver, CUDA, date and revision of all runs that a figure or table rests on."""

    def join(values: Sequence[str]) -> str:
        return ", ".join(dict.fromkeys(values))

    parts = [join([r.device["name"] or "unnamed" for r in runs])]
    if any(r.driver for r in runs):
        parts.append(f"driver {join([r.driver or 'unknown' for r in runs])}")
        parts.append(f"CUDA {join([r.cuda or 'unknown' for r in runs])}")
    else:
        parts.append(f"{join([str(r.host['threads']) for r in runs])} threads")
    parts.append(join([r.utc[:10] for r in runs]))
    parts.append(f"revision {join([r.revision for r in runs])}")
    return " · ".join(parts)


def common_sizes(cells: Sequence[Cell]) -> str:
    """What all cells of a suite share: heads, head dimension, type, reduction."""
    parts = []
    for name in ("H", "D"):
        sizes = sorted({c.shape[name] for c in cells})
        parts.append(f"{name} = {', '.join(map(str, sizes))}")
    parts.append(", ".join(sorted({c.dtype for c in cells})))
    parts.append(", ".join(sorted({str(c.options.get("reduction")) for c in cells})))
    return ", ".join(parts)


def caption(table: SuiteCells, how: str) -> str:
    """Everything that is needed to judge and to repeat a sweep figure."""
    runs = runs_of(table.cells)
    samples = sorted({c.cold.n for c in table.cells if c.cold})
    count = f"{samples[0]} to {samples[-1]}" if len(samples) > 1 else str(samples[0])
    lines = [f"{environment_line(runs)} · suite {table.suite} ({common_sizes(table.cells)})",
             how.format(count=count)]
    if table.notes:
        lines.append("Besides: " + "; ".join(table.notes) + ".")
    lines.append(f"Repeat: attnbench bench colreduce --suite {table.suite}")
    return "\n".join(lines)


def cold_words(table: SuiteCells) -> str:
    kind = runs_of(table.cells)[-1].device["kind"]
    return "Cold L2" if kind == "cuda" else "Cold caches"


def _status_marker(status: str, timed: bool) -> dict[str, Any]:
    if not timed:
        return {"marker": STATUS[status].marker}
    if status == HOLLOW:
        return {"marker": "o", "mfc": "white"}
    return {"marker": "o", "fillstyle": "left", "mfc": NOTE_COLOUR, "markerfacecoloralt": "white"}


def _legends(fig: Figure, table: SuiteCells, extra: Sequence[Line2D]) -> None:
    """Backends under the title, statuses that occur right of it."""
    height = fig.get_figheight()
    shared: dict[str, Any] = {"handletextpad": 0.5, "columnspacing": 1.4, "borderaxespad": 0}
    backends = [Line2D([], [], mec="white", mew=0.5, label=b, **backend_look(table, b))
                for b in table.backends]
    handles = [*backends, *extra]
    fig.legend(handles=handles, loc="upper left", ncols=len(handles),
               bbox_to_anchor=(0.006, 1 - 0.42 / height), **shared)
    occurring = {(c.status, c.timed) for c in table.cells}
    handles = [Line2D([], [], ls="none", color=NOTE_COLOUR, ms=7, mew=0.8,
                      label=look.meaning, **_status_marker(status, timed))
               for status, look in STATUS.items() for timed in (True, False)
               if (status, timed) in occurring]
    if handles:
        fig.legend(handles=handles, loc="upper right", ncols=len(handles),
                   bbox_to_anchor=(0.994, 1 - 0.11 / height), **{**shared, "handletextpad": 0.2})


def sweep_figure(table: SuiteCells, title: str, how: str, measures: Sequence[Measure],
                 draw: Callable[[np.ndarray], None], legend: Sequence[Line2D] = (),
                 tick_lines: int = 1) -> Figure:
    """A grid of panels, a measure a row and a column of the suite each, that `draw` fills."""
    text = caption(table, how)
    top_in, bottom_in, row_in = 0.95, 0.5 + 0.14 * (text.count("\n") + tick_lines), 2.45
    height = top_in + bottom_in + row_in * len(measures)
    with rc_context(RC):
        fig = Figure(figsize=(WIDTH_IN, height), dpi=DPI)
        axes = fig.subplots(len(measures), len(table.columns), squeeze=False)
        draw(axes)
        letters = max(len(tick.get_text()) for ax in axes[:, 0] for tick in ax.get_yticklabels())
        fig.subplots_adjust(left=0.062 + 0.006 * max(0, letters - 7), right=0.992, wspace=0.07,
                            hspace=0.16, bottom=bottom_in / height, top=1 - top_in / height)
        for ax, data in zip(axes[0], table.columns):
            ax.set_title(data.column.title, pad=5)
        for ax, data in zip(axes[-1], table.columns):
            ax.set_xlabel(data.column.label)
        for ax in axes[:-1].flat:
            ax.tick_params(labelbottom=False)
        fig.text(0.008, 1 - 0.1 / height, title, va="top", fontsize=11, weight="bold")
        _legends(fig, table, legend)
        note = fig.text(0.008, 0.07 / height, text, va="bottom", fontsize=7, color=NOTE_COLOUR,
                        linespacing=1.35)
        note.set_gid("caption")
    return fig

