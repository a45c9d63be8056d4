"""Rewrites the documents' tables, between `<!-- table:NAME begin -->` and `end`, from rows."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from math import exp, log
from pathlib import Path

import command
import depth_bandwidth
import peers
from correctness_matrix import summarize
from intervals import Ratio
from panels import common_sizes, environment_line
from rows import Cell, NoRows, RowError, Rows, latest, runs_of
from style import STATUS, backend_styles
from suites import SuiteCells, cell_name, load_suite, speedup

SECTION = re.compile(r"(?P<begin><!-- table:(?P<name>[\w-]+) begin -->\n)"
                     r"(?P<body>.*?)(?P<end><!-- table:(?P=name) end -->)", re.DOTALL)


def _table(head: Sequence[str], body: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table whose columns after the first `left` are right-aligned."""
    rule = ["---" if i < left else "--:" for i in range(len(head))]
    return "".join("| " + " | ".join(line) + " |\n" for line in (head, rule, *body))


def _digits(value: float) -> str:
    """Three significant digits without exponent: 0.0123, 1.23, 12.3, 1234."""
    if value >= 100:
        return f"{value:.0f}"
    decimals = 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:.{decimals}f}"


def _rate(value: float) -> str:
    return f"{_digits(value / 1e12)} T" if value >= 1e12 else f"{_digits(value / 1e9)} G"


def _source(cells: Sequence[Cell]) -> str:
    return environment_line(runs_of(cells))


def _by_date(cells: Sequence[Cell]) -> str:
    """Whose times are of which day, where they are of several: ` 2026-11-29: auto.`"""
    backends: dict[str, list[str]] = {}
    for cell in cells:
        if cell.timed:
            names = backends.setdefault(cell.run.utc[:10], [])
            if cell.backend not in names:
                names.append(cell.backend)
    return "" if len(backends) < 2 else "".join(
        f" {date}: {', '.join(backend_styles(names))}." for date, names in sorted(backends.items()))


def _time_text(cell: Cell | None, best: bool) -> str:
    if cell is None:
        return "not measured"
    if not cell.timed or cell.cold is None:
        return STATUS[cell.status].meaning if cell.status in STATUS else cell.status
    median = _digits(cell.cold.median)
    half = 50 * (cell.cold.p75 - cell.cold.p25) / cell.cold.median
    remark = "" if cell.status == "OK" else f" {STATUS[cell.status].meaning}"
    return f"{f'**{median}**' if best else median} ± {half:.1f} %{remark}"


def latency(rows: Rows) -> str:
    """A line a cell of the suite, a column a backend; the fastest in bold."""
    table = load_suite(rows)
    body = []
    for data, size in table.distinct():
        cells = [data.cells.get((backend, size)) for backend in table.backends]
        times = [c.cold.median for c in cells if c and c.timed and c.cold and c.status == "OK"]
        best = min(times, default=None)
        body.append([cell_name(data.at(size)[0])] + [
            _time_text(c, bool(c and c.timed and c.cold and c.cold.median == best))
            for c in cells])
    note = (f"\nCold median in ms ± half the distance of the quartiles. {_source(table.cells)} · "
            f"suite {table.suite} ({common_sizes(table.cells)}).{_by_date(table.cells)}\n")
    return _table(["cell", *table.backends], body) + note


def _ratios(table: SuiteCells, baseline: str, backend: str) -> list[tuple[float, str]]:
    """Speed-ups of a backend in every cell where both have a proper time, with the cell's name."""
    ratios = []
    for data, size in table.distinct():
        base, own = data.cells.get((baseline, size)), data.cells.get((backend, size))
        if base and own and base.status == own.status == "OK":
            ratio = speedup(base, own)
            if ratio:
                ratios.append((ratio.median, cell_name(data.at(size)[0])))
    return ratios


def summary(rows: Rows) -> str:
    """A line a backend: geometric mean, never without the worst cell and the share of slower."""
    table = load_suite(rows)
    baseline = table.baseline()
    total = len(table.distinct())
    body = []
    for backend in table.backends:
        ratios = _ratios(table, baseline, backend)
        if backend == baseline:
            continue
        if not ratios:
            body.append([backend, "–", "–", "–", f"0 of {total}"])
            continue
        mean = exp(sum(log(r) for r, _ in ratios) / len(ratios))
        worst, where = min(ratios)
        slower = sum(r < 1 for r, _ in ratios)
        body.append([backend, f"{_digits(mean)}×", f"{_digits(worst)}× ({where})",
                     f"{slower} of {len(ratios)}", f"{len(ratios)} of {total}"])
    head = ["backend", f"geometric mean over {baseline}", "worst cell", "slower", "compared"]
    return _table(head, body) + (f"\nCold medians, suite {table.suite}. {_source(table.cells)}."
                                 f"{_by_date(table.cells)}\n")


def _ratio_text(ratio: Ratio | None) -> str:
    if ratio is None:
        return "–"
    ends = "" if ratio.ends is None else f" [{_digits(ratio.ends[0])}, {_digits(ratio.ends[1])}]"
    return f"{_digits(ratio.value)}×{ends}"


