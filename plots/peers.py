"""Speed-up of `auto` over eager PyTorch, torch.compile and the published packages, cell by cell."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

import command
from comparison import COARSE_TICKS, draw_interval
from intervals import LEVEL, Ratio, ratio_of_medians
from panels import DPI, WIDTH_IN, common_sizes, environment_line
from rows import Cell, NoRows, Rows, runs_of
from style import BACKENDS, NOTE_COLOUR, RC, STATUS, BackendStyle
from suites import SUITES, cell_name

OURS = "auto"
LINE_IN, HEAD_IN, FOOT_IN = 0.2, 0.62, 1.12
OFFSET = 0.22  # of a line, between two peers
INTERVALS = (f"intervals of {100 * LEVEL:.0f} % or more, of the ratio of medians, from order "
             "statistics of the samples of one run; what differs from run to run is not in them.")


@dataclass(frozen=True)
class Peer:
    """A Python function that is measured beside the program's own backends."""

    name: str  # for readers
    function: str  # what --backend takes
    look: BackendStyle  # PyTorch and published packages look alike in every figure


PACKAGE = BACKENDS["flash_attn_res"]
PEERS: dict[str, Peer] = {
    "py_eager": Peer("PyTorch eager", "attnbench.examples:eager", BACKENDS["torch_eager"]),
    "py_compiled": Peer("torch.compile", "attnbench.examples:compiled", BACKENDS["torch_compile"]),
    "py_flash_colreduce": Peer("flash-colreduce", "attnbench.peers:flash_colreduce", PACKAGE),
    "py_flash_colsum": Peer("flash-colsum", "attnbench.peers:flash_colsum", PACKAGE),
}


@dataclass(frozen=True)
class Line:
    """One problem as one program measured it on every backend."""

    name: str
    cells: dict[str, Cell]  # by backend

    def ratio(self, peer: str) -> Ratio | None:
        """The peer's time over ours, where both answers are right."""
        base, own = self.cells.get(peer), self.cells.get(OURS)
        if not base or not own or not base.status == own.status == "OK":
            return None
        return ratio_of_medians(base.cold, own.cold) if base.cold and own.cold else None


@dataclass(frozen=True)
class Beside:
    """A suite's problems with ours and the peers side by side."""

    suite: str
    peers: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def package(self) -> str:
        return self.peers[-1]

    @property
    def cells(self) -> list[Cell]:
        return [cell for line in self.lines for cell in line.cells.values()]

    def ratios(self, peer: str) -> list[tuple[Ratio, str]]:
        """With the name of the cell, in every one where there is a ratio."""
        found = [(line.ratio(peer), line.name) for line in self.lines]
        return [(ratio, name) for ratio, name in found if ratio]


def place(suite: str, cell: Cell) -> tuple[int, int]:
    """Where the suite has the cell: its column and the size along it; what is in none follows."""
    columns = SUITES[suite].columns
    for index, column in enumerate(columns):
        if column.holds(cell):
            return index, cell.shape[column.axis]
    return len(columns), cell.shape["N"]


def load(rows: Rows, suite: str) -> Beside:
    """Only rows of the same binary stand in a line: of several one that has a ratio over the
    package, of those the one with most of the backends, of equals the newest."""
    peers = SUITES[suite].peers
    asked = ("bench", "colreduce", suite, "normal")
    found = sorted((c for c in rows.every if (c.mode, c.op, c.suite, c.data) == asked
                    and c.backend in (OURS, *peers)), key=lambda c: c.run.utc)
    binaries = {c.run.binary for c in found if c.backend in peers}
    if not binaries:
        raise NoRows(f"no bench rows of {', '.join(peers) or 'peers'} in suite {suite}")
    problems: dict[str, dict[str, Line]] = {}
    for cell in found:
        if cell.run.binary in binaries:
            name = cell_name(cell)
            by_binary = problems.setdefault(name, {})
            by_binary.setdefault(cell.run.binary, Line(name, {})).cells[cell.backend] = cell

    def worth(line: Line) -> tuple[bool, int, str]:
        newest = max(c.run.utc for c in line.cells.values())
        return line.ratio(peers[-1]) is not None, len(line.cells), newest

    lines = [max(by_binary.values(), key=worth) for by_binary in problems.values()]
    lines.sort(key=lambda line: place(suite, next(iter(line.cells.values()))))
    return Beside(suite, peers, tuple(lines))


def how_measured(cells: Sequence[Cell]) -> str:
    """What the times are."""
    samples = sorted({c.cold.n for c in cells if c.cold})
    count = f"{samples[0]} to {samples[-1]}" if samples else "no"
    return (f"GPU time with a cold L2, medians of {count} samples; a function's copy into the "
            "output is a part of its time, what a call costs the host is not.")


def repeat(table: Beside) -> str:
    functions = ",".join(PEERS[peer].function for peer in table.peers)
    return (f"python -m attnbench bench colreduce --suite {table.suite} "
            f"--backend {OURS},{functions}")


