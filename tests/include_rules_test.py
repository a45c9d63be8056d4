"""House rules that grep can decide, over every source of the project.

Who may include whom, no absolute tolerances, no calls that set a GPU's state, backend lists that
name each backend file once. Each check is also run on a planted violation and must find it.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("examples", "harness", "impls", "python", "reference", "tests", "plots", "tools")
SOURCES = (".h", ".cuh", ".c", ".cpp", ".cu")
SCRIPTS = (".py", ".sh", ".txt", ".in")
GENERATED = ("attn_build_info.h", "attn_report_page.h")  # CMake writes them into the build folder
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
STANDARD = re.compile(r"[a-z_0-9]+")  # <vector>: no suffix and no folder
CUDA = re.compile(r"cuda[\w/]*(\.h|\.hpp)?|cu[a-z_]+\.h|cooperative_groups(/\w+)*\.h|mma\.h|nv/\w+")

# T7: what would set clocks, power, persistence, compute mode or MIG.
SETS_GPU = re.compile(
    r"nvml\w*Device(Set|Reset|Create|Clear)\w+|nvmlGpuInstance(Create|Destroy)\w*"
    r"|nvidia-persistenced|nvidia-smi\b[^\n]*\s"
    r"(-lgc|-lmc|-rgc|-rmc|-pl|-pm|-ac|-rac|-mig|-e|-c|-r|-cgi|-dgi|--gpu-reset|--lock-\w+|--reset-\w+|--power-limit|--persistence-mode|--applications-clocks"
    r"|--compute-mode|--multi-instance-gpu|--ecc-config)\b"
)

# C3: 1e-6 and larger, as a tolerance. A unit's factor (ns * 1e-3) is not compared with anything.
SMALL = r"(?:\d*\.?\d+e-0*[1-6]|0?\.0+[1-9]\d*)f?\b"
TOLERANCE = re.compile(
    rf"\b\w*(?i:tol|eps|near|close|err|diff)\w*\b[^;]*[^\w.]{SMALL}|[<>]=?\s*{SMALL}", re.ASCII
)

Violations = list[str]


def sources(root: Path) -> list[Path]:
    """Paths below root: what git tracks or would track, else everything in the known folders."""
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "-co", "--exclude-standard"],
        capture_output=True, text=True, check=False,
    )
    if listed.returncode == 0 and (root / ".git").exists():
        paths = [Path(line) for line in listed.stdout.splitlines()]
    else:
        paths = [p.relative_to(root) for f in FOLDERS for p in (root / f).rglob("*")]
    return sorted(p for p in paths if (root / p).is_file())


def code(root: Path, suffixes: tuple[str, ...] = SOURCES) -> list[Path]:
    return [p for p in sources(root) if p.suffix in suffixes]


def lines(root: Path, path: Path) -> list[str]:
    return (root / path).read_text(encoding="utf-8", errors="replace").splitlines()


def without_comment(line: str) -> str:
    return line.split("//", 1)[0]


def is_below(path: str, *folders: str) -> bool:
    return any(path.startswith(folder + "/") for folder in folders)


def is_contract(header: str) -> bool:
    """gradients.h is what the contracts of a family's backwards share."""
    return re.fullmatch(r"reference/\w+/(contract|gradients)\.h", header) is not None


def family_of(operator: str) -> str:
    """Operators whose names begin alike share a folder, attnres_merge and attnres_phase1 attnres, and
    their backends may call each other's operators by their contracts."""
    return operator.split("_")[0]


