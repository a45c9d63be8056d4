"""docs/rules.md: every rule stands in it, and what it names as evidence exists."""

from __future__ import annotations

import json
import re
import unittest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
SCHEMA = json.loads((ROOT / "results" / "row.schema.json").read_text(encoding="utf-8"))
COUNTS = {"T": 11, "compare ": 10, "C": 14, "M": 2, "R": 7, "S": 1, "P": 1, "V": 1}
RULES = {f"{kind}{i}" for kind, count in COUNTS.items() for i in range(1, count + 1)}


def evidence(table: str) -> list[tuple[str, list[str]]]:
    """Rule and the names in the last column, in the order of the table."""
    lines = re.findall(r"^\| (\w+(?: \d+)?) \| .* \| (.*) \|$", table, re.MULTILINE)
    return [(rule, re.findall(r"`([^`]+)`", names)) for rule, names in lines if rule != "rule"]


def cpp_tests() -> set[str]:
    """Suite.Test of every source: a build without CUDA has only some of them in its binary."""
    sources = [*(ROOT / "tests").glob("*.cpp"), *(ROOT / "tests").glob("*.cu")]
    return {f"{suite}.{name}" for path in sources for suite, name in
            re.findall(r"^(?:TYPED_)?TEST(?:_F|_P)?\((\w+), (\w+)\)", path.read_text(), re.MULTILINE)}


def python_tests() -> set[str]:
    return {f"{path.stem}.{name}" for path in (ROOT / "tests").glob("*_test.py")
            for name in re.findall(r"^    def (test_\w+)\(", path.read_text(), re.MULTILINE)}


def in_schema(field: str) -> bool:
    """Whether "cell.time.cold" is a property of such a line; lists are passed through."""
    kind, *path = field.split(".")
    nodes = [SCHEMA["$defs"].get(kind, {})]
    for name in path:
        nodes = [node["properties"][name] for node in resolved(nodes)
                 if name in node.get("properties", {})]
    return bool(nodes) and nodes != [{}]


def resolved(nodes: list[Any]) -> list[Any]:
    """The alternatives behind references, unions and lists."""
    found = []
    for node in nodes:
        if "$ref" in node:
            found += resolved([SCHEMA["$defs"][node["$ref"].rsplit("/", 1)[1]]])
        elif "anyOf" in node:
            found += resolved(node["anyOf"])
        elif "items" in node:
            found += resolved([node["items"]])
        else:
            found.append(node)
    return found


def mistakes(table: str) -> list[str]:
    """One sentence for each rule that is missing or named twice, and each name without its thing."""
    rows = evidence(table)
    named = [rule for rule, _ in rows]
    found = [f"{rule} is missing" for rule in sorted(RULES - set(named))]
    found += [f"{rule} is no rule" for rule in sorted(set(named) - RULES)]
    found += [f"{rule} stands twice" for rule in sorted(set(named)) if named.count(rule) > 1]
    known = cpp_tests() | python_tests()
    for rule, names in rows:
        if not names:
            found.append(f"{rule} has no evidence")
        found += [f"{rule}: there is no {name}" for name in names
                  if name not in known and not in_schema(name)]
    return found


class Rules(unittest.TestCase):
    def test_every_rule_has_evidence_that_exists(self) -> None:
        self.assertEqual(mistakes(TABLE), [])

    def test_the_check_bites(self) -> None:
        for old, new, sentence in (
                ("| T1 | ", "| T12 | ", "T1 is missing"),
                ("| T1 | ", "| T12 | ", "T12 is no rule"),
                ("| T2 | ", "| T3 | ", "T3 stands twice"),
                ("`compare.precise`", "`compare.precision`",
                 "compare 3: there is no compare.precision"),
                ("`cell.kernels.regs`", "`cell.kernels.rags`", "M2: there is no cell.kernels.rags"),
                ("`cell.time.cold`", "`cell.time.warm`", "T2: there is no cell.time.warm"),
                ("`Nvml.AbsentIsUnknown`", "`Nvml.AbsentIsKnown`",
                 "T6: there is no Nvml.AbsentIsKnown"),
                ("`cli_test.test_running_again_resumes`", "`cli_test.test_running`",
                 "R3: there is no cli_test.test_running"),
                ("`include_rules_test.test_nothing_sets_the_gpus_state`", "",
                 "T7 has no evidence")):
            with self.subTest(sentence):
                self.assertIn(old, TABLE)
                self.assertIn(sentence, mistakes(TABLE.replace(old, new, 1)))


if __name__ == "__main__":
    unittest.main()
