"""Finds LibTorch for CMake without importing torch: prints KEY=VALUE lines, lists parted by `|`.

Looks at the importable wheel of this Python and of python3 on the PATH, then at the system's
libtorch-dev. Exit code 1 with one sentence on stdout when there is none with headers.

With --installed-first it begins with the wheel that this Python imports without PYTHONPATH, which
pip sets to isolate a build: that is the one that the built package will be used with.
"""

import glob
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

HEADER = "torch/csrc/api/include/torch/torch.h"
# The file that a `find_spec` of another Python prints; torch itself is not imported: that takes
# seconds and needs every library that torch was built against.
PROBE = (
    "import importlib.util as u; s = u.find_spec('torch'); "
    "print(s.origin if s and s.origin else '')"
)


def first_match(pattern: str, text: str, default: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else default


def read(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def roots_of(python: list[str]) -> list[Path]:
    """The folder named torch that another Python would import, if any."""
    try:
        answer = subprocess.run(
            [*python, "-c", PROBE], capture_output=True, text=True, timeout=60, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return []
    return [Path(answer).parent] if answer else []


def wheel_roots(installed_first: bool) -> list[Path]:
    """Folders named torch that this Python or python3 would import, in this order."""
    roots = roots_of([sys.executable, "-I"]) if installed_first else []
    spec = importlib.util.find_spec("torch")
    if spec and spec.origin:
        roots.append(Path(spec.origin).parent)
    return roots + roots_of(["python3"])


def describe_wheel(root: Path) -> dict[str, object] | None:
    """LibTorch inside a Python package: headers in include/, libraries in lib/. Not one of the old ABI
    of libstdc++, as most wheels before 2.7: no other library that is linked has it."""
    include, lib = root / "include", root / "lib"
    if not (include / HEADER).is_file() or not (lib / "libtorch_cpu.so").is_file():
        return None
    config = read(root / "share/cmake/Torch/TorchConfig.cmake")
    if first_match(r"_GLIBCXX_USE_CXX11_ABI=([01])", config, "1") == "0":
        return None
    return {
        "version": first_match(r"__version__ = '([^']+)'", read(root / "version.py"), "unknown"),
        "root": root,
        "include": [include, include / "torch/csrc/api/include"],
        "libs": libraries(lib),
    }


def describe_system() -> dict[str, object] | None:
    """Debian's and Ubuntu's libtorch-dev: /usr/include and the multiarch library folder."""
    for header in (Path("/usr/include"), Path("/usr/local/include")):
        if not (header / HEADER).is_file():
            continue
        version_h = read(header / "torch/csrc/api/include/torch/version.h")
        numbers = [
            first_match(rf"#define TORCH_VERSION_{part} (\d+)", version_h, "0")
            for part in ("MAJOR", "MINOR", "PATCH")
        ]
        prefix = header.parent
        for found in sorted(glob.glob(f"{prefix}/lib/*/libtorch_cpu.so")) + sorted(
            glob.glob(f"{prefix}/lib/libtorch_cpu.so")
        ):
            return {
                "version": ".".join(numbers),
                "root": prefix,
                "include": [header / "torch/csrc/api/include"],
                "libs": libraries(Path(found).parent),
            }
    return None


def libraries(folder: Path) -> list[Path]:
    """The libraries to link, dependants first; those for CUDA only where they were shipped."""
    names = ("libtorch.so", "libtorch_cuda.so", "libtorch_cpu.so", "libc10_cuda.so", "libc10.so")
    return [folder / name for name in names if (folder / name).is_file()]


def find(installed_first: bool) -> dict[str, object] | None:
    for root in wheel_roots(installed_first):
        described = describe_wheel(root)
        if described:
            return described
    return describe_system()


def main() -> int:
    found = find("--installed-first" in sys.argv[1:])
    if found is None:
        print("no LibTorch with headers and the present ABI of libstdc++ was found")
        return 1
    found["cuda"] = int(any(lib.name == "libtorch_cuda.so" for lib in found["libs"]))
    for key, value in found.items():
        print(f"{key}={'|'.join(map(os.fspath, value)) if isinstance(value, list) else value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
