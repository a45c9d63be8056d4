"""What tests of the Python package share: they end as skipped where there is no PyTorch of the
package's version or the library was built without one."""

from __future__ import annotations

import sys
import unittest
from typing import NoReturn


def _skip(reason: str) -> NoReturn:
    print(f"skipped: {reason}")
    sys.exit(77)


try:
    import torch
except ImportError:
    _skip("Python has no PyTorch")
if tuple(int(n) for n in torch.__version__.split(".")[:2]) < (2, 4):
    _skip(f"PyTorch {torch.__version__} is older than 2.4")

import attnbench.library  # noqa: E402

try:
    attnbench.library.path()
except ImportError as missing:
    _skip(str(missing))
if b"attnbench::colreduce" not in attnbench.library.path().read_bytes():
    _skip("the library was built without PyTorch 2.4 or newer")

on_gpu = unittest.skipUnless(torch.cuda.is_available(), "there is no GPU")
