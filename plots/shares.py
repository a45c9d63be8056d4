"""Figures of one line a problem: the share of the speed of light that every backend reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from panels import DPI, WIDTH_IN
from rows import Cell
from style import FAILURE_COLOUR, NOTE_COLOUR, RC, STATUS, backend_styles

ROW_IN = 0.2  # of a problem's line
LETTER_IN = 0.075  # of a line's label
PANEL_IN = 0.62  # of a row of panels, besides its lines: title, ticks and the axis' name


def _draw(ax: Axes, group: str, cells: Sequence[Cell], label: Callable[[Cell], str]) -> None:
    """One line a problem, in the order of the rows; hollow markers where nothing was checked, and at the
    left the glyph of what failed."""
    timed = [c for c in cells if c.timed]
    problems = list(dict.fromkeys(label(c) for c in timed))
    for name, look in backend_styles(c.backend for c in timed).items():
        own = [c for c in timed if c.backend == name]
        (line,) = ax.plot([c.sol_pct for c in own], [problems.index(label(c)) for c in own],
                          ls="none", marker=look.marker, color=look.colour, mec="white", mew=0.5,
                          label=name)
        line.set_gid(f"{group}:{name}")
        hollow = [c for c in own if c.status != "OK"]
        ax.plot([c.sol_pct for c in hollow], [problems.index(label(c)) for c in hollow], ls="none",
                marker=look.marker, color=look.colour, mfc="white")
    for line_number, problem in enumerate(problems):
        failed = [c for c in cells if not c.timed and label(c) == problem]
        if failed:
            said = ", ".join(f"{STATUS[c.status].glyph} {c.backend}" for c in failed)
            ax.text(1.0, line_number + 0.36, said, va="center", fontsize=6, color=FAILURE_COLOUR,
                    gid=f"status:{group}:{line_number}")
    ax.axvline(100.0, color="#222222", lw=0.8, zorder=1.4)
    ax.set_xlim(0, 105)
    ax.set_yticks(range(len(problems)), problems)
    ax.set_ylim(len(problems) - 0.5, -0.5)
    ax.set_title(group, pad=5)
    ax.set_xlabel("of the speed of light [%]")


def shares_figure(title: str, text: str, groups: Mapping[str, Sequence[Cell]],
                  label: Callable[[Cell], str],
                  row_of: Callable[[str], str] = lambda group: "") -> Figure:
    """A panel for each group of cells, groups of the same `row_of` beside each other; `text` is the
    caption."""
    rows: dict[str, list[str]] = {}
    for group in groups:
        rows.setdefault(row_of(group), []).append(group)
    lines = [max(len({label(c) for c in groups[g] if c.timed}) for g in row)
             for row in rows.values()]
    letters = max(len(label(c)) for cells in groups.values() for c in cells)
    heights = [PANEL_IN + ROW_IN * n for n in lines]
    height = 1.05 + sum(heights)
    columns = max(len(row) for row in rows.values())
    panel = WIDTH_IN / columns  # with its labels
    margin = LETTER_IN * letters
    with rc_context(RC):
        fig = Figure(figsize=(WIDTH_IN, height), dpi=DPI)
        top = 0.77  # inches from the upper edge
        looks = {}
        for row, row_height in zip(rows.values(), heights):
            for column, group in enumerate(row):
                ax = fig.add_axes(((panel * column + margin) / WIDTH_IN,
                                   1 - (top + row_height - PANEL_IN) / height,
                                   (0.98 * panel - margin) / WIDTH_IN,
                                   (row_height - PANEL_IN) / height))
                _draw(ax, group, groups[group], label)
                looks |= {line.get_label(): line for line in ax.lines if line.get_gid()}
            top += row_height
        names = backend_styles(looks)
        fig.legend(handles=[looks[name] for name in names], loc="upper left", ncols=len(names),
                   bbox_to_anchor=(0.004, 1 - 0.29 / height))
        fig.text(0.008, 1 - 0.1 / height, title, va="top", fontsize=11, weight="bold")
        note = fig.text(0.008, 0.07 / height, text, va="bottom", fontsize=7, color=NOTE_COLOUR,
                        linespacing=1.35)
        note.set_gid("caption")
    return fig