def lacking(line: Line, peers: Sequence[str]) -> str:
    """What has no ratio in a line, by the reason why."""
    names: dict[str, list[str]] = {}
    for backend in (OURS, *peers):
        cell = line.cells.get(backend)
        if cell is None or cell.status != "OK":
            reason = f"{STATUS[cell.status].glyph} {STATUS[cell.status].meaning}" if cell else (
                "not measured")
            names.setdefault(reason, []).append(
                PEERS[backend].name if backend in PEERS else backend)
    return "; ".join(f"{reason}: {', '.join(who)}" for reason, who in names.items())


def _say_lacking(ax: Axes, row: int, line: Line, said: str, ratios: Sequence[Ratio]) -> None:
    """At that end of the line from which its markers are farther."""
    low, high = ax.get_xlim()
    values = [ratio.value for ratio in ratios]
    at_left = bool(values) and min(values) / low > high / max(values)
    ax.text(0.008 if at_left else 0.992, row, said, transform=ax.get_yaxis_transform(), va="center",
            ha="left" if at_left else "right", fontsize=6, color=NOTE_COLOUR,
            gid=f"lacking:{line.name}")


def _draw(ax: Axes, table: Beside) -> None:
    """A line a problem, a marker a peer."""
    for row, line in enumerate(table.lines):
        ratios = {peer: line.ratio(peer) for peer in table.peers}
        for index, (peer, ratio) in enumerate(ratios.items()):
            if ratio:
                look = PEERS[peer].look
                y = row + OFFSET * (index - (len(table.peers) - 1) / 2)
                draw_interval(ax, f"{peer}:{line.name}", y, ratio.value, ratio.ends,
                              color=look.colour, marker=look.marker, ms=4.5, mec="white", mew=0.4)
        said = lacking(line, table.peers)
        if said:
            _say_lacking(ax, row, line, said, [ratio for ratio in ratios.values() if ratio])
    names = [line.name for line in table.lines]
    ax.set_yticks(range(len(names)), names, fontsize=7.5)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.axvline(1.0, color="#222222", lw=0.8, zorder=1.4)
    ax.set_title(f"suite {table.suite}: {common_sizes(table.cells)}", pad=5)
    ax.set_xlabel(f"time of a peer / time of {OURS}")


def _scale(axes: Sequence[Axes], values: Sequence[float]) -> None:
    """The same axis for all panels; 1 is always on it."""
    low, high = min([0.9, *values]), max([1.1, *values])
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlim(low / 1.08, high * 1.12)
        ticks = [t for t in COARSE_TICKS if low <= t <= high * 1.12]
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}×"))
        ax.xaxis.set_minor_locator(NullLocator())


def caption(tables: Sequence[Beside]) -> str:
    cells = [cell for table in tables for cell in table.cells]
    return "\n".join([environment_line(runs_of(cells)), how_measured(cells), f"Bars: {INTERVALS}",
                      *(f"Repeat: {repeat(table)}" for table in tables)])


def _legend(fig: Figure, tables: Sequence[Beside]) -> None:
    names: dict[BackendStyle, list[str]] = {}
    for peer in dict.fromkeys(peer for table in tables for peer in table.peers):
        names.setdefault(PEERS[peer].look, []).append(PEERS[peer].name)
    marks = [Line2D([], [], ls="none", marker=look.marker, color=look.colour, mec="white", mew=0.5,
                    label=" or ".join(who)) for look, who in names.items()]
    fig.legend(handles=marks, loc="upper right", ncols=len(marks),
               bbox_to_anchor=(0.994, 1 - 0.06 / fig.get_figheight()))


def measured(rows: Rows, suites: Sequence[str]) -> list[Beside]:
    """The suites that have a ratio somewhere."""
    tables = []
    reasons = []
    for suite in suites:
        try:
            table = load(rows, suite)
        except NoRows as reason:
            reasons.append(str(reason))
            continue
        if any(table.ratios(peer) for peer in table.peers):
            tables.append(table)
        else:
            reasons.append(f"no peer has a time beside {OURS} in suite {suite}")
    if not tables:
        raise NoRows("; ".join(reasons))
    return tables


def figure(rows: Rows, suite: str | None = None) -> Figure:
    """A panel a suite: the given one, or all that have peers."""
    tables = measured(rows, [suite] if suite else [name for name in SUITES if SUITES[name].peers])
    height = HEAD_IN + FOOT_IN + LINE_IN * max(len(table.lines) for table in tables)
    with rc_context(RC):
        fig = Figure(figsize=(WIDTH_IN, height), dpi=DPI)
        axes = fig.subplots(1, len(tables), squeeze=False)[0]
        fig.subplots_adjust(left=0.125, right=0.992, wspace=0.34, bottom=FOOT_IN / height,
                            top=1 - HEAD_IN / height)
        _scale(axes, [value for table in tables for peer in table.peers
                      for ratio, _ in table.ratios(peer)
                      for value in (ratio.value, *(ratio.ends or ()))])
        for ax, table in zip(axes, tables):
            _draw(ax, table)
        _legend(fig, tables)
        fig.text(0.008, 1 - 0.1 / height, f"Speed-up of {OURS} over PyTorch and published packages",
                 va="top", fontsize=11, weight="bold")
        note = fig.text(0.008, 0.07 / height, caption(tables), va="bottom", fontsize=7,
                        color=NOTE_COLOUR, linespacing=1.35)
        note.set_gid("caption")
    return fig


if __name__ == "__main__":
    sys.exit(command.main("peers", __doc__, figure))