def project_header_allowed(path: Path, header: str) -> bool:
    """The table "who may include whom" for one quoted include."""
    top, parts = path.parts[0], path.parts
    if top == "tests":
        return True
    if is_below(str(path), "harness/core"):
        return is_below(header, "harness/core")
    if top == "harness":
        return (is_below(header, "harness") or header in GENERATED
                or (path.name == "operators.cpp" and is_contract(header)))
    if top == "examples":  # what a user's program sees: the harness and what is computed
        return is_below(header, "examples", "harness") or is_contract(header)
    if top == "python":  # operators: what is computed and who computes it, not what measures it
        return (is_below(header, "python", "harness/core") or is_contract(header)
                or re.fullmatch(r"impls/\w+/(auto_choice|choose_backend|block_runner)\.h", header)
                is not None)
    if top == "reference":
        own = f"reference/{parts[1]}" if len(parts) > 2 else "reference"
        family = f"reference/{family_of(parts[1])}"
        shared = re.fullmatch(r"reference/\w+\.c?u?h", header) is not None
        return is_below(header, "harness/core", own, family) or shared
    if is_below(str(path), "impls/arch"):
        return is_below(header, "impls/arch")
    if is_below(str(path), "impls/common"):
        return is_below(header, "impls/common", "impls/arch", "harness/core")
    if (top == "impls" and len(parts) > 2) or is_below(str(path), "tools/templates"):
        operator = parts[1] if top == "impls" else "colreduce"  # where new_backend puts it
        family = family_of(operator)
        return (is_below(header, f"impls/{operator}", f"impls/{family}", "impls/common",
                         "impls/arch", "harness/core")
                or (is_contract(header) and family_of(header.split("/")[1]) == family)
                or header == "reference/attention_mask.h")
    return False


def system_header_allowed(path: Path, header: str) -> bool:
    """Libraries: the interface and the definitions take the standard library alone."""
    if is_below(header, "examples", "harness", "impls", "python", "reference", "tests"):
        return False  # a project header in angle brackets would pass the table by
    standard = STANDARD.fullmatch(header) is not None
    cuda = CUDA.fullmatch(header) is not None
    if is_below(str(path), "harness/core"):
        return standard or (cuda and path.name == "cuda_check.h")
    if path.parts[0] == "reference":
        on_gpu = path.suffix in (".cu", ".cuh") or path.stem.endswith("_cuda")
        return standard or (cuda and on_gpu)
    if is_below(str(path), "impls/arch"):
        return standard or cuda
    return True


