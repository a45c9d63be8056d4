"""The figures: what is drawn equals what the rows say, every status has its mark."""

from __future__ import annotations

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
    from matplotlib.axes import Axes
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure
except ImportError as missing:
    MISSING = f"SKIPPED: {missing}, so no figure was tested."
    if __name__ == "__main__":
        print(MISSING)
        sys.exit(77)
    raise unittest.SkipTest(MISSING) from None

import comparison  # noqa: E402
import correctness_matrix  # noqa: E402
import depth_bandwidth  # noqa: E402
import draw_all  # noqa: E402
import models_share  # noqa: E402
import readme_figure  # noqa: E402
import rows  # noqa: E402
import speed_of_light  # noqa: E402
import speedup  # noqa: E402
import style  # noqa: E402
import synthetic_rows as synthetic  # noqa: E402

Record = dict[str, Any]
MIB = 2.0**20

# Mask, the size on the x axis and which shapes belong: written down again, not taken from plots/.
COLUMNS = {
    "readme": (
        ("none", "B", lambda s: s["M"] == s["N"] == 1024),
        ("none", "N", lambda s: s["B"] == 1 and s["M"] == s["N"]),
        ("causal", "B", lambda s: s["M"] == 64 and s["N"] == 16384),
        ("causal", "N", lambda s: s["B"] == 1 and s["M"] == 512),
    ),
    "small": (
        ("none", "B", lambda s: s["M"] == s["N"] == 256),
        ("none", "N", lambda s: s["B"] == 1 and s["M"] == s["N"]),
        ("causal", "B", lambda s: s["M"] == 16 and s["N"] == 4096),
        ("causal", "N", lambda s: s["B"] == 1 and s["M"] == 64),
    ),
}


def lines(ax: Axes, prefix: str) -> dict[str, list[tuple[float, float]]]:
    """Points of the lines whose gid starts so, by the rest of the gid."""
    result: dict[str, list[tuple[float, float]]] = {}
    for line in ax.lines:
        gid = line.get_gid() or ""
        if gid.startswith(prefix):
            points = zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
            result.setdefault(gid[len(prefix):], []).extend((float(x), float(y)) for x, y in points)
    return result


def finite(points: list[tuple[float, float]]) -> dict[float, float]:
    return {x: y for x, y in points if not np.isnan(y)}


def wanted(records: list[Record], suite: str, column: int, backend: str) -> dict[float, Record]:
    """Cells with a result, by size on the x axis."""
    mask, axis, holds = COLUMNS[suite][column]
    return {float(r["shape"][axis]): r for r in records
            if r["backend"] == backend and r["options"]["mask"] == mask and holds(r["shape"])
            and r["status"] in ("OK", "NOISY", "UNCHECKED")}


def change(record: Record, **fields: Any) -> Record:
    """The cell with another status, time or workspace."""
    arguments = {"status": record["status"], "device": record["device"], "dtype": record["dtype"]}
    return synthetic.cell(record["backend"], record["mode"], record["suite"], record["shape"],
                          **{**arguments, **record["options"], **fields})


