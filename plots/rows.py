"""Rows of results: the only reader of rows.jsonl files that tables and figures use.

results/README.md describes the lines. A torn last line, one without its newline, is ignored;
anything else that cannot be read is an error with file and line. The newest row of a cell wins,
within and across files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

SCHEMA = 1
STATUSES = ("OK", "INCORRECT", "UNCHECKED", "UNSUPPORTED", "OOM", "TIMEOUT", "CRASH", "NOISY",
            "NOT_BUILT")
VERDICTS = ("FASTER", "SLOWER", "SAME", "UNDECIDED")
# Statuses whose time, where there is one, may be drawn.
TIMED_STATUSES = ("OK", "NOISY", "UNCHECKED")


class RowError(Exception):
    """A rows file that cannot be used; the message is one sentence with file and line."""


class NoRows(Exception):
    """Nothing to draw or tabulate; the message is one sentence."""


@dataclass(frozen=True)
class Run:
    """Where and with what the cells below a `run` line were measured."""

    run_id: str
    utc: str
    seed: int
    git: dict[str, Any]
    build: dict[str, Any]
    device: dict[str, Any]
    host: dict[str, Any]
    driver: str | None
    cuda: str | None
    ceilings: dict[str, float | None]

    @property
    def revision(self) -> str:
        """Short git revision; `+` marks a tree with changes."""
        sha = self.git["sha"]
        if sha is None:
            return "unknown"
        return str(sha)[:7] + ("+" if self.git["dirty"] else "")

    @property
    def binary(self) -> str:
        """Hash of the program that ran."""
        return str(self.build["id"])

    @property
    def environment(self) -> tuple[Any, ...]:
        """Results are comparable only where this is equal."""
        on_cpu = self.device["kind"] == "cpu"
        return (self.device["kind"], self.device["name"], self.device["mig"], self.driver,
                self.cuda, self.host["threads"] if on_cpu else None)


@dataclass(frozen=True)
class Spread:
    """Quantiles of one set of samples, in milliseconds."""

    n: int
    median: float
    p25: float
    p75: float
    samples: tuple[float, ...] = ()  # as kept, in the order of measuring


@dataclass(frozen=True)
class Cell:
    """One problem on one backend."""

    run: Run
    mode: str
    op: str
    suite: str | None
    backend: str
    device: str | None
    numerics_class: str | None
    shape: dict[str, int]
    dtype: str
    options: dict[str, Any]
    data: str
    status: str
    reason: str | None
    nerr_max: float | None  # largest error / tolerance
    cold: Spread | None
    beyond_bytes: int | None  # workspace + hidden: memory besides inputs and outputs
    sol_pct: float | None
    bound: str | None

    @property
    def problem(self) -> tuple[Any, ...]:
        """What was asked of every backend."""
        return (self.mode, self.op, self.suite, tuple(sorted(self.shape.items())), self.dtype,
                tuple(sorted(self.options.items())), self.data)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What was asked for, whatever binary and seed answered it."""
        return (self.backend, *self.problem)

    @property
    def timed(self) -> bool:
        return self.cold is not None and self.status in TIMED_STATUSES


@dataclass(frozen=True)
class Rows:
    """Comparable cells, each asked-for cell once, oldest first."""

    cells: tuple[Cell, ...]
    left_out: tuple[str, ...] = ()  # run ids of other machines or drivers
    every: tuple[Cell, ...] = ()  # the cells and what newer rows replaced, oldest first

    def select(self, mode: str, suite: str | None = None) -> list[Cell]:
        return [c for c in self.cells if c.mode == mode and suite in (None, c.suite)]


@dataclass(frozen=True)
class Comparison:
    """Backend B against backend A on one problem."""

    run: Run
    key: str
    session: str
    op: str
    suite: str | None
    backend_a: str
    backend_b: str
    shape: dict[str, int]
    dtype: str
    options: dict[str, Any]
    data: str
    level: str
    cache: str
    status: str
    ratio: float | None  # t_B / t_A
    ci99: tuple[float, float] | None
    verdict: str | None

    @property
    def subject(self) -> tuple[Any, ...]:
        """What a set of comparisons is about."""
        return (self.op, self.suite, self.backend_a, self.backend_b, self.level, self.cache)


