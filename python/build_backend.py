"""scikit-build-core, which is given a PyTorch to build with only where there is none yet.

The library must be built with the PyTorch that will load it. An isolated build does not see the one
that is installed; tools/find_torch.py finds it all the same. Where there is none, pip brings one for
the build and, by the same rules, installs the same one with the package.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from scikit_build_core import build as base
from scikit_build_core.build import (  # noqa: F401
    build_editable, build_sdist, build_wheel, get_requires_for_build_sdist)

# -I leaves out what pip's isolation puts in front.
PROBE = [sys.executable, "-I", "-c",
         "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"]


def _torch() -> list[str]:
    return ["torch>=2.4"] if subprocess.run(PROBE, check=False).returncode else []


def get_requires_for_build_wheel(config_settings: Mapping[str, Any] | None = None) -> list[str]:
    return [*base.get_requires_for_build_wheel(config_settings), *_torch()]


def get_requires_for_build_editable(config_settings: Mapping[str, Any] | None = None) -> list[str]:
    return [*base.get_requires_for_build_editable(config_settings), *_torch()]