def peer_latency(rows: Rows, suite: str) -> str:
    """A line a cell: ours, the peers, and the speed-up over the package with its interval."""
    table = peers.load(rows, suite)
    names = [peers.PEERS[peer].name for peer in table.peers]
    body = []
    for line in table.lines:
        cells = [line.cells.get(backend) for backend in (peers.OURS, *table.peers)]
        times = [c.cold.median for c in cells if c and c.cold and c.status == "OK"]
        body.append([line.name] + [
            _time_text(c, bool(c and c.cold and c.cold.median == min(times, default=None)))
            for c in cells] + [_ratio_text(line.ratio(table.package))])
    note = (f"\nIn ms ± half the distance of the quartiles. {peers.how_measured(table.cells)} In "
            f"brackets {peers.INTERVALS} {_source(table.cells)} · suite {suite} "
            f"({common_sizes(table.cells)}). Repeat: `{peers.repeat(table)}`.\n")
    return _table(["cell", peers.OURS, *names, f"over {names[-1]}"], body) + note


def peer_summary(rows: Rows, suite: str) -> str:
    """A line a peer: geometric mean, worst cell and counts; a sentence on the package."""
    table = peers.load(rows, suite)
    total = len(table.lines)
    body = []
    for peer in table.peers:
        name, ratios = peers.PEERS[peer].name, table.ratios(peer)
        if not ratios:
            body.append([name, "–", "–", "–", "–", f"0 of {total}"])
            continue
        mean = exp(sum(log(ratio.value) for ratio, _ in ratios) / len(ratios))
        worst, where = min(ratios, key=lambda found: found[0].value)
        faster = sum(ratio.above_one for ratio, _ in ratios)
        slower = sum(ratio.value < 1 for ratio, _ in ratios)
        body.append([name, f"{_digits(mean)}×", f"{_ratio_text(worst)} ({where})",
                     f"{faster} of {len(ratios)}", f"{slower} of {len(ratios)}",
                     f"{len(ratios)} of {total}"])
    head = [f"{peers.OURS} over", "geometric mean", "worst cell", "faster", "slower", "compared"]
    return _table(head, body) + (
        f"\n{_claim(table)} Faster: the whole interval lies above 1; slower: the ratio below. "
        f"Suite {suite}. {_source(table.cells)}.\n")


def _claim(table: peers.Beside) -> str:
    """What the rows say about ours and the package, and no more."""
    name = peers.PEERS[table.package].name
    ratios = table.ratios(table.package)
    total, compared = len(table.lines), len(ratios)
    if not compared:
        return f"No cell compares `{peers.OURS}` with {name}."
    faster = sum(ratio.above_one for ratio, _ in ratios)
    share = "each" if faster == compared else str(faster)
    cells = f"{total} cells." if compared == total else (
        f"{compared} cells that both have a time for; {total - compared} of {total} not compared.")
    return f"Through Python `{peers.OURS}` is faster than {name} in {share} of the {cells}"


def matrix(rows: Rows) -> str:
    """A line a backend: cells of the correctness matrix by status, and the worst error."""
    cells = [c for c in rows.select("verify") if c.op == "colreduce" and c.suite]
    if not cells:
        raise NoRows("no verify rows of a suite")
    body = []
    for backend in backend_styles(c.backend for c in cells):
        own = [c for c in cells if c.backend == backend]
        result = summarize(own)
        others = [f"{n} {s}" for s, n in result.counts.items() if s not in ("OK", "UNSUPPORTED")]
        classes = sorted({c.numerics_class for c in own if c.numerics_class})
        body.append([backend, ", ".join(classes), str(result.counts.get("OK", 0)),
                     str(result.counts.get("UNSUPPORTED", 0)), ", ".join(others) or "0",
                     "–" if result.nerr_max is None else f"{result.nerr_max:.3f}"])
    head = ["backend", "error bound", "OK", "UNSUPPORTED", "other", "largest error / tolerance"]
    suites = ", ".join(sorted({str(c.suite) for c in cells}))
    return _table(head, body, left=2) + f"\nSuite {suites}. {_source(cells)}.\n"


def depth(rows: Rows) -> str:
    """Attention residuals: a line for each operator's first problem and for each that several backends
    have, with the time and its share of the speed of light; the fastest in bold."""
    cells = depth_bandwidth.measured(rows, depth_bandwidth.SUITE)
    timed = [c for c in cells if c.timed]
    if not timed:
        raise NoRows("no times of attention residuals")
    problems: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in sorted(cells, key=lambda c: not c.timed):
        problems.setdefault((cell.op, depth_bandwidth.label(cell)), {})[cell.backend] = cell
    names = list(backend_styles(c.backend for c in timed))
    body = []
    for op in depth_bandwidth.operators(cells):
        own = {label: by for (of, label), by in problems.items() if of == op}
        for label in [label for label, by in own.items() if len(by) > 1] or list(own)[:1]:
            best = min((c.cold.median for c in own[label].values()
                        if c.cold and c.status == "OK"), default=None)
            body.append([op, label] + [_share_text(own[label].get(name), best) for name in names])
    head = ["operator", "problem", *names]
    return _table(head, body, left=2) + (
        f"\nCold median in ms, and its share of the speed of light. {_source(timed)}.\n")


