"""What a Python function says of itself as a backend: docs/python_backends.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

ATTRIBUTES = ("id", "summary", "math", "numerics", "deterministic", "device", "capturable",
              "supports")
Function = TypeVar("Function", bound=Callable[..., Any])


def backend(**attributes: Any) -> Callable[[Function], Function]:
    """Sets attributes of the function below it; one that the harness does not know is an error."""
    unknown = sorted(set(attributes) - set(ATTRIBUTES))
    if unknown:
        raise TypeError(f"a backend has no {', '.join(unknown)}, only {', '.join(ATTRIBUTES)}")

    def describe(function: Function) -> Function:
        for name, value in attributes.items():
            setattr(function, name, value)
        return function

    return describe