@dataclass(frozen=True)
class Session:
    """The end of a session of comparisons: whether its calls stand, and what it sums up to."""

    run: Run
    session: str
    proven: bool
    doubts: tuple[str, ...]
    delta: float
    drift: float
    mean: float | None  # geometric, of the ratios
    mean_ci99: tuple[float, float] | None
    worst: float | None
    slower_share: float | None
    withdrawn: frozenset[str]  # keys of calls that do not stand


@dataclass(frozen=True)
class Comparisons:
    """The newest subject's comparisons, each problem once, with the session that sums them up."""

    cells: tuple[Comparison, ...]
    session: Session
    left_out: tuple[str, ...] = ()  # run ids of other machines or drivers


def runs_of(cells: Iterable[Cell]) -> list[Run]:
    """The runs that measured the cells, oldest first."""
    unique = {(c.run.utc, c.run.run_id): c.run for c in cells}
    return [unique[key] for key in sorted(unique)]


class _Line:
    """One JSON object with its place, whose fields are taken with a check."""

    def __init__(self, path: Path, number: int, record: Any) -> None:
        self.where = f"{path}:{number}"
        if not isinstance(record, dict):
            self.fail("not a JSON object")
        self.record: dict[str, Any] = record

    def fail(self, what: str) -> NoReturn:
        raise RowError(f"{self.where}: {what}.")

    def get(self, path: str, *kinds: type | None) -> Any:
        """The field at a dotted path, of one of the given types; None stands for null.

        A null on the way is null at the end, where the end may be null.
        """
        value: Any = self.record
        for name in path.split("."):
            if value is None and None in kinds:
                return None
            if not isinstance(value, dict) or name not in value:
                self.fail(f"field '{path}' is missing")
            value = value[name]
        if value is None and None in kinds:
            return None
        if not isinstance(value, tuple(k for k in kinds if k)) or (
                isinstance(value, bool) and bool not in kinds):
            self.fail(f"field '{path}' cannot be {json.dumps(value)[:40]}")
        return value


def _parse_run(line: _Line) -> Run:
    schema = line.get("schema", int)
    if schema != SCHEMA:
        line.fail(f"schema {schema} is unknown, this reader knows {SCHEMA}")
    line.get("git.dirty", bool, None)
    line.get("device.kind", str)
    line.get("device.name", str)
    line.get("device.mig", bool, None)
    line.get("build.cxx", str)
    line.get("build.id", str)
    for name in ("git.sha", "build.nvcc", "build.torch", "host.cpu"):
        line.get(name, str, None)
    for name in line.get("ceilings", dict):
        line.get(f"ceilings.{name}", int, float, None)
    line.get("host.threads", int, None)
    return Run(
        run_id=line.get("run_id", str),
        utc=line.get("utc", str),
        seed=line.get("seed", int),
        git=line.get("git", dict),
        build=line.get("build", dict),
        device=line.get("device", dict),
        host=line.get("host", dict),
        driver=line.get("driver", str, None),
        cuda=line.get("cuda", str, None),
        ceilings=line.get("ceilings", dict),
    )


def _parse_spread(line: _Line, name: str) -> Spread | None:
    if line.get(name, dict, None) is None:
        return None
    p25, median, p75 = (line.get(f"{name}.{q}", int, float) for q in ("p25", "median", "p75"))
    if not 0 < p25 <= median <= p75:
        line.fail(f"quantiles of '{name}' are not positive and rising")
    samples = line.get(f"{name}.samples", list)
    if not all(type(sample) in (int, float) and sample > 0 for sample in samples):
        line.fail(f"samples of '{name}' are not positive numbers")
    return Spread(line.get(f"{name}.n", int), median / 1e6, p25 / 1e6, p75 / 1e6,
                  tuple(sample / 1e6 for sample in samples))