def include_violations(root: Path) -> Violations:
    found = []
    for path in code(root):
        for number, line in enumerate(lines(root, path), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            quoted, header = match.group(1) == '"', match.group(2)
            if quoted and header not in GENERATED and not (root / header).is_file():
                found.append(f"{path}:{number}: {header} is no path from the project's root")
            elif quoted and not project_header_allowed(path, header):
                found.append(f"{path}:{number}: may not include {header}")
            elif not quoted and not system_header_allowed(path, header):
                found.append(f"{path}:{number}: may not include <{header}>")
    return found


def grep(root: Path, paths: list[Path], pattern: re.Pattern[str], why: str) -> Violations:
    return [
        f"{path}:{number}: {why}: {line.strip()}"
        for path in paths
        for number, line in enumerate(lines(root, path), 1)
        if pattern.search(without_comment(line) if path.suffix in SOURCES else line)
    ]


def gpu_state_violations(root: Path) -> Violations:
    paths = [p for p in sources(root)
             if (p.suffix in SOURCES + SCRIPTS or p.name in ("Makefile", "run"))
             and p.name != Path(__file__).name]
    return grep(root, paths, SETS_GPU, "sets the GPU's state")


def tolerance_violations(root: Path) -> Violations:
    paths = [p for p in code(root) if p.parts[0] in ("harness", "reference", "tests")]
    return grep(root, paths, TOLERANCE, "absolute tolerance")


def kinds_of(path: Path) -> tuple[str, ...]:
    """The macros ATTN_BACKEND_<kind> that list a backend's file: its suffix decides who compiles
    it, and in which builds its object is missing."""
    if path.suffix == ".cpp":
        return ("HOST", "CHOICE", "TORCH")
    return ("SM90",) if path.stem.endswith("_sm90") else ("CUDA",)


def backend_list_violations(root: Path) -> Violations:
    """Every file with a registration stands once in its folder's list, under its own name."""
    found = []
    for folder in sorted(p for p in (root / "impls").glob("*") if p.is_dir()):
        ids: dict[str, Path] = {}
        for path in sorted(folder.glob("*.c*")):
            named = re.findall(r'\.id\s*=\s*"([^"]*)"', path.read_text(encoding="utf-8"))
            if named and named != [path.stem]:
                found.append(f"{path.relative_to(root)}: its id is {', '.join(named)}")
            if named:
                ids[path.stem] = path
        list_file = folder / "backends.cpp"
        if not list_file.is_file():
            found += [f"{folder.relative_to(root)} has backends but no backends.cpp"] if ids else []
            continue
        listed = [entry for line in lines(root, list_file.relative_to(root))
                  if not re.match(r"\s*#\s*(define|undef)\s+ATTN_BACKEND_", line)
                  for entry in re.findall(r"\bATTN_BACKEND_([A-Z0-9]+)\((\w+)\)", line)]
        where = list_file.relative_to(root)
        names = [name for _, name in listed]
        found += [f"{where}: {name} stands there {names.count(name)} times"
                  for name in sorted(set(names)) if names.count(name) > 1]
        found += [f"{where}: {name} is missing" for name in ids if name not in names]
        for kind, name in listed:
            if name not in ids:
                found.append(f"{where}: {name} has no file with that id")
            elif kind not in kinds_of(ids[name]):
                found.append(f"{where}: {ids[name].name} is listed as {kind}")
    return found


def head_violations(root: Path) -> Violations:
    found = []
    for path in code(root):
        text = lines(root, path)
        if not text or not text[0].startswith("//"):
            found.append(f"{path}:1: does not begin by saying what it is")
        if path.suffix in (".h", ".cuh") and "#pragma once" not in text:
            found.append(f"{path}: lacks #pragma once")
    return found


class RulesHold(unittest.TestCase):
    """The project itself."""

    def check(self, rule: Callable[[Path], Violations]) -> None:
        self.assertGreater(len(code(ROOT)), 10, "the sources were not found")
        violations = rule(ROOT)
        self.assertEqual(violations, [], "\n" + "\n".join(violations))

    def test_includes(self) -> None:
        self.check(include_violations)

    def test_nothing_sets_the_gpus_state(self) -> None:
        self.check(gpu_state_violations)

    def test_no_absolute_tolerances(self) -> None:
        self.check(tolerance_violations)

    def test_backend_lists(self) -> None:
        self.check(backend_list_violations)

    def test_heads(self) -> None:
        self.check(head_violations)


class RulesBite(unittest.TestCase):
    """Planted violations, one at a time, in a small project that is otherwise clean."""

    CLEAN = {
        "harness/core/backend.h": "// Interface.\n#pragma once\n#include <vector>\n",
        "harness/core/cuda_check.h": "// Errors.\n#pragma once\n#include <cuda_runtime_api.h>\n",
        "harness/operators.cpp": '// Operators.\n#include "reference/op/contract.h"\n',
        "harness/runner.cpp": f'// Runs.\n#include "{GENERATED[0]}"\n#include <fmt/format.h>\n'
                              "double us = ns * 1e-3;\n",
        "reference/attention_mask.h": "// Masks.\n#pragma once\n",
        "reference/op/contract.h": '// Contract.\n#pragma once\n'
                                   '#include "harness/core/backend.h"\n',
        "reference/op/gradients.h": "// Shared contract.\n#pragma once\n",
        "reference/op/oracle.h": "// Oracle.\n#pragma once\n",
        "reference/op/oracle_cuda.cu": "// Oracle.\n#include <cuda_runtime_api.h>\n",
        "reference/other/contract.h": "// Contract.\n#pragma once\n",
        "reference/op_bwd/contract.h": '// Contract.\n#pragma once\n'
                                       '#include "reference/op/contract.h"\n',
        "impls/op/rows.cuh": "// Rows.\n#pragma once\n",
        "impls/op_bwd/rows.cuh": '// Rows.\n#pragma once\n#include "impls/op/rows.cuh"\n'
                                 '#include "reference/op/contract.h"\n',
        "impls/op_bwd/row.h": '// A row.\n#pragma once\n#include "reference/op/gradients.h"\n',
        "impls/op/calls.h": '// Calls.\n#pragma once\n#include "reference/op_bwd/contract.h"\n',
        "impls/arch/mma.cuh": "// One instruction.\n#pragma once\n#include <cuda_fp16.h>\n",
        "impls/arch/sm90/tma.cuh": "// One instruction.\n#pragma once\n#include <cuda.h>\n",
        "impls/common/warp.cuh": '// Sums.\n#pragma once\n#include "impls/arch/mma.cuh"\n',
        "impls/op/backends.cpp": "// List.\n#define ATTN_BACKEND_HOST(name) {#name},\n"
                                 "ATTN_BACKEND_CUDA(simt)  \\\n  ATTN_BACKEND_HOST(plain)\n"
                                 "ATTN_BACKEND_SM90(tma_sm90)\n",
        "impls/op/simt.cu": '// Kernel.\n#include "impls/common/warp.cuh"\n'
                            '#include "reference/op/contract.h"\nX simt = {.id = "simt"};\n',
        "impls/op/tma_sm90.cu": '// Kernel.\n#include "impls/arch/sm90/tma.cuh"\n'
                                'X tma_sm90 = {.id = "tma_sm90"};\n',
        "impls/op/tma_rows_sm90.cu": "// Part of a backend.\n",
        "impls/op/plain.cpp": '// Plain.\n#include "reference/attention_mask.h"\n'
                              'X plain = {.id = "plain"};\n',
        "examples/use.cpp": '// Uses it.\n#include "reference/op/contract.h"\n'
                            '#include "harness/core/backend.h"\n',
        "tests/a_test.cpp": '// Tests.\n#include "reference/op/oracle.h"\n'
                            "EXPECT_NEAR(a, b, 1e-13);  // not 1e-3\n",
        "tools/ask.sh": "nvidia-smi --query-gpu=name --format=csv\n",
    }

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for name, text in self.CLEAN.items():
            self.plant(name, text)

    def plant(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def bites(self, rule: Callable[[Path], Violations], name: str, text: str) -> None:
        """The rule accepts the clean project and names the planted file and no other."""
        self.assertEqual(rule(self.root), [])
        before = (self.root / name).read_text(encoding="utf-8") if name in self.CLEAN else None
        self.plant(name, text)
        violations = rule(self.root)
        self.assertEqual(len(violations), 1, f"{name}: {text!r}: {violations}")
        self.assertIn(str(Path(name).name), violations[0])
        if before is None:
            (self.root / name).unlink()
        else:
            self.plant(name, before)

    def test_includes(self) -> None:
        for name, header in (
            ("harness/core/x.h", '"reference/op/contract.h"'),
            ("harness/core/x.h", '"harness/operators.cpp"'),
            ("harness/core/x.h", "<cuda_runtime_api.h>"),
            ("harness/core/x.h", "<fmt/format.h>"),
            ("harness/x.cpp", '"reference/op/contract.h"'),
            ("harness/operators.cpp", '"reference/op/oracle.h"'),
            ("harness/x.cpp", '"impls/common/warp.cuh"'),
            ("harness/x.cpp", "<impls/common/warp.cuh>"),
            ("reference/op/x.h", '"impls/common/warp.cuh"'),
            ("reference/op/x.h", '"reference/other/contract.h"'),
            ("reference/op/x.cpp", "<cuda_runtime_api.h>"),
            ("impls/arch/x.cuh", '"harness/core/backend.h"'),
            ("impls/arch/x.cuh", "<torch/torch.h>"),
            ("impls/common/x.cuh", '"reference/attention_mask.h"'),
            ("impls/op/x.cu", '"reference/op/oracle.h"'),
            ("impls/op/x.cu", '"reference/other/contract.h"'),
            ("impls/op/x.cu", '"harness/runner.cpp"'),
            ("tools/templates/x.cu", '"harness/runner.cpp"'),
            ("impls/other/x.cu", '"impls/op/simt.cu"'),
            ("impls/op/x.cuh", '"impls/op_bwd/rows.cuh"'),
            ("impls/op_fwd/x.cuh", '"impls/op_bwd/rows.cuh"'),
            ("impls/op_bwd/x.cuh", '"reference/op/oracle.h"'),
            ("impls/op_bwd/x.cuh", '"reference/other/contract.h"'),
            ("reference/op/x.h", '"reference/op_bwd/contract.h"'),
            ("impls/op/x.cu", '"../../reference/op/contract.h"'),
            ("examples/x.cpp", '"impls/common/warp.cuh"'),
            ("examples/x.cpp", '"reference/op/oracle.h"'),
            ("python/csrc/x.cpp", '"reference/op/oracle.h"'),
            ("python/csrc/x.cpp", '"harness/runner.cpp"'),
            ("python/csrc/x.cpp", '"impls/op/simt.cu"'),
            ("tests/x.cpp", '"contract.h"'),
        ):
            with self.subTest(f"{name} {header}"):
                self.bites(include_violations, name, f"// X.\n#pragma once\n#include {header}\n")

    def test_gpu_state(self) -> None:
        for name, text in (
            ("harness/x.cpp", "nvmlDeviceSetGpuLockedClocks(device, 1980, 1980);\n"),
            ("harness/x.cpp", 'load("nvmlDeviceSetPowerManagementLimit");\n'),
            ("tools/x.sh", "nvidia-smi -i 0 -lgc 1980\n"),
            ("tools/x.sh", "sudo nvidia-smi -pm 1\n"),
            ("tools/x.py", "run('nvidia-smi --power-limit 500')\n"),
            ("tools/y.sh", "nvidia-smi -mig 1\n"),
        ):
            with self.subTest(text):
                self.bites(gpu_state_violations, name, text)

    def test_tolerances(self) -> None:
        for name, text in (
            ("harness/x.cpp", "constexpr double kTolerance = 1e-3;\n"),
            ("harness/x.cpp", "if (!(err <= 1e-2)) fail();\n"),
            ("harness/x.cpp", "return worst < 0.001f;\n"),
            ("reference/op/x.cpp", "const double atol = 2.5e-04;\n"),
            ("tests/x.cpp", "EXPECT_NEAR(got, want, 1e-5);\n"),
        ):
            with self.subTest(text):
                self.bites(tolerance_violations, name, text)

    def test_backend_lists(self) -> None:
        other = self.CLEAN["impls/op/backends.cpp"]
        for name, text in (
            ("impls/op/simt.cu", '// Kernel.\nX simt = {.id = "smit"};\n'),
            ("impls/op/backends.cpp", other + "ATTN_BACKEND_CUDA(simt)\n"),
            ("impls/op/backends.cpp", other + "ATTN_BACKEND_CUDA(split)\n"),
            ("impls/op/backends.cpp", other.replace("HOST(plain)", "CUDA(plain)")),
            ("impls/op/backends.cpp", other.replace("SM90(tma_sm90)", "CUDA(tma_sm90)")),
            ("impls/op/backends.cpp", other.replace("CUDA(simt)", "SM90(simt)")),
        ):
            with self.subTest(text):
                self.assertEqual(backend_list_violations(self.root), [])
                self.plant(name, text)
                self.assertTrue(backend_list_violations(self.root))
                self.plant(name, self.CLEAN[name])
        self.plant("impls/op/split.cu", '// Kernel.\nX split = {.id = "split"};\n')
        self.assertEqual(backend_list_violations(self.root),
                         ["impls/op/backends.cpp: split is missing"])

    def test_heads(self) -> None:
        self.bites(head_violations, "harness/x.cpp", "int x;\n")
        self.bites(head_violations, "harness/x.h", "// X.\nint x;\n")


if __name__ == "__main__":
    unittest.main()
