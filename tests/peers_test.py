"""plots/peers.py and the tables of peers: ratios of rows of one program, with their intervals."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "plots"), str(ROOT / "tests")]

try:
    import numpy as np
    import peers
    import readme_tables
    from matplotlib.axes import Axes
except ImportError as missing:
    MISSING = f"SKIPPED: {missing}, so no figure and no table of peers was tested."
    if __name__ == "__main__":
        print(MISSING)
        sys.exit(77)
    raise unittest.SkipTest(MISSING) from None

import readme_figure  # noqa: E402
import rows  # noqa: E402
import synthetic_rows as synthetic  # noqa: E402

Record = dict[str, Any]
# Of 60 samples the 21st and the 40th: between them lies the median in 97.5 % of all cases or more.
RANKS = (20, 39)


def ends(base: Record, own: Record) -> tuple[float, float]:
    over, under = (sorted(r["time"]["cold"]["samples"]) for r in (base, own))
    return over[RANKS[0]] / under[RANKS[1]], over[RANKS[1]] / under[RANKS[0]]


def parse(table: str) -> dict[str, dict[str, str]]:
    """The lines of a Markdown table as column -> text, by their first field."""
    lines = [[field.strip() for field in line.strip("|").split("|")]
             for line in table.splitlines() if line.startswith("|")]
    return {line[0]: dict(zip(lines[0], line)) for line in lines[2:]}


class Peers(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.results = Path(folder.name)
        self.readme = synthetic.peers()
        self.colsum = synthetic.peers("colsum")

    def run_line(self, utc: str = "2026-11-21T10:15:00Z", binary: str = "00ff00ff") -> Record:
        line = synthetic.run(utc=utc)
        line["build"]["id"] = binary
        return line

    def read(self, *later: Record) -> rows.Rows:
        synthetic.write(self.results, "nvidia-h200",
                        [self.run_line(), *self.readme, *self.colsum, *later])
        return rows.latest(self.results, "nvidia-h200")

    def one(self, records: list[Record], backend: str, mask: str, **shape: int) -> Record:
        (found,) = [r for r in records if r["backend"] == backend and r["options"]["mask"] == mask
                    and shape.items() <= r["shape"].items()]
        return found

    def fail_cell(self, records: list[Record], status: str, backend: str, mask: str,
                  **shape: int) -> None:
        record = self.one(records, backend, mask, **shape)
        record |= synthetic.cell(backend, "bench", record["suite"], record["shape"], status,
                                 mask=mask)


class Figure(Peers):
    def panels(self, read: rows.Rows) -> dict[str, Axes]:
        return {ax.get_title().split(":")[0]: ax for ax in peers.figure(read).axes}

    def points(self, ax: Axes) -> dict[str, float]:
        return {line.get_gid()[6:]: float(np.asarray(line.get_xdata())[0]) for line in ax.lines
                if (line.get_gid() or "").startswith("ratio:")}

    def test_points_are_the_ratios_and_bars_their_intervals(self) -> None:
        panels = self.panels(self.read())
        self.assertEqual(list(panels), ["suite readme", "suite colsum"])
        for title, records, package in (("suite readme", self.readme, "py_flash_colreduce"),
                                        ("suite colsum", self.colsum, "py_flash_colsum")):
            ax = panels[title]
            points = self.points(ax)
            ours = [r for r in records if r["backend"] == "auto"]
            self.assertEqual(len(points), 3 * len(ours))
            bars = {c.get_gid(): c.get_segments()[0] for c in ax.collections if c.get_gid()}
            names = [label.get_text() for label in ax.get_yticklabels()]
            self.assertEqual(len(names), len(ours))
            for name, own in zip(names, ours):
                for peer in ("py_eager", "py_compiled", package):
                    base = self.one(records, peer, own["options"]["mask"], **own["shape"])
                    self.assertAlmostEqual(points[f"{peer}:{name}"], base["time"]["cold"]["median"]
                                           / own["time"]["cold"]["median"])
                    np.testing.assert_allclose(bars[f"interval:{peer}:{name}"][:, 0],
                                               ends(base, own))
            low, high = ax.get_xlim()
            self.assertTrue(low < 1 and all(low < x < high for x in points.values()))

    def test_what_has_no_ratio_is_said(self) -> None:
        self.fail_cell(self.readme, "OOM", "py_eager", "none", B=64)
        self.fail_cell(self.readme, "OOM", "py_compiled", "none", B=64)
        self.readme.remove(self.one(self.readme, "py_flash_colreduce", "causal", N=262144))
        self.fail_cell(self.readme, "NOISY", "auto", "none", M=2048)
        ax = self.panels(self.read())["suite readme"]
        self.assertEqual({text.get_gid(): text.get_text() for text in ax.texts}, {
            "lacking:none B64 M1k N1k": "⊠ out of memory: PyTorch eager, torch.compile",
            "lacking:causal B1 M512 N256k": "not measured: flash-colreduce",
            "lacking:none B1 M2k N2k": "~ noisy: auto"})
        points = self.points(ax)
        self.assertEqual(len(points), 3 * 19 - 2 - 1 - 3)
        self.assertIn("py_flash_colreduce:none B64 M1k N1k", points)

    def test_caption_lets_anyone_repeat_it(self) -> None:
        (text,) = [t.get_text() for t in peers.figure(self.read()).texts
                   if t.get_gid() == "caption"]
        for part in ("NVIDIA H200", "driver 580.159", "CUDA 13.0", "2026-11-21", "revision 0123456",
                     "60 samples", "95 %", "order statistics",
                     "python -m attnbench bench colreduce --suite readme --backend auto,"
                     "attnbench.examples:eager,attnbench.examples:compiled,"
                     "attnbench.peers:flash_colreduce\n",
                     "--suite colsum", "attnbench.peers:flash_colsum"):
            self.assertIn(part, text)

    def test_functions_are_where_the_command_says(self) -> None:
        for peer in peers.PEERS.values():
            module, _, function = peer.function.partition(":")
            path = ROOT / "python" / module.replace(".", "/")
            source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            self.assertIn(f"\ndef {function}(", source.read_text())

    def test_one_suite_alone(self) -> None:
        self.colsum = []
        self.assertEqual(list(self.panels(self.read())), ["suite readme"])
        self.readme = [r for r in self.readme if r["backend"] == "auto"]
        with self.assertRaisesRegex(rows.NoRows, "py_eager.* readme; .*py_flash_colsum.* colsum"):
            peers.figure(self.read())

    def test_a_peer_without_ours_is_no_figure(self) -> None:
        self.colsum = []
        self.readme = [r for r in self.readme if r["backend"] != "auto"]
        with self.assertRaisesRegex(rows.NoRows, "beside auto in suite readme"):
            peers.figure(self.read())

    def test_sweeps_leave_peers_to_this_figure(self) -> None:
        self.readme += synthetic.sweep("readme")
        for ax in readme_figure.figure(self.read()).axes:
            drawn = {line.get_gid() for line in ax.lines}
            self.assertIn("line:auto", drawn)
            self.assertFalse([gid for gid in drawn if gid and "py_" in gid])


class OneProgram(Peers):
    def cells(self, read: rows.Rows, name: str) -> dict[str, rows.Cell]:
        (line,) = [line for line in peers.load(read, "readme").lines if line.name == name]
        return line.cells

    def again(self, factor: float, *backends: str) -> list[Record]:
        """The first problem once more, by another binary, later."""
        result = [self.run_line("2026-11-22T10:15:00Z", "11ee11ee")]
        for backend in backends:
            record = self.one(self.readme, backend, "none", B=1, M=1024)
            median = record["time"]["cold"]["median"] * factor
            result.append(synthetic.cell(backend, "bench", "readme", record["shape"], mask="none",
                                         median_ns=median))
        return result

    def times(self, *later: Record) -> dict[str, float]:
        cells = self.cells(self.read(*later), "none B1 M1k N1k")
        return {name: c.cold.median for name, c in cells.items() if c.cold}

    def test_another_binary_does_not_mix_in(self) -> None:
        before = self.times()
        self.assertEqual(self.times(*self.again(7.0, "auto")), before)
        self.assertEqual(self.times(*self.again(7.0, "auto", "py_eager")), before)

    def test_of_equals_the_newest(self) -> None:
        whole = ("auto", "py_eager", "py_compiled", "py_flash_colreduce")
        before = self.times()
        for name, time in self.times(*self.again(7.0, *whole)).items():
            self.assertAlmostEqual(time, 7 * before[name])

    def test_a_ratio_over_the_package_counts_more_than_other_peers(self) -> None:
        pair = self.again(7.0, "auto", "py_flash_colreduce")
        self.assertEqual(len(self.times(*pair)), 4)
        self.readme.remove(self.one(self.readme, "py_flash_colreduce", "none", B=1, M=1024))
        self.assertEqual(self.times(*pair), {"auto": 0.7, "py_flash_colreduce": 1.4})

    def test_a_continued_run_of_the_same_binary_completes_the_line(self) -> None:
        lacking = self.one(self.readme, "py_eager", "none", B=1, M=1024)
        self.readme.remove(lacking)
        self.assertNotIn("py_eager", self.times())
        self.assertIn("py_eager", self.times(self.run_line("2026-11-21T11:00:00Z"), lacking))

    def test_lines_stand_as_the_suite_has_them(self) -> None:
        names = [line.name for line in peers.load(self.read(), "readme").lines]
        self.readme.reverse()
        part = self.one(self.readme, "auto", "none", M=2048)
        self.readme.insert(0, synthetic.cell("auto", "bench", "readme", part["shape"], mask="none",
                                             query_end="1"))
        again = [line.name for line in peers.load(self.read(), "readme").lines]
        self.assertEqual(again, [*names, "none B1 M2k N2k, queries 0:1"])


class Tables(Peers):
    def test_latency(self) -> None:
        self.fail_cell(self.readme, "OOM", "py_eager", "none", B=64)
        table = parse(readme_tables.peer_latency(self.read(), "readme"))
        self.assertEqual(len(table), 19)
        base = self.one(self.readme, "py_flash_colreduce", "none", B=1, M=1024)
        low, high = ends(base, self.one(self.readme, "auto", "none", B=1, M=1024))
        line = table["none B1 M1k N1k"]
        self.assertEqual(line["auto"][:9], "**0.100**")
        self.assertEqual(line["over flash-colreduce"], f"2.00× [{low:.2f}, {high:.2f}]")
        self.assertEqual(table["none B64 M1k N1k"]["PyTorch eager"], "out of memory")
        self.assertIn("flash-colsum", parse(readme_tables.peer_latency(self.read(), "colsum"))[
            "none B1 M1k N1k"])

    def test_summary(self) -> None:
        self.fail_cell(self.readme, "OOM", "py_eager", "none", B=64)
        table = parse(readme_tables.peer_summary(self.read(), "readme"))
        self.assertEqual(list(table), ["PyTorch eager", "torch.compile", "flash-colreduce"])
        line = table["torch.compile"]
        self.assertEqual((line["geometric mean"], line["faster"], line["slower"], line["compared"]),
                         ("3.00×", "19 of 19", "0 of 19", "19 of 19"))
        self.assertRegex(table["PyTorch eager"]["worst cell"],
                         r"^4\.00× \[3\.\d\d, 4\.\d\d\] \(none B1 M1k N1k\)$")
        self.assertEqual(table["PyTorch eager"]["compared"], "18 of 19")

    def claim(self) -> str:
        text = readme_tables.peer_summary(self.read(), "readme")
        return next(line for line in text.splitlines() if "flash-colreduce in" in line
                    or "No cell" in line).split(" Faster:")[0]

    def test_no_more_is_said_than_the_rows_show(self) -> None:
        self.assertEqual(self.claim(), "Through Python `auto` is faster than flash-colreduce in "
                                       "each of the 19 cells.")
        package = self.one(self.readme, "py_flash_colreduce", "causal", N=262144)
        cold = package["time"]["cold"]
        ours = self.one(self.readme, "auto", "causal", N=262144)["time"]["cold"]["samples"]
        cold["samples"] = [sample * 1.001 for sample in ours]  # the interval reaches 1
        self.assertIn("in 18 of the 19 cells.", self.claim())
        self.readme.remove(package)
        self.assertIn("in each of the 18 cells that both have a time for; 1 of 19 not compared.",
                      self.claim())
        self.readme = [r for r in self.readme if r["backend"] != "py_flash_colreduce"]
        self.assertIn("No cell compares `auto` with flash-colreduce.", self.claim())

    def test_slower_cells_are_counted_and_are_the_worst(self) -> None:
        record = self.one(self.readme, "py_flash_colreduce", "causal", B=64)
        for key, value in record["time"]["cold"].items():
            record["time"]["cold"][key] = ([v / 4 for v in value] if key == "samples" else
                                           value if key == "n" else value / 4)
        line = parse(readme_tables.peer_summary(self.read(), "readme"))["flash-colreduce"]
        self.assertEqual((line["faster"], line["slower"]), ("18 of 19", "1 of 19"))
        self.assertRegex(line["worst cell"], r"^0\.500× .*\(causal B64 M64 N16k\)$")

    def test_a_wrong_table_is_noticed(self) -> None:
        self.read()
        names = ("peers-readme", "peers-readme-summary", "peers-colsum", "peers-colsum-summary")
        document = self.results / "README.md"
        document.write_text("".join(f"<!-- table:{name} begin -->\n<!-- table:{name} end -->\n"
                                    for name in names))

        def main(*arguments: str) -> int:
            with contextlib.redirect_stdout(io.StringIO()):
                return readme_tables.main(["--results", str(self.results), "--readme",
                                           str(document), *arguments])

        self.assertEqual((main("--check"), main(), main("--check")), (1, 0, 0))
        right = document.read_text()
        for text, wrong in (("2.00× [", "2.10× ["), ("**0.100**", "**0.090**"),
                            ("19 of 19", "18 of 19"), ("each of the 19", "each of the 20")):
            self.assertIn(text, right)
            document.write_text(right.replace(text, wrong, 1))
            self.assertEqual(main("--check"), 1, wrong)
        document.write_text(right)
        self.one(self.colsum, "py_flash_colsum", "none", B=2)["time"]["cold"]["samples"][:] = [
            9e5] * 60
        self.read()
        self.assertEqual(main("--check"), 1)

    def test_of_several_days_each_backend_has_its_own(self) -> None:
        self.colsum = []
        self.readme = [r for r in self.readme if r["backend"] == "auto"]
        read = self.read(self.run_line("2026-11-22T10:15:00Z", "11ee11ee"),
                         *synthetic.sweep("readme"))
        for table in (readme_tables.latency(read), readme_tables.summary(read)):
            self.assertIn(" 2026-11-21: auto. 2026-11-22: libtorch, cublas_naive,", table)
        self.readme = []
        read = self.read(*synthetic.sweep("readme"))
        self.assertNotIn("2026-11-21:", readme_tables.latency(read))


if __name__ == "__main__":
    unittest.main(buffer=True)
