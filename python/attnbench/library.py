"""Where libattnbench.so is, and how it is loaded."""

from __future__ import annotations

import os
from pathlib import Path

NAME = "libattnbench.so"
VARIABLE = "ATTNBENCH_LIBRARY"


def path() -> Path:
    """The library that belongs to this package.

    The first that exists of: what the environment variable ATTNBENCH_LIBRARY names; the one that
    was installed with the package; build/libattnbench.so of the source tree that holds the package.
    Raises ImportError, in one sentence, where there is none.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise ImportError(f"{VARIABLE} names {named}, which is no file")
        return Path(named)
    package = Path(__file__).resolve().parent
    for candidate in (package / NAME, package.parents[1] / "build" / NAME):
        if candidate.is_file():
            return candidate
    raise ImportError(f"{NAME} was not found: install the package, build the source tree, or let "
                      f"{VARIABLE} name it")


def load_operators() -> None:
    """Registers the operators with PyTorch.

    Raises ImportError, in one sentence, where the library does not fit to this PyTorch.
    """
    import torch

    library = path()
    try:
        torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except OSError as error:
        raise ImportError(f"{library} does not load with PyTorch {torch.__version__}, perhaps as "
                          f"it was built with another one: {error}") from error
    if not hasattr(torch.ops.attnbench, "colreduce"):
        raise ImportError(f"{library} was built without PyTorch 2.4 or newer and has no operators")
