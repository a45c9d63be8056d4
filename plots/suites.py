"""Named suites as columns of a figure, and their cells by column, axis and backend."""

from __future__ import annotations

from dataclasses import dataclass

from rows import Cell, NoRows, Rows, Spread, runs_of
from style import backend_styles, size_label


@dataclass(frozen=True)
class Column:
    """A line of cells in a suite along one size."""

    title: str
    axis: str  # the size that varies
    label: str
    mask: str
    sizes: dict[str, int]  # the sizes that do not
    square: bool = False  # M = N

    def holds(self, cell: Cell) -> bool:
        return (cell.options.get("mask") == self.mask and cell.data == "normal"
                and cell.options.get("query_end", "-1") == "-1"  # all queries
                and all(cell.shape.get(name) == size for name, size in self.sizes.items())
                and (not self.square or cell.shape.get("M") == cell.shape.get("N")))


@dataclass(frozen=True)
class SuiteFigure:
    columns: tuple[Column, ...]
    baselines: tuple[str, ...]  # of speed-ups: the first that has times
    peers: tuple[str, ...] = ()  # Python functions that have a figure of their own; a package last


BATCH, KEYS = "batch size B", "keys N"
SUITES: dict[str, SuiteFigure] = {
    "readme": SuiteFigure(
        columns=(
            Column("no mask, M = N = 1k", "B", BATCH, "none", {"M": 1024, "N": 1024}),
            Column("no mask, B = 1, M = N", "N", KEYS, "none", {"B": 1}, square=True),
            Column("causal, M = 64, N = 16k", "B", BATCH, "causal", {"M": 64, "N": 16384}),
            Column("causal, B = 1, M = 512", "N", KEYS, "causal", {"B": 1, "M": 512}),
        ),
        baselines=("cublas_naive",),
        peers=("py_eager", "py_compiled", "py_flash_colreduce"),
    ),
    "small": SuiteFigure(
        columns=(
            Column("no mask, M = N = 256", "B", BATCH, "none", {"M": 256, "N": 256}),
            Column("no mask, B = 1, M = N", "N", KEYS, "none", {"B": 1}, square=True),
            Column("causal, M = 16, N = 4k", "B", BATCH, "causal", {"M": 16, "N": 4096}),
            Column("causal, B = 1, M = 64", "N", KEYS, "causal", {"B": 1, "M": 64}),
        ),
        baselines=("libtorch", "cpu_reference"),
    ),
    "colsum": SuiteFigure(
        columns=(
            Column("no mask, M = N = 1k", "B", BATCH, "none", {"M": 1024, "N": 1024}),
            Column("no mask, B = 1, M = N", "N", KEYS, "none", {"B": 1}, square=True),
            Column("causal, B = 1, M = 128", "N", KEYS, "causal", {"B": 1, "M": 128}),
        ),
        baselines=("libtorch", "fused_simt"),
        peers=("py_eager", "py_compiled", "py_flash_colsum"),
    ),
}
SUITE_OF_KIND = {"cuda": "readme", "cpu": "small"}


@dataclass(frozen=True)
class ColumnCells:
    """The cells of one column, by backend and size on the axis."""

    column: Column
    sizes: tuple[int, ...]  # on the axis, rising
    cells: dict[tuple[str, int], Cell]

    def at(self, size: int) -> list[Cell]:
        return [cell for (_, x), cell in self.cells.items() if x == size]


@dataclass(frozen=True)
class SuiteCells:
    """A suite's timed sweep on one device."""

    suite: str
    columns: tuple[ColumnCells, ...]
    backends: tuple[str, ...]  # with a time somewhere, in reading order
    all_backends: tuple[str, ...]  # in the rows at all: styles hang on them
    notes: tuple[str, ...]  # what is not drawn, and why

    @property
    def cells(self) -> list[Cell]:
        return [cell for data in self.columns for cell in data.cells.values()]

    def baseline(self) -> str:
        """The backend that speed-ups are relative to."""
        candidates = SUITES[self.suite].baselines
        for name in candidates:
            if name in self.backends:
                return name
        raise NoRows(f"no time of {' or '.join(candidates)} in suite {self.suite}")

    def distinct(self) -> list[tuple[ColumnCells, int]]:
        """Columns and sizes of the suite, a problem in two columns once."""
        seen: set[tuple[object, ...]] = set()
        result = []
        for data in self.columns:
            for size in data.sizes:
                problem = data.at(size)[0].problem
                if problem not in seen:
                    seen.add(problem)
                    result.append((data, size))
        return result