class Drawn(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.results = Path(folder.name)
        self.records = synthetic.sweep("readme")

    def read(self, records: list[Record] | None = None, device: str = "nvidia-h200") -> rows.Rows:
        kind = "cpu" if device == "cpu" else "cuda"
        body = self.records if records is None else records
        synthetic.write(self.results, device, [synthetic.run(kind), *body])
        return rows.latest(self.results, device)

    def index(self, backend: str, mask: str, **shape: int) -> int:
        (found,) = [i for i, r in enumerate(self.records)
                    if r["backend"] == backend and r["options"]["mask"] == mask
                    and shape.items() <= r["shape"].items()]
        return found

    def caption(self, figure: Figure) -> str:
        return next(t.get_text() for t in figure.texts if t.get_gid() == "caption")

    def compare(self, ax: Axes, suite: str, column: int, records: list[Record],
                value: Any, backends: tuple[str, ...]) -> None:
        drawn = lines(ax, "line:")
        self.assertEqual(sorted(drawn), sorted(backends))
        for backend in backends:
            expected = {x: value(r) for x, r in wanted(records, suite, column, backend).items()}
            points = finite(drawn[backend])
            self.assertEqual(sorted(points), sorted(expected), backend)
            for x, y in points.items():
                self.assertAlmostEqual(y / expected[x] if expected[x] else y + 1, 1, places=9)
            bottom, top = ax.get_ylim()
            self.assertTrue(all(bottom <= y <= top for y in points.values()))


class ReadmeFigure(Drawn):
    def axes(self, read: rows.Rows) -> list[Axes]:
        figure = readme_figure.figure(read)
        self.assertEqual(len(figure.axes), 8)
        return figure.axes

    def latency(self, record: Record) -> float:
        return float(record["time"]["cold"]["median"] / 1e6)

    def memory(self, record: Record) -> float:
        return float((record["mem"]["workspace"] + record["mem"]["hidden"]) / MIB)

    def test_lines_are_the_rows(self) -> None:
        for suite, device, backends in (
                ("readme", "nvidia-h200", synthetic.GPU_BACKENDS),
                ("small", "cpu", synthetic.CPU_BACKENDS)):
            records = synthetic.sweep(suite)
            axes = self.axes(self.read(records, device))
            for column in range(4):
                self.compare(axes[column], suite, column, records, self.latency, backends)
                self.compare(axes[4 + column], suite, column, records, self.memory, backends)

    def test_intervals_are_the_quartiles(self) -> None:
        axes = self.axes(self.read())
        for column in range(4):
            segments = {c.get_gid(): c.get_segments()[0] for c in axes[column].collections}
            for backend in synthetic.GPU_BACKENDS:
                for x, record in wanted(self.records, "readme", column, backend).items():
                    (x0, low), (x1, high) = segments[f"interval:{backend}:{x:.0f}"]
                    cold = record["time"]["cold"]
                    np.testing.assert_allclose((x0, x1, low, high), (
                        x, x, cold["p25"] / 1e6, cold["p75"] / 1e6), rtol=1e-9)

    def test_matrix_line(self) -> None:
        axes = self.axes(self.read())
        points = finite(lines(axes[4], "matrix")[""])
        self.assertEqual(points[64.0], 64 * 32 * 1024 * 1024 * 2 / MIB)

    def test_cells_without_a_result_are_on_the_rail(self) -> None:
        marked = {"UNSUPPORTED": 1, "OOM": 4, "INCORRECT": 16, "TIMEOUT": 64, "CRASH": 256}
        for status, batch in marked.items():
            i = self.index("mma_sm80", "none", B=batch, M=1024)
            self.records[i] = change(self.records[i], status=status)
        i = self.index("mma_sm80", "causal", B=4, M=64)
        self.records[i] = change(self.records[i], status="NOT_BUILT")
        for row in (0, 4):
            axes = self.axes(self.read())
            for status, batch in marked.items():
                ((x, y),) = lines(axes[row], f"rail:{status}:")["mma_sm80"]
                self.assertEqual(x, batch)
                self.assertTrue(0.7 < y < 1)
            self.assertIn("mma_sm80", lines(axes[row + 2], "rail:NOT_BUILT:"))
            self.assertEqual(finite(lines(axes[row], "line:")["mma_sm80"]), {})
        markers = [look.marker for look in style.STATUS.values()]
        self.assertEqual(len(set(markers)), len(markers))
        self.assertEqual(set(style.STATUS) | {"OK"}, set(rows.STATUSES))

    def test_refusals_break_the_line_and_nothing_is_extrapolated(self) -> None:
        i = self.index("fused_simt", "none", B=16, M=1024)
        self.records[i] = change(self.records[i], status="TIMEOUT")
        drawn = lines(self.axes(self.read())[0], "line:")["fused_simt"]
        self.assertEqual([np.isnan(y) for _, y in drawn], [False, False, True, False, False])

    def test_unchecked_is_hollow_and_noisy_half(self) -> None:
        for status, batch in (("UNCHECKED", 4), ("NOISY", 16)):
            i = self.index("split_k", "causal", B=batch, M=64)
            self.records[i] = change(self.records[i], status=status, median_ns=5e6)
        ax = self.axes(self.read())[2]
        self.assertEqual(lines(ax, "status:"), {"UNCHECKED:split_k": [(4.0, 5.0)],
                                                "NOISY:split_k": [(16.0, 5.0)]})
        hollow, half = [line for line in ax.lines if (line.get_gid() or "").startswith("status:")]
        self.assertEqual(to_hex(hollow.get_markerfacecolor()), "#ffffff")
        self.assertEqual((hollow.get_fillstyle(), half.get_fillstyle()), ("full", "left"))

    def test_every_row_counts(self) -> None:
        i = self.index("mma_sm80", "causal", N=65536)
        whole = lines(self.axes(self.read())[3], "line:")["mma_sm80"]
        dropped = self.records[:i] + self.records[i + 1:]
        figure = readme_figure.figure(self.read(dropped))
        less = lines(figure.axes[3], "line:")["mma_sm80"]
        self.assertEqual(len(finite(less)), len(finite(whole)) - 1)
        self.assertIn("not measured: 1 cells", self.caption(figure))
        self.records[i] = change(self.records[i], median_ns=123e6)
        other = finite(lines(self.axes(self.read())[3], "line:")["mma_sm80"])
        self.assertEqual(other[65536.0], 123.0)

    def test_only_rows_of_the_suite_and_mode_are_drawn(self) -> None:
        stray = [change(r, median_ns=1.0) | {"suite": suite, "data": data}
                 for r in self.records[:3] for suite, data in ((None, "normal"),
                                                               ("readme", "peaked"))]
        base = self.records[0]
        for shape, mask in (({"M": 1024, "N": 1024}, "causal"), ({"M": 512, "N": 2048}, "none"),
                            ({"M": 64, "N": 16384}, "none"), ({"M": 32, "N": 16384}, "causal")):
            stray.append(synthetic.cell("mma_sm80", "bench", "readme", base["shape"] | shape,
                                        mask=mask, median_ns=1.0))
        before = [lines(ax, "line:") for ax in self.axes(self.read())]
        after = [lines(ax, "line:") for ax in self.axes(self.read(self.records + stray))]
        np.testing.assert_equal(after, before)

    def test_a_wrong_answer_has_no_time(self) -> None:
        i = self.index("mma_sm80", "none", B=4, M=1024)
        self.records[i] |= {"status": "INCORRECT", "reason": "the last timed run differs"}
        ax = self.axes(self.read())[0]
        self.assertNotIn(4.0, finite(lines(ax, "line:")["mma_sm80"]))
        self.assertEqual(lines(ax, "rail:INCORRECT:")["mma_sm80"][0][0], 4.0)

    def test_zero_memory_is_drawn(self) -> None:
        points = finite(lines(self.axes(self.read())[4], "line:")["fused_simt"])
        self.assertEqual(set(points.values()), {0.0})

    def test_long_tick_labels_keep_their_place(self) -> None:
        for record in self.records:
            if record["backend"] == "libtorch" and record["mem"]:
                record["mem"]["workspace"] <<= 20
        left = [ax.get_position().x0 for ax in (*self.axes(self.read())[::4],
                                                *speedup.figure(self.read()).axes[:1])]
        self.assertEqual(left[0], left[1])
        self.assertGreater(left[0], left[2])

    def test_backends_of_the_host_and_without_times_are_named(self) -> None:
        shape = self.records[0]["shape"]
        extra = [synthetic.cell("cpu_fused", "bench", "readme", shape, device="cpu", mask="none"),
                 synthetic.cell("tree_sm90", "bench", "readme", shape, "NOT_BUILT", mask="none")]
        figure = readme_figure.figure(self.read(self.records + extra))
        self.assertIn("not drawn, runs on the host: cpu_fused", self.caption(figure))
        self.assertIn("no time in any cell: tree_sm90 (NOT_BUILT)", self.caption(figure))
        self.assertNotIn("cpu_fused", lines(figure.axes[0], "line:"))

    def test_caption_says_where_when_and_how(self) -> None:
        text = self.caption(readme_figure.figure(self.read()))
        for part in ("NVIDIA H200", "driver 580.159", "CUDA 13.0", "2026-11-21", "revision 0123456",
                     "suite readme", "Cold L2", "median of 60", "p25–p75",
                     "attnbench bench colreduce --suite readme"):
            self.assertIn(part, text)

    def test_unlisted_backend_gets_a_style_of_its_own(self) -> None:
        styles = style.backend_styles(["tree_sm90", "mma_sm80", "libtorch", "cluster_sm90"])
        self.assertEqual(list(styles), ["libtorch", "mma_sm80", "cluster_sm90", "tree_sm90"])
        self.assertEqual(len(set(styles.values())), 4)
        looks = [*style.BACKENDS.values(), *style.SPARE]
        self.assertEqual(len({look.colour for look in looks}), len(looks))
        self.assertEqual(len({look.marker for look in looks}), len(looks))

    def test_no_rows_of_the_suite(self) -> None:
        with self.assertRaisesRegex(rows.NoRows, "readme"):
            readme_figure.figure(self.read(synthetic.matrix()))
        refused = [change(r, status="UNSUPPORTED") for r in self.records]
        with self.assertRaisesRegex(rows.NoRows, "no times"):
            readme_figure.figure(self.read(refused))


class OtherSweeps(Drawn):
    def test_speedup_is_the_ratio_of_medians(self) -> None:
        base = {(r["options"]["mask"], *r["shape"].values()): r for r in self.records
                if r["backend"] == "cublas_naive" and r["status"] == "OK"}
        with_base = [r for r in self.records
                     if (r["options"]["mask"], *r["shape"].values()) in base]

        def ratio(record: Record) -> float:
            other = base[(record["options"]["mask"], *record["shape"].values())]
            return float(other["time"]["cold"]["median"] / record["time"]["cold"]["median"])

        axes = speedup.figure(self.read()).axes
        for column in range(4):
            self.compare(axes[column], "readme", column, with_base, ratio, synthetic.GPU_BACKENDS)

    def test_speedup_interval_is_opposite_quartiles(self) -> None:
        segments = {c.get_gid(): c.get_segments()[0]
                    for c in speedup.figure(self.read()).axes[0].collections}
        own = wanted(self.records, "readme", 0, "mma_sm80")[4.0]["time"]["cold"]
        base = wanted(self.records, "readme", 0, "cublas_naive")[4.0]["time"]["cold"]
        np.testing.assert_allclose(segments["interval:mma_sm80:4"][:, 1],
                                   (base["p25"] / own["p75"], base["p75"] / own["p25"]))

    def test_speedup_over_a_baseline_of_a_revision_with_fewer_options(self) -> None:
        whole = lines(speedup.figure(self.read()).axes[0], "line:")
        for record in self.records:
            if record["backend"] != "cublas_naive":
                record["options"]["window"] = "-1"
        self.assertEqual(str(lines(speedup.figure(self.read()).axes[0], "line:")), str(whole))

    def test_speedup_without_its_baseline(self) -> None:
        rest = [r for r in self.records if r["backend"] != "cublas_naive"]
        with self.assertRaisesRegex(rows.NoRows, "cublas_naive"):
            speedup.figure(self.read(rest))
        small = [r for r in synthetic.sweep("small") if r["backend"] != "libtorch"]
        figure = speedup.figure(self.read(small, "cpu"))
        self.assertEqual(figure.axes[0].get_ylabel(), "speed-up over cpu_reference")

    def test_speed_of_light_is_the_row(self) -> None:
        for index, record in enumerate(self.records):
            if record["sol"]:
                record["sol"]["pct"] = 5.0 + index / 4
        axes = speed_of_light.figure(self.read()).axes
        for column in range(4):
            self.compare(axes[column], "readme", column, self.records, lambda r: r["sol"]["pct"],
                         synthetic.GPU_BACKENDS)
        self.assertEqual(axes[0].get_xticklabels()[0].get_text(), "1\nmma")

    def test_speed_of_light_without_ceilings(self) -> None:
        for record in self.records:
            record["sol"] = None
        with self.assertRaisesRegex(rows.NoRows, "speed of light"):
            speed_of_light.figure(self.read())


class CorrectnessMatrix(Drawn):
    def boxes(self, records: list[Record]) -> tuple[dict[str, str], dict[str, list[str]]]:
        """Colour and texts of every box, by `backend:group:column`."""
        figure = correctness_matrix.figure(self.read(records))
        colours, texts = {}, {}
        for ax in figure.axes:
            for patch in ax.patches:
                if (patch.get_gid() or "").startswith("cell:"):
                    colours[patch.get_gid()[5:]] = to_hex(patch.get_facecolor())
            for text in ax.texts:
                if (text.get_gid() or "").startswith("cell:"):
                    texts.setdefault(text.get_gid()[5:].rsplit(":", 1)[0], []).append(
                        text.get_text())
        return colours, texts

    def test_counts_and_colours_are_the_rows(self) -> None:
        records = synthetic.matrix()
        colours, texts = self.boxes(records)
        groups = {"input family:tail": lambda r: r["data"] == "tail",
                  "input type:f32": lambda r: r["dtype"] == "f32",
                  "mask:causal": lambda r: r["options"]["mask"] == "causal",
                  "reduction:max": lambda r: r["options"]["reduction"] == "max",
                  "layout:QKV slice": lambda r: r["options"]["layout"] == "qkv_slice",
                  "shape:M > N": lambda r: r["shape"]["M"] > r["shape"]["N"],
                  "shape:H_kv < H": lambda r: r["shape"]["H_kv"] < r["shape"]["H"],
                  ":all": lambda r: True}
        for backend in synthetic.GPU_BACKENDS:
            for column, holds in groups.items():
                own = [r for r in records if r["backend"] == backend and holds(r)]
                ok = [r for r in own if r["status"] == "OK"]
                lines_wanted = [str(len(ok))] if ok else []
                if len(own) > len(ok):
                    lines_wanted.append(f"⊘{len(own) - len(ok)}")
                self.assertEqual(texts[f"{backend}:{column}"], lines_wanted)
                shade = correctness_matrix.COLOURS(max(
                    (r["check"]["nerr_max"] for r in ok), default=0.0))
                self.assertEqual(colours[f"{backend}:{column}"], to_hex(shade) if ok else
                                 correctness_matrix.REFUSED_COLOUR)

    def test_a_failure_is_red_and_counted(self) -> None:
        shape = {"B": 1, "H": 1, "H_kv": 0, "M": 7, "N": 9, "D": 64}
        for status, glyph in (("INCORRECT", "✗"), ("TIMEOUT", "T"), ("CRASH", "✶"), ("OOM", "⊠")):
            bad = synthetic.cell("fused_simt", "verify", "edge", shape, status, data="tail")
            colours, texts = self.boxes([*synthetic.matrix(), bad])
            self.assertEqual(colours["fused_simt:input family:tail"], style.FAILURE_COLOUR)
            self.assertEqual(texts["fused_simt:input family:tail"], ["30", f"{glyph}1"])
            self.assertNotEqual(colours["fused_simt:input family:neg"], style.FAILURE_COLOUR)

    def test_an_error_beyond_the_bound_is_red_whatever_the_status_says(self) -> None:
        records = synthetic.matrix()
        records[0]["check"]["nerr_max"] = 1.01
        colours, _ = self.boxes(records)
        self.assertEqual(colours[f"{records[0]['backend']}::all"], style.FAILURE_COLOUR)

    def test_every_row_counts(self) -> None:
        records = synthetic.matrix()
        _, texts = self.boxes(records)
        _, fewer = self.boxes(records[1:])
        place = f"{records[0]['backend']}::all"
        self.assertEqual(int(fewer[place][0]), int(texts[place][0]) - 1)

    def test_bench_rows_are_not_counted(self) -> None:
        with self.assertRaises(rows.NoRows):
            correctness_matrix.figure(self.read(self.records))


class ComparisonFigure(Drawn):
    PAIR = ("mma_sm80", "wgmma_sm90", "readme")
    SHAPE = {"B": 1, "H": 2, "H_kv": 2, "M": 64, "N": 128, "D": 64}

    def drawn(self, *records: Record, **end: Any) -> Figure:
        synthetic.write(self.results, "nvidia-h200",
                        [synthetic.run(), *records, synthetic.session_end(**end)])
        return comparison.figure(rows.latest_comparisons(self.results, "nvidia-h200"))

    def records_of_each_verdict(self) -> list[Record]:
        return [synthetic.comparison(*self.PAIR, self.SHAPE | {"M": size}, ratio, verdict)
                for size, ratio, verdict in ((1, 0.8, "FASTER"), (2, 1.25, "SLOWER"),
                                             (3, 1.0, "SAME"), (4, 1.003, "UNDECIDED"))]

    def test_every_ratio_and_interval_is_the_rows(self) -> None:
        records = self.records_of_each_verdict()
        (ax,) = self.drawn(*records).axes
        points = lines(ax, "ratio:")
        bars = {c.get_gid(): c.get_segments()[0] for c in ax.collections
                if (c.get_gid() or "").startswith("interval:")}
        colours = {line.get_gid(): line.get_color() for line in ax.lines}
        for y, record in enumerate(records):
            key = record["key"]
            self.assertEqual(points[key], [(record["ratio"], y)])
            ends = [float(x) for x, _ in bars[f"interval:{key}"]]
            for end, wanted_end in zip(ends, record["ci99"]):
                self.assertAlmostEqual(end, wanted_end)
            self.assertEqual(colours[f"ratio:{key}"], comparison.COLOURS[record["verdict"]])
        self.assertEqual(points["mean"], [(0.9, 4)])

    def test_the_mean_never_stands_without_the_worst_cell(self) -> None:
        figure = self.drawn(*self.records_of_each_verdict(), worst=1.25)
        (text,) = [t.get_text() for t in figure.texts if t.get_gid() == "caption"]
        for word in ("Geometric mean 0.900", "worst cell 1.250", "SLOWER 25 %", "NVIDIA H200",
                     "1 FASTER, 1 SLOWER, 1 SAME, 1 UNDECIDED", "claim level"):
            self.assertIn(word, text)

    def test_a_cell_that_the_time_did_not_reach_says_so(self) -> None:
        unreached = synthetic.comparison(*self.PAIR, self.SHAPE, None)
        figure = self.drawn(*self.records_of_each_verdict(), unreached)
        (note,) = [t.get_text() for t in figure.axes[0].texts if t.get_gid()]
        self.assertEqual(note, "not measured")

    def test_a_doubtful_session_makes_no_calls(self) -> None:
        figure = self.drawn(*self.records_of_each_verdict(), doubts=["the sentinel drifted"])
        colours = {line.get_color() for line in figure.axes[0].lines
                   if (line.get_gid() or "").startswith("ratio:")}
        self.assertNotIn(comparison.COLOURS["SLOWER"], colours)
        self.assertNotIn(comparison.COLOURS["FASTER"], colours)
        (text,) = [t.get_text() for t in figure.texts if t.get_gid() == "caption"]
        self.assertIn("UNPROVEN: the sentinel drifted", text)

    def test_what_was_not_compared_has_its_mark(self) -> None:
        refused = synthetic.comparison(*self.PAIR, self.SHAPE, None, status="UNSUPPORTED")
        unchecked = synthetic.comparison(*self.PAIR, self.SHAPE | {"M": 9}, 1.0, "UNDECIDED",
                                         status="UNCHECKED")
        (ax,) = self.drawn(refused, unchecked).axes
        notes = {t.get_gid(): t.get_text() for t in ax.texts}
        self.assertEqual(notes[f"status:{refused['key']}"], "⊘ refused")
        (hollow,) = [line for line in ax.lines if line.get_gid() == f"ratio:{unchecked['key']}"]
        self.assertEqual(hollow.get_markerfacecolor(), "white")

    def test_draw_all_draws_it_where_there_is_one(self) -> None:
        self.drawn(*self.records_of_each_verdict())
        cells = synthetic.write(self.results, "nvidia-h200", [synthetic.run(), *synthetic.matrix()],
                                folder="20261121T101501Z_0123456")
        self.assertTrue(cells.exists())
        out = self.results / "figures"
        self.assertEqual(draw_all.main(["--results", str(self.results), "--out", str(out)]), 0)
        self.assertTrue((out / "nvidia-h200" / "comparison.png").exists())


class DepthBandwidth(Drawn):
    def test_a_panel_an_operator_and_a_line_a_shape(self) -> None:
        figure = depth_bandwidth.figure(self.read(self.records + synthetic.depth()))
        panels = {ax.get_title(): ax for ax in figure.axes}
        self.assertEqual(set(panels), {"attnres_phase1", "attnres_merge_bwd"})
        for op, shape in (("attnres_phase1", "N4 S8 B4 T16k D2k, adds"),
                          ("attnres_merge_bwd", "B4 T16k D7k, adds")):
            points = {line.get_gid(): list(line.get_xdata()) for line in panels[op].lines
                      if (line.get_gid() or "").startswith(op)}
            self.assertEqual(points, {f"{op}:libtorch": [12.0], f"{op}:fused_simt": [81.0]})
            self.assertEqual([t.get_text() for t in panels[op].get_yticklabels()], [shape])

    def test_peers_stand_beside_them_and_failures_are_named(self) -> None:
        figure = depth_bandwidth.figure(
            self.read(self.records + synthetic.depth() + synthetic.depth_peers()))
        panels = {ax.get_title(): ax for ax in figure.axes}
        (line,) = [line for line in panels["attnres_phase1"].lines
                   if line.get_gid() == "attnres_phase1:torch_eager"]
        self.assertEqual(list(line.get_xdata()), [9.0])
        self.assertEqual([t.get_text() for t in panels["attnres_phase1"].get_yticklabels()],
                         ["N4 S8 B4 T16k D2k, adds"])
        self.assertEqual([t.get_text() for t in panels["attnres_phase1"].texts],
                         ["✶ flash_attn_res"])

    def test_a_backward_stands_beside_its_forward_and_below_come_networks(self) -> None:
        figure = depth_bandwidth.figure(
            self.read(self.records + synthetic.depth() + synthetic.depth_peers()))
        places = {ax.get_title(): ax.get_position() for ax in figure.axes}
        self.assertEqual(list(places), ["attnres_phase1", "attnres_merge_bwd", "attnres_network",
                                        "attnres_network_bwd"])
        forward, backward = places["attnres_network"], places["attnres_network_bwd"]
        self.assertEqual((forward.y0, forward.y1), (backward.y0, backward.y1))
        self.assertLess(forward.x1, backward.x0)
        self.assertLess(forward.y1, places["attnres_merge_bwd"].y0)
        (network,) = [ax for ax in figure.axes if ax.get_title() == "attnres_network"]
        self.assertEqual([t.get_text() for t in network.get_yticklabels()],
                         ["L32 S8 B4 T16k D2k"])

    def test_rows_of_another_operator_or_without_times_draw_nothing(self) -> None:
        with self.assertRaises(rows.NoRows):
            depth_bandwidth.figure(self.read(self.records))
        failed = [r | {"status": "CRASH", "time": None, "sol": None} for r in synthetic.depth()]
        with self.assertRaises(rows.NoRows):
            depth_bandwidth.figure(self.read(failed))


class ModelsShare(Drawn):
    def test_windows_have_a_panel_and_options_a_label(self) -> None:
        figure = models_share.figure(self.read(self.records + synthetic.models()))
        drawn = {ax.get_title(): ([t.get_text() for t in ax.get_yticklabels()],
                                  list(ax.lines[0].get_xdata())) for ax in figure.axes}
        self.assertEqual(drawn, {
            "all queries": (["B1 H32/8 D128 32k, window 4096"], [63.0]),
            "an observation window": (["B1 H32/8 D128 32k, last 64"], [21.0])})

    def test_without_rows_there_is_no_figure(self) -> None:
        with self.assertRaises(rows.NoRows):
            models_share.figure(self.read(self.records))


class ColsumFigure(Drawn):
    def test_a_range_of_queries_is_no_point_of_the_sweep(self) -> None:
        figure = readme_figure.figure(self.read(self.records + synthetic.colsum()), "colsum")
        points = finite(lines(figure.axes[1], "line:")["mma_sm80"])
        self.assertEqual(points, {4096.0: 2.0})


class DrawAll(Drawn):
    def test_files_are_small_and_repeatable(self) -> None:
        self.read(self.records + synthetic.matrix() + synthetic.depth() + synthetic.models()
                        + synthetic.colsum() + synthetic.peers())
        self.read(synthetic.sweep("small"), "cpu")
        out = self.results / "figures"
        arguments = ["--results", str(self.results), "--out", str(out)]
        self.assertEqual(draw_all.main(arguments), 0)
        drawn = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.png")}
        self.assertEqual(set(drawn), {f"nvidia-h200/{name}.png" for name in draw_all.FIGURES}
                         | {f"cpu/{name}.png" for name in ("readme_figure", "speedup",
                                                           "speed_of_light")})
        for name, content in drawn.items():
            self.assertLess(len(content), 300_000, name)
        self.assertEqual(draw_all.main([*arguments, "--device", "cpu"]), 0)
        self.assertEqual((out / "cpu/speedup.png").read_bytes(), drawn["cpu/speedup.png"])

    def test_nothing_to_draw_is_said_and_broken_rows_are_an_error(self) -> None:
        arguments = ["--results", str(self.results), "--out", str(self.results / "figures")]
        self.assertEqual(draw_all.main(arguments), 0)
        self.assertEqual(draw_all.main([*arguments, "--device", "tpu"]), 0)
        path = synthetic.write(self.results, "cpu", [synthetic.run("cpu")])
        path.write_text("{\n" + path.read_text())
        self.assertEqual(draw_all.main(arguments), 2)


if __name__ == "__main__":
    unittest.main(buffer=True)
