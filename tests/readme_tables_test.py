"""plots/readme_tables.py: numbers are the rows', markers are kept, --check notices."""

from __future__ import annotations

import contextlib
import io
import math
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "plots"), str(ROOT / "tests")]

try:
    import readme_tables
except ImportError as missing:
    MISSING = f"SKIPPED: {missing}, so no table was tested."
    if __name__ == "__main__":
        print(MISSING)
        sys.exit(77)
    raise unittest.SkipTest(MISSING) from None

import rows  # noqa: E402
import synthetic_rows as synthetic  # noqa: E402


def section(name: str, body: str = "") -> str:
    return f"<!-- table:{name} begin -->\n{body}<!-- table:{name} end -->\n"


def parse(table: str) -> list[dict[str, str]]:
    """The lines of a Markdown table as column -> text."""
    lines = [[field.strip() for field in line.strip("|").split("|")]
             for line in table.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], line)) for line in lines[2:]]


class Tables(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.readme = self.folder / "README.md"
        self.records = synthetic.sweep("readme")

    def read(self) -> rows.Rows:
        synthetic.write(self.folder, "nvidia-h200", [synthetic.run(), *self.records])
        return rows.latest(self.folder, "nvidia-h200")

    def main(self, *arguments: str) -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = readme_tables.main(["--results", str(self.folder), "--readme",
                                       str(self.readme), *arguments])
        return code, said.getvalue()

    def one(self, backend: str, mask: str, **shape: int) -> dict[str, Any]:
        (record,) = [r for r in self.records if r["backend"] == backend
                     and r["options"]["mask"] == mask and shape.items() <= r["shape"].items()]
        return record

    def test_latency(self) -> None:
        self.one("mma_sm80", "none", B=4, M=1024)["time"]["cold"] |= {
            "median": 93400.0, "p25": 91000.0, "p75": 95500.0}
        table = parse(readme_tables.latency(self.read()))
        self.assertEqual(len(table), 19)
        by_cell = {line["cell"]: line for line in table}
        line = by_cell["none B4 M1k N1k"]
        self.assertEqual(line["mma_sm80"], "**0.0934** ± 2.4 %")
        self.assertEqual(sum("**" in field for field in line.values()), 1)
        self.assertEqual(by_cell["none B256 M1k N1k"]["cublas_naive"], "out of memory")
        self.assertEqual(by_cell["none B256 M1k N1k"]["split_k"], "refused")

    def test_latency_of_a_missing_row(self) -> None:
        self.records.remove(self.one("mma_sm80", "none", B=4, M=1024))
        by_cell = {line["cell"]: line for line in parse(readme_tables.latency(self.read()))}
        self.assertEqual(by_cell["none B4 M1k N1k"]["mma_sm80"], "not measured")

    def test_summary_never_shows_a_mean_alone(self) -> None:
        slow = self.one("mma_sm80", "causal", B=1, M=64)
        base = self.one("cublas_naive", "causal", B=1, M=64)["time"]["cold"]["median"]
        slow["time"]["cold"] = synthetic.spread(base * 2)
        ratios = []
        for record in self.records:
            if record["backend"] == "mma_sm80" and record["status"] == "OK":
                other = self.one("cublas_naive", record["options"]["mask"], **record["shape"])
                if other["status"] == "OK":
                    ratios.append(other["time"]["cold"]["median"]
                                  / record["time"]["cold"]["median"])
        table = {line["backend"]: line for line in parse(readme_tables.summary(self.read()))}
        self.assertNotIn("cublas_naive", table)
        line = table["mma_sm80"]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        self.assertEqual(line["geometric mean over cublas_naive"], f"{mean:.2f}×")
        self.assertEqual(line["worst cell"], "0.500× (causal B1 M64 N16k)")
        self.assertEqual(line["slower"], f"1 of {len(ratios)}")
        self.assertEqual(line["compared"], f"{len(ratios)} of 19")

    def test_matrix(self) -> None:
        shape = {"B": 1, "H": 1, "H_kv": 0, "M": 7, "N": 9, "D": 64}
        self.records = [*synthetic.matrix(), synthetic.cell(
            "split_k", "verify", "edge", shape, "INCORRECT", nerr=2.25)]
        table = {line["backend"]: line for line in parse(readme_tables.matrix(self.read()))}
        refused = sum(r["backend"] == "split_k" and r["status"] == "UNSUPPORTED"
                      for r in self.records)
        total = sum(r["backend"] == "split_k" for r in self.records)
        self.assertEqual(table["split_k"], {
            "backend": "split_k", "error bound": "fp32_P", "OK": str(total - refused - 1),
            "UNSUPPORTED": str(refused), "other": "1 INCORRECT",
            "largest error / tolerance": "2.250"})
        self.assertEqual(table["libtorch"]["other"], "0")

    def test_depth(self) -> None:
        self.records = synthetic.depth() + synthetic.depth_peers()
        lines = {(line["operator"], line["problem"]): line
                 for line in parse(readme_tables.depth(self.read()))}
        self.assertEqual(set(lines), {("attnres_phase1", "N4 S8 B4 T16k D2k, adds"),
                                      ("attnres_merge_bwd", "B4 T16k D7k, adds"),
                                      ("attnres_network", "L32 S8 B4 T16k D2k"),
                                      ("attnres_network_bwd", "L32 S8 B4 T16k D2k")})
        line = lines["attnres_phase1", "N4 S8 B4 T16k D2k, adds"]
        self.assertEqual(line["torch_eager"], "4.00 (9 %)")
        self.assertEqual(line["fused_simt"], "**1.00** (81 %)")
        self.assertEqual(lines["attnres_network", "L32 S8 B4 T16k D2k"]["torch_eager"], "–")
        self.records = synthetic.sweep("readme")
        with self.assertRaises(rows.NoRows):
            readme_tables.depth(self.read())

    def test_environment_is_no_peers(self) -> None:
        ours = synthetic.run()
        peers = synthetic.run(utc="2026-11-22T10:15:00Z")
        peers["ceilings"] = dict.fromkeys(peers["ceilings"]) | {"copy_Bps": 4.2e12}
        peers["build"]["cxx"] = "Python 3.12.3"
        synthetic.write(self.folder, "nvidia-h200", [ours, *self.records, peers,
                                                     *synthetic.depth_peers()])
        facts = readme_tables.environment(rows.latest(self.folder, "nvidia-h200"))
        self.assertIn("GNU", facts)
        self.assertNotIn("Python", facts)

    def test_environment_is_that_of_readmes_suite(self) -> None:
        models = synthetic.run(utc="2026-11-22T10:15:00Z")
        models["build"]["cxx"] = "another compiler"
        synthetic.write(self.folder, "nvidia-h200", [synthetic.run(), *self.records, models,
                                                     *synthetic.models()])
        facts = readme_tables.environment(rows.latest(self.folder, "nvidia-h200"))
        self.assertIn("GNU", facts)
        self.assertNotIn("another compiler", facts)

    def test_environment(self) -> None:
        text = readme_tables.environment(self.read())
        for part in ("NVIDIA H200", "580.159", "13.0", "0123456", "2026-11-21", "4.20 TB/s"):
            self.assertIn(part, text)
        self.assertNotIn("LibTorch", text)

    def test_sections_are_filled_and_the_rest_is_kept(self) -> None:
        self.read()
        self.readme.write_text("# Title\n" + section("readme-latency") + "between\n"
                               + section("readme-summary", "old numbers\n") + "end")
        self.assertEqual(self.main("--check")[0], 1)
        self.assertIn("old numbers", self.readme.read_text())
        self.assertEqual(self.main()[0], 0)
        text = self.readme.read_text()
        self.assertNotIn("old numbers", text)
        self.assertTrue(text.startswith("# Title\n<!-- table:readme-latency begin -->\n| cell |"))
        self.assertTrue(text.endswith("<!-- table:readme-summary end -->\nend"))
        self.assertIn("<!-- table:readme-latency end -->\nbetween\n", text)
        self.assertEqual(self.main("--check"), (0, ""))
        self.one("mma_sm80", "none", B=4, M=1024)["time"]["cold"] = synthetic.spread(3e5)
        self.read()
        self.assertEqual(self.main("--check")[0], 1)

    def test_every_document_is_filled_and_checked(self) -> None:
        self.read()
        other = self.folder / "ladder.md"
        self.readme.write_text(section("readme-summary"))
        self.assertEqual(self.main()[0], 0)
        other.write_text(section("readme-latency"))
        code, said = self.main(str(other), "--check")
        self.assertEqual(code, 1)
        self.assertIn("ladder.md is not up to date", said)
        self.assertNotIn("README.md is not", said)
        self.assertEqual(self.main(str(other))[0], 0)
        self.assertEqual(self.main(str(other), "--check"), (0, ""))

    def test_sections_without_rows_are_left(self) -> None:
        body = section("matrix", "kept\n")
        self.readme.write_text(body)
        self.assertEqual(self.main()[0], 0)
        self.assertEqual(self.readme.read_text(), body)
        self.read()
        code, said = self.main()
        self.assertEqual((code, self.readme.read_text()), (0, body))
        self.assertIn("left table:matrix as it is: no verify rows", said)

    def test_mistakes_in_the_markers(self) -> None:
        self.read()
        for text, word in ((section("latencies"), "latencies"),
                           ("<!-- table:matrix begin -->\n", "partner"),
                           ("<!-- table:matrix begin -->\n<!-- table:environment end -->\n",
                            "partner")):
            self.readme.write_text(text)
            code, said = self.main()
            self.assertEqual((code, said.count("\n")), (2, 1), said)
            self.assertIn(word, said)
            self.assertEqual(self.readme.read_text(), text)
        self.readme.unlink()
        self.assertEqual(self.main()[0], 2)


if __name__ == "__main__":
    unittest.main()