def _share_text(cell: Cell | None, best: float | None) -> str:
    if cell is None:
        return "–"
    if cell.cold is None:
        return STATUS[cell.status].meaning
    median = _digits(cell.cold.median)
    median = f"**{median}**" if cell.cold.median == best else median
    remark = "" if cell.status == "OK" else f" {STATUS[cell.status].meaning}"
    return f"{median} ({cell.sol_pct:.0f} %){remark}"


def environment(rows: Rows) -> str:
    """What the newest run was measured on and with; a bench where there is one, of README's suite where there is one."""
    if not rows.cells:
        raise NoRows("no rows")
    timed = rows.select("bench") or rows.cells
    runs = runs_of([cell for cell in timed if cell.suite == "readme"] or timed)
    run = ([r for r in runs if r.ceilings.get("null_kernel_ns")] or runs)[-1]  # a peer's has few
    ceilings = {name: value for name, value in run.ceilings.items() if value}
    rates = (("copy_Bps", "copy", "B/s"), ("mma_flops", "matrix multiply", "FLOP/s"),
             ("ffma_flops", "fp32 FMA", "FLOP/s"), ("ex2_per_s", "ex2", "/s"))
    measured = [f"{label} {_rate(ceilings[name])}{unit}"
                for name, label, unit in rates if name in ceilings]
    if "null_kernel_ns" in ceilings:
        measured.append(f"empty launch {_digits(ceilings['null_kernel_ns'] / 1e3)} µs")
    nvcc = run.build["nvcc"]
    facts = {
        "device": run.device["name"] or "unnamed",
        "host": f"{run.host['cpu'] or 'unknown CPU'}, {run.host['threads']} threads",
        "driver, CUDA": f"{run.driver}, {run.cuda}" if run.driver else None,
        "compilers": ", ".join([run.build["cxx"]] + ([f"nvcc {nvcc}"] if nvcc else [])),
        "LibTorch": run.build["torch"],
        "measured ceilings": ", ".join(measured),
        "date, revision": f"{run.utc[:10]}, {run.revision}",
    }
    return _table(["", ""], [[name, str(fact)] for name, fact in facts.items() if fact], left=2)


TABLES: dict[str, Callable[[Rows], str]] = {
    "readme-latency": latency,
    "readme-summary": summary,
    "peers-readme": lambda rows: peer_latency(rows, "readme"),
    "peers-readme-summary": lambda rows: peer_summary(rows, "readme"),
    "peers-colsum": lambda rows: peer_latency(rows, "colsum"),
    "peers-colsum-summary": lambda rows: peer_summary(rows, "colsum"),
    "matrix": matrix,
    "depth": depth,
    "environment": environment,
}
DOCUMENTS = [command.ROOT / name
             for name in ("README.md", "impls/attnres/README.md", "docs/pytorch.md")]


def rewrite(text: str, rows: Rows) -> tuple[str, list[str]]:
    """README's text with every known section filled, and a sentence for each that was left."""
    left: list[str] = []

    def fill(section: re.Match[str]) -> str:
        name = section["name"]
        if name not in TABLES:
            raise RowError(f"README has a section table:{name}, known are {', '.join(TABLES)}")
        try:
            return section["begin"] + TABLES[name](rows) + section["end"]
        except NoRows as reason:
            left.append(f"left table:{name} as it is: {reason}")
            return section[0]

    filled = SECTION.sub(fill, text)
    if len(re.findall(r"<!-- table:", text)) != 2 * len(SECTION.findall(text)):
        raise RowError("README has a table marker without its partner")
    return filled, left


def main(argv: Sequence[str] | None = None) -> int:
    """1 with --check when README is not up to date, 2 with a sentence when it cannot be."""
    options = command.parser(__doc__)
    options.add_argument("--readme", type=Path, nargs="+", default=DOCUMENTS,
                         help="files whose tables are to be filled")
    options.add_argument("--check", action="store_true", help="write nothing, compare")
    args = options.parse_args(argv)
    status = 0
    try:
        rows = latest(args.results, args.device, args.mix)
        command.say_left_out(rows, args.device)
        for document in args.readme:
            text = document.read_text(encoding="utf-8")
            filled, left = rewrite(text, rows)
            for sentence in left:
                print(sentence)
            if filled != text and args.check:
                print(f"{document} is not up to date: run plots/readme_tables.py")
                status = 1
            elif filled != text:
                document.write_text(filled, encoding="utf-8")
                print(f"rewrote the tables of {document}")
    except NoRows as reason:
        print(f"left every table as it is: {reason}")
    except (RowError, OSError) as error:
        print(f"readme_tables: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
