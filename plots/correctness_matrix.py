"""The correctness matrix as a picture: backends by groups of cases, colour = worst error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import command
from panels import DPI, WIDTH_IN, environment_line
from rows import Cell, NoRows, Rows, runs_of
from style import FAILURE_COLOUR, NOTE_COLOUR, RC, STATUS, backend_styles

FAILURES = ("INCORRECT", "OOM", "TIMEOUT", "CRASH")
COLOURS = colormaps["YlGnBu"]
REFUSED_COLOUR = "#ececec"
GROUP_GAP = 0.3  # of a column's width


@dataclass(frozen=True)
class Group:
    """Columns that split the cases by one property."""

    title: str
    columns: tuple[tuple[str, Callable[[Cell], bool]], ...]


def _by(value: Callable[[Cell], object], **labels: str) -> tuple[
        tuple[str, Callable[[Cell], bool]], ...]:
    return tuple((label, lambda cell, name=name: value(cell) == name)
                 for name, label in labels.items())


def _reduction(cell: Cell) -> str:
    name = str(cell.options.get("reduction"))
    return "mean_all" if name == "mean" and cell.options.get("mean_over") == "all" else name


def _layout(cell: Cell) -> str:
    strides = {cell.options.get("q_strides", "auto"), cell.options.get("k_strides", "auto")}
    return str(cell.options.get("layout")) if strides == {"auto"} else "strided"


def _scale(cell: Cell) -> str:
    return "auto" if cell.options.get("scale") == "auto" else "given"


def _elements(cell: Cell) -> int:
    """Of the larger input."""
    shape = cell.shape
    return shape["B"] * shape["H"] * shape["D"] * max(shape["M"], shape["N"])


def _output(cell: Cell) -> str:
    return "f32" if cell.options.get("out_dtype") == "f32" else "rounded"


# Two bands, one above the other.
BANDS: tuple[tuple[Group, ...], ...] = (
    (
        Group("", (("all", lambda c: True),)),
        Group("input family", _by(
            lambda c: c.data, normal="normal", uniform="uniform", peaked="peaked", neg="neg",
            tail="tail", one_hot="one-hot", all_equal="all equal")),
        Group("mask", _by(lambda c: c.options.get("mask"), none="none", causal="causal",
                          causal_top_left="top left")),
        Group("input type", _by(lambda c: c.dtype, f16="f16", bf16="bf16", f32="f32")),
        Group("output", _by(_output, f32="f32", rounded="16 bit")),
    ),
    (
        Group("reduction", _by(_reduction, sum="sum", mean="mean", mean_all="mean, all",
                               max="max")),
        Group("scale", _by(_scale, auto="1/√D", given="given")),
        Group("layout", _by(_layout, bhsd="B H · D", bshd="B · H D", qkv_slice="QKV slice",
                            strided="strided")),
        Group("shape", (
            ("M = 1", lambda c: c.shape["M"] == 1),
            ("N = 1", lambda c: c.shape["N"] == 1),
            ("M > N", lambda c: c.shape["M"] > c.shape["N"]),
            ("H_kv < H", lambda c: 0 < c.shape["H_kv"] < c.shape["H"]),
            ("16 ∤ D", lambda c: c.shape["D"] % 16 != 0),
            ("BH > 64k", lambda c: c.shape["B"] * c.shape["H"] > 65535),
            ("q, k > 2³¹", lambda c: _elements(c) > 1 << 31),
        )),
    ),
)


@dataclass(frozen=True)
class Summary:
    """What became of a group of cells of one backend."""

    counts: dict[str, int]  # by status
    nerr_max: float | None  # largest error / tolerance of the cells that ran

    @property
    def failed(self) -> bool:
        wrong = self.nerr_max is not None and not self.nerr_max <= 1
        return wrong or any(status in FAILURES for status in self.counts)

    @property
    def marks(self) -> str:
        """The statuses other than OK: `⊘12 ✗1`."""
        return " ".join(f"{STATUS[s].glyph}{self.counts[s]}" for s in STATUS if s in self.counts)


def summarize(cells: Sequence[Cell]) -> Summary:
    counts: dict[str, int] = {}
    for cell in cells:
        counts[cell.status] = counts.get(cell.status, 0) + 1
    errors = [c.nerr_max for c in cells if c.nerr_max is not None]
    return Summary(counts, max(errors, default=None))


def _draw_summary(ax: Axes, x: float, y: float, summary: Summary, gid: str) -> None:
    box = Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, lw=0)
    box.set_gid(gid)
    ok = summary.counts.get("OK", 0)
    if summary.failed:
        box.set_facecolor(FAILURE_COLOUR)
    elif not summary.counts:
        box.set(facecolor="none")
    elif summary.nerr_max is None:
        box.set(facecolor=REFUSED_COLOUR, hatch="////", edgecolor="#cfcfcf")
    else:
        box.set_facecolor(COLOURS(min(summary.nerr_max, 1.0)))
    ax.add_patch(box)
    red, green, blue = to_rgb(box.get_facecolor()) if summary.counts else (1.0, 1.0, 1.0)
    ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else "#1a1a1a"
    lines = [str(ok) if ok else "", summary.marks] if summary.counts else ["·"]
    lines = [line for line in lines if line]
    for index, line in enumerate(lines):
        height = y + 0.5 + 0.36 * (index - (len(lines) - 1) / 2)
        text = ax.text(x + 0.5, height, line, ha="center", va="center", color=ink,
                       fontsize=9.5 if line == str(ok) else 7)
        text.set_gid(f"{gid}:{index}")


def _draw_band(ax: Axes, groups: Sequence[Group], cells: Sequence[Cell],
               backends: Sequence[str]) -> float:
    """One row a backend, one column a label; returns the width in columns."""
    x = 0.0
    for group in groups:
        columns = [(label, holds) for label, holds in group.columns if any(map(holds, cells))]
        if not columns:
            continue
        ax.text(x + 0.03, -0.62, group.title, ha="left", va="bottom", weight="bold")
        for label, holds in columns:
            ax.text(x + 0.5, -0.1, label, ha="center", va="bottom", fontsize=8)
            for y, backend in enumerate(backends):
                own = [c for c in cells if c.backend == backend and holds(c)]
                _draw_summary(ax, x, y, summarize(own), f"cell:{backend}:{group.title}:{label}")
            x += 1
        x += GROUP_GAP
    for y, backend in enumerate(backends):
        ax.text(-0.12, y + 0.5, backend, ha="right", va="center", fontsize=9)
    return x - GROUP_GAP


def caption(cells: Sequence[Cell]) -> str:
    occurring = [s for s in STATUS if any(c.status == s for c in cells)]
    marks = ", ".join(f"{STATUS[s].glyph} {STATUS[s].meaning}" for s in occurring)
    suites = sorted({str(c.suite) for c in cells})
    return "\n".join([
        f"{environment_line(runs_of(cells))} · suite {', '.join(suites)} · {len(cells)} cells",
        "Number: cells that are correct in every element" + (f"; {marks}" if marks else "")
        + ". Colour: largest error relative to the bound; hatched: none ran; red: failures.",
        "Repeat: " + "; ".join(f"attnbench verify colreduce --suite {s}" for s in suites),
    ])


def figure(rows: Rows, suite: str | None = None) -> Figure:
    cells = [c for c in rows.select("verify", suite) if c.op == "colreduce" and c.suite]
    if not cells:
        raise NoRows(f"no verify rows of {f'suite {suite}' if suite else 'a suite'}")
    backends = list(backend_styles(c.backend for c in cells))
    row_in, head_in, foot_in = 0.4, 0.5, 0.65
    band_in = row_in * len(backends) + head_in
    height = 0.3 + band_in * len(BANDS) + foot_in
    with rc_context({**RC, "axes.grid": False}):
        fig = Figure(figsize=(WIDTH_IN, height), dpi=DPI)
        bands = [fig.add_axes((0.095, (foot_in + band_in * (len(BANDS) - 1 - i)) / height, 0.82,
                               row_in * len(backends) / height)) for i in range(len(BANDS))]
        widths = [_draw_band(ax, groups, cells, backends) for ax, groups in zip(bands, BANDS)]
        for ax in bands:
            ax.set(xlim=(0, max(widths)), ylim=(len(backends), 0))
            ax.axis("off")
        bar = fig.colorbar(ScalarMappable(Normalize(0, 1), COLOURS),
                           cax=fig.add_axes((0.935, foot_in / height, 0.012,
                                             (height - 1.0 - foot_in) / height)))
        bar.set_label("largest error / tolerance")
        bar.outline.set_linewidth(0)
        fig.text(0.008, 1 - 0.1 / height, "Correctness matrix", va="top", fontsize=11,
                 weight="bold")
        note = fig.text(0.008, 0.07 / height, caption(cells), va="bottom", fontsize=7,
                        color=NOTE_COLOUR, linespacing=1.35)
        note.set_gid("caption")
    return fig


if __name__ == "__main__":
    sys.exit(command.main("correctness_matrix", __doc__, figure))