def _parse_cell(line: _Line, run: Run | None) -> Cell:
    if run is None:
        line.fail("a cell line before any run line")
    status = line.get("status", str)
    if status not in STATUSES:
        line.fail(f"status '{status}' is unknown")
    for name in line.get("shape", dict):
        line.get(f"shape.{name}", int)
    for name in line.get("options", dict):
        line.get(f"options.{name}", str, int, float)
    workspace = line.get("mem.workspace", int, None)
    hidden = line.get("mem.hidden", int, None)
    return Cell(
        run=run,
        mode=line.get("mode", str),
        op=line.get("op", str),
        suite=line.get("suite", str, None),
        backend=line.get("backend", str),
        device=line.get("device", str, None) or None,
        numerics_class=line.get("class", str, None),
        shape=line.get("shape", dict),
        dtype=line.get("dtype", str),
        options=line.get("options", dict),
        data=line.get("data", str),
        status=status,
        reason=line.get("reason", str, None),
        nerr_max=line.get("check.nerr_max", int, float, None),
        cold=_parse_spread(line, "time.cold"),
        beyond_bytes=None if workspace is None or hidden is None else workspace + hidden,
        sol_pct=line.get("sol.pct", int, float, None),
        bound=line.get("sol.bound", str, None),
    )


def _parse_interval(line: _Line, name: str) -> tuple[float, float] | None:
    ends = line.get(name, list, None)
    if ends is None:
        return None
    if len(ends) != 2 or not all(type(end) in (int, float) for end in ends) or (
            not 0 <= ends[0] <= ends[1]):
        line.fail(f"'{name}' is no interval")
    return (float(ends[0]), float(ends[1]))


def _parse_comparison(line: _Line, run: Run | None) -> Comparison:
    if run is None:
        line.fail("a compare line before any run line")
    verdict = line.get("verdict", str, None)
    if verdict not in (*VERDICTS, None):
        line.fail(f"verdict '{verdict}' is unknown")
    for name in line.get("shape", dict):
        line.get(f"shape.{name}", int)
    texts = {name: line.get(name, str) for name in (
        "key", "session", "op", "backend_a", "backend_b", "dtype", "data", "level", "cache",
        "status")}
    return Comparison(run=run, suite=line.get("suite", str, None), shape=line.get("shape", dict),
                      options=line.get("options", dict),
                      ratio=line.get("ratio", int, float, None),
                      ci99=_parse_interval(line, "ci99"), verdict=verdict, **texts)