def speedup(baseline: Cell | None, cell: Cell) -> Spread | None:
    """Baseline's time over the cell's: ratio of medians, and of opposite quartiles."""
    if baseline is None or not baseline.timed or not cell.timed:
        return None
    base, own = baseline.cold, cell.cold
    assert base is not None and own is not None
    return Spread(min(base.n, own.n), base.median / own.median, base.p25 / own.p75,
                  base.p75 / own.p25)


def _not_drawn(cells: list[Cell], names: tuple[str, ...], drawn: tuple[str, ...]) -> list[str]:
    """Backends without a time, grouped by what became of their cells."""
    groups: dict[str, list[str]] = {}
    for name in names:
        statuses = ", ".join(sorted({c.status for c in cells if c.backend == name}))
        if name not in drawn and statuses:
            groups.setdefault(statuses, []).append(name)
    return [f"no time in any cell: {', '.join(group)} ({statuses})"
            for statuses, group in groups.items()]


def load_suite(rows: Rows, suite: str | None = None) -> SuiteCells:
    """The cells of a suite's sweep; by default the suite that belongs to the kind of device.

    Peers are left to their own figure, where only rows of the same program meet.
    Backends of the other kind of device (host code in the rows of a GPU) are left to a note: on
    common axes they would only flatten the rest.
    """
    if not rows.cells:
        raise NoRows("no rows")
    kind = runs_of(rows.cells)[-1].device["kind"]
    suite = suite or SUITE_OF_KIND[kind]
    if suite not in SUITES:
        raise NoRows(f"suite {suite} has no figure, only {', '.join(SUITES)}")
    peers = {peer for look in SUITES.values() for peer in look.peers if SUITES[suite].peers}
    found = [c for c in rows.select("bench", suite) if c.op == "colreduce"
             and c.backend not in peers]
    if not found:
        raise NoRows(f"no bench rows of suite {suite}")
    cells = [c for c in found if c.device in (kind, None)]
    elsewhere = {c.backend for c in found if c.device not in (kind, None)}
    names = tuple(backend_styles(c.backend for c in rows.cells))
    drawn = tuple(n for n in names if any(c.backend == n and c.timed for c in cells))
    notes = _not_drawn(cells, names, drawn)
    if elsewhere:
        notes.append("not drawn, runs on the host: "
                     + ", ".join(n for n in names if n in elsewhere))
    columns = []
    for column in SUITES[suite].columns:
        by_place = {(c.backend, c.shape[column.axis]): c
                    for c in cells if c.backend in drawn and column.holds(c)}
        sizes = tuple(sorted({x for _, x in by_place}))
        columns.append(ColumnCells(column, sizes, by_place))
    if not any(data.cells for data in columns):
        raise NoRows(f"no times in the rows of suite {suite}")
    missing = sum(len(drawn) * len(d.sizes) - len(d.cells) for d in columns)
    if missing:
        notes.append(f"not measured: {missing} cells")
    return SuiteCells(suite, tuple(columns), drawn, names, tuple(notes))


def cell_name(cell: Cell) -> str:
    """Mask and sizes, and the queries where they are a part: `causal B1 M64 N16k`."""
    sizes = " ".join(f"{name}{size_label(cell.shape[name])}" for name in ("B", "M", "N"))
    begin, end = (int(cell.options.get(f"query_{side}", default))
                  for side, default in (("begin", 0), ("end", -1)))
    part = "" if (begin, end) == (0, -1) else f", queries {begin}:{'' if end == -1 else end}"
    return f"{cell.options['mask']} {sizes}{part}"
