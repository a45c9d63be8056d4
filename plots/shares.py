"""Figures of one line a problem: the share of the speed of light that every backend reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from panels import DPI, WIDTH_IN
from rows import Cell
from style import NOTE_COLOUR, RC, backend_styles

ROW_IN = 0.2  # of a problem's line
LETTER_IN = 0.075  # of a line's label


def _draw(ax: Axes, group: str, cells: Sequence[Cell], label: Callable[[Cell], str]) -> None:
    """One line a problem, in the order of the rows; hollow markers where nothing was checked."""
    problems = list(dict.fromkeys(label(c) for c in cells))
    for name, look in backend_styles(c.backend for c in cells).items():
        own = [c for c in cells if c.backend == name]
        (line,) = ax.plot([c.sol_pct for c in own], [problems.index(label(c)) for c in own],
                          ls="none", marker=look.marker, color=look.colour, mec="white", mew=0.5,
                          label=name)
        line.set_gid(f"{group}:{name}")
        hollow = [c for c in own if c.status != "OK"]
        ax.plot([c.sol_pct for c in hollow], [problems.index(label(c)) for c in hollow], ls="none",
                marker=look.marker, color=look.colour, mfc="white")
    ax.axvline(100.0, color="#222222", lw=0.8, zorder=1.4)
    ax.set_xlim(0, 105)
    ax.set_yticks(range(len(problems)), problems)
    ax.set_ylim(len(problems) - 0.5, -0.5)
    ax.set_title(group, pad=5)
    ax.set_xlabel("of the speed of light [%]")


def shares_figure(title: str, text: str, groups: Mapping[str, Sequence[Cell]],
                  label: Callable[[Cell], str]) -> Figure:
    """A panel for each group of timed cells; `text` is the caption."""
    lines = max(len({label(c) for c in cells}) for cells in groups.values())
    letters = max(len(label(c)) for cells in groups.values() for c in cells)
    height = 1.45 + ROW_IN * lines
    panel = WIDTH_IN / len(groups)  # with its labels
    margin = LETTER_IN * letters
    with rc_context(RC):
        fig = Figure(figsize=(WIDTH_IN, height), dpi=DPI)
        axes = fig.subplots(1, len(groups), squeeze=False)[0]
        fig.subplots_adjust(left=margin / WIDTH_IN, right=0.99,
                            wspace=margin / (panel - margin), bottom=0.85 / height,
                            top=1 - 0.55 / height)
        for ax, (group, cells) in zip(axes, groups.items()):
            _draw(ax, group, cells, label)
        handles = {line.get_label(): line for ax in axes for line in ax.lines if line.get_gid()}
        fig.legend(handles=list(handles.values()), loc="upper right", ncols=len(handles),
                   bbox_to_anchor=(0.994, 1 - 0.08 / height))
        fig.text(0.008, 1 - 0.1 / height, title, va="top", fontsize=11, weight="bold")
        note = fig.text(0.008, 0.07 / height, text, va="bottom", fontsize=7, color=NOTE_COLOUR,
                        linespacing=1.35)
        note.set_gid("caption")
    return fig