def _parse_session(line: _Line, run: Run | None) -> Session:
    if run is None:
        line.fail("an event line before any run line")
    return Session(
        run=run,
        session=line.get("session", str),
        proven=line.get("proven", bool),
        doubts=tuple(line.get("doubts", list)),
        delta=line.get("delta", int, float),
        drift=line.get("sentinel_drift", int, float),
        mean=line.get("geometric_mean.ratio", int, float, None),
        mean_ci99=_parse_interval(line, "geometric_mean.ci99"),
        worst=line.get("worst.ratio", int, float, None),
        slower_share=line.get("slower_share", int, float, None),
        withdrawn=frozenset(line.get("withdrawn", list)),
    )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _read_lines(path: Path) -> Iterator[tuple[str, _Line, Run | None]]:
    """Type of each line, the line, and the run that it belongs to."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RowError(f"{path}: {error.strerror}.") from error
    lines = content.split(b"\n")
    lines.pop()  # what follows the last newline: nothing, or a torn write
    run: Run | None = None
    for number, text in enumerate(lines, start=1):
        try:
            record = json.loads(text, parse_constant=_no_constant)
        except ValueError as error:
            raise RowError(f"{path}:{number}: not JSON.") from error
        line = _Line(path, number, record)
        kind = line.get("type", str)
        if kind == "run":
            run = _parse_run(line)
        elif kind not in ("cell", "compare", "event"):
            line.fail(f"line type '{kind}' is unknown")
        yield kind, line, run


def read_file(path: Path) -> list[Cell]:
    """All cells of one file, in its order."""
    return [_parse_cell(line, run) for kind, line, run in _read_lines(path) if kind == "cell"]


def read_comparisons(path: Path) -> tuple[list[Comparison], list[Session]]:
    """All comparisons of one file but the controls, and the ends of its sessions."""
    comparisons = []
    sessions = []
    for kind, line, run in _read_lines(path):
        if kind == "compare" and not line.get("control", bool):
            comparisons.append(_parse_comparison(line, run))
        elif kind == "event":
            sessions.append(_parse_session(line, run))
    return comparisons, sessions


def merge(cells: Sequence[Cell], mix: bool = False, left_out: Sequence[str] = ()) -> Rows:
    """Each asked-for cell once, its newest row; refuses several environments unless `mix`."""
    environments = {c.run.environment: c.run for c in cells}
    if len(environments) > 1 and not mix:
        names = " and ".join(f"{r.device['name']} (driver {r.driver}, CUDA {r.cuda})"
                             for r in environments.values())
        raise RowError(f"rows of {names} are not comparable.")
    newest: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        newest.pop(cell.identity, None)
        newest[cell.identity] = cell
    return Rows(tuple(newest.values()), tuple(left_out), tuple(cells))


def _standing(comparison: Comparison, sessions: dict[str, Session]) -> Comparison:
    """The comparison with the verdict that its session left it."""
    session = sessions.get(comparison.session)
    called = comparison.verdict in ("FASTER", "SLOWER")
    if called and (session is None or not session.proven or comparison.key in session.withdrawn):
        return replace(comparison, verdict="UNDECIDED")
    return comparison


def latest_comparisons(results: Path, device: str, mix: bool = False) -> Comparisons:
    """What the newest finished session of a device is about, with older cells of the same subject.

    Without `mix`, of the newest environment (machine and driver) alone. A cell that a session had no
    time for leaves an older one as it is; the session that measured most of the cells sums them up,
    the newest of several.
    """
    comparisons: list[Comparison] = []
    sessions: list[Session] = []
    for path in sorted(results.glob(f"{device}/*/rows.jsonl")):
        found, ended = read_comparisons(path)
        comparisons += found
        sessions += ended
    by_id = {s.session: s for s in sessions}
    finished = [c for c in comparisons if c.session in by_id]
    if not finished:
        raise NoRows(f"no finished comparison of device {device} in {results}")
    newest = max(finished, key=lambda c: c.run.utc)
    same = [c for c in comparisons if c.subject == newest.subject]
    others = [] if mix else [c for c in same if c.run.environment != newest.run.environment]
    by_key: dict[str, Comparison] = {}
    shown = sorted((c for c in same if c not in others), key=lambda c: c.run.utc)
    for comparison in shown:
        if comparison.status != "OK" or comparison.ratio is not None:
            by_key[comparison.key] = _standing(comparison, by_id)
        else:
            by_key.setdefault(comparison.key, comparison)
    measured = Counter(c.session for c in shown if c.session in by_id and c.ratio is not None)
    summed = max((c for c in shown if c.session in by_id),
                 key=lambda c: (measured[c.session], c.run.utc))
    left_out = sorted({c.run.run_id for c in others})
    return Comparisons(tuple(by_key.values()), by_id[summed.session], tuple(left_out))


def devices(results: Path) -> list[str]:
    """Devices that have rows, by name."""
    return sorted({path.parent.parent.name for path in results.glob("*/*/rows.jsonl")})


def latest(results: Path, device: str, mix: bool = False) -> Rows:
    """All rows of the newest environment (machine and driver) of a device, files merged.

    With `mix`, of all environments.
    """
    cells = [c for path in sorted(results.glob(f"{device}/*/rows.jsonl")) for c in read_file(path)]
    if not cells:
        raise NoRows(f"no rows of device {device} in {results}")
    if mix:
        return merge(cells, mix=True)
    current = max(cells, key=lambda c: c.run.utc).run.environment
    others = [c for c in cells if c.run.environment != current]
    return merge([c for c in cells if c.run.environment == current],
                 left_out=[run.run_id for run in runs_of(others)])
