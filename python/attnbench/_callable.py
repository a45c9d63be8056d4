"""Python functions as they are called by the harness: what a problem makes of their arguments.

docs/python_backends.md describes the protocol; nothing here knows of C or of memory.
"""

from __future__ import annotations

import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attnbench import _abi

Function = Callable[..., Any]
Values = dict[str, Any]

# Fields that are in the tensors, or seen to when the result is stored: no function need know them.
IN_TENSORS = frozenset({"B", "H", "H_kv", "M", "N", "D", "dtype", "layout", "q_strides",
                        "k_strides", "out_dtype"})
ALWAYS = ("scale", "mask", "reduction")  # given to a function that takes **options


class Refusal(Exception):
    """One sentence, without its full stop, for the user."""


def sentence(error: BaseException) -> str:
    """What was raised and where, in one line."""
    lines = (line.strip() for line in str(error).splitlines())
    said = next(filter(None, lines), "").rstrip(".")[:400]
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    own = str(Path(__file__).resolve().parent / "_")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if not frame.filename.startswith(own)]
    users = [frame for frame in frames if "/site-packages/" not in frame.filename] or frames
    return f"{text} ({Path(users[-1].filename).name}:{users[-1].lineno})" if users else text


def find(name: str) -> tuple[Function, list[str]]:
    """The function "module:function", and the files of its module and code. Raises Refusal."""
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise Refusal(f"there is no Python module '{error.name}' for '{name}'") from error
        raise Refusal(f"cannot import '{module_name}': {sentence(error)}") from error
    except Exception as error:
        raise Refusal(f"cannot import '{module_name}': {sentence(error)}") from error
    files = {getattr(found, "__file__", None)}
    for part in path.split("."):
        if not hasattr(found, part):
            raise Refusal(f"module '{module_name}' has no '{path}'")
        found = getattr(found, part)
    if not callable(found):
        raise Refusal(f"'{name}' is no function")
    code = getattr(inspect.unwrap(found), "__code__", None)
    files.add(getattr(code, "co_filename", None))
    return found, sorted(file for file in files if file and Path(file).is_file())


def value_of(name: str, text: str, values: Mapping[str, Any]) -> Any:
    """A field's text as Python: "auto" of a scale is resolved, and lists are lists."""
    if name == "scale":
        return values["D"] ** -0.5 if text == "auto" else float(text)
    if name in ("q_len", "kv_len", "cu_q", "cu_k"):
        return [] if text == "none" else [int(part) for part in text.split(":")]
    if name == "softcap":
        return float(text)
    return int(text) if re.fullmatch(r"-?\d+", text) else text


class Adapter:
    """One function: its description, what it takes, and how it is called."""

    def __init__(self, name: str, function: Function, numerics: str | None = None) -> None:
        self.function = function
        called = getattr(function, "id", None) or "py_" + name.partition(":")[2]
        self.id = re.sub(r"[^a-z0-9_]", "_", str(called).lower())
        doc = (inspect.getdoc(function) or "").strip().splitlines()
        self.summary = str(getattr(function, "summary", "") or (doc[0] if doc else name))
        self.math = str(getattr(function, "math", "") or "as PyTorch computes it")
        self.numerics = str(numerics or getattr(function, "numerics", "stored"))
        self.deterministic = bool(getattr(function, "deterministic", False))
        self.capturable = bool(getattr(function, "capturable", False))
        if self.numerics not in _abi.NUMERICS:
            raise Refusal(f"'{name}' has numerics '{self.numerics}', not one of "
                          + ", ".join(_abi.NUMERICS))
        device = str(getattr(function, "device", "any"))
        spaces = {"cpu": _abi.HOST, "cuda": _abi.DEVICE, "any": _abi.ANY}
        if device not in spaces:
            raise Refusal(f"'{name}' has device '{device}', not one of " + ", ".join(spaces))
        self.memory = spaces[device]
        self.names, self.takes_all = parameters_of(function, name)

    def refusal(self, values: Values, unusual: set[str], device: str) -> str | None:
        """Why it does not take the problem, of which the fields `unusual` are not at their default."""
        for field in sorted(unusual - IN_TENSORS):
            wanted = "return_lse" if field == "lse" and values["lse"] == "out" else field
            if not self.takes_all and wanted not in self.names:
                return f"it has no parameter '{wanted}', and {field} is {values[field]}"
        supports = getattr(self.function, "supports", None)
        if supports is None:
            return None
        try:
            names, takes_all = parameters_of(supports, "supports")
            facts = values | {"device": device}
            answer = supports(**(facts if takes_all else
                                 {key: facts[key] for key in names if key in facts}))
        except (NotImplementedError, ValueError) as error:
            return str(error).strip().rstrip(".") or type(error).__name__
        except Exception as error:
            return f"its supports() failed: {sentence(error)}"
        if answer is False:
            return "its supports() says no"
        return answer.strip().rstrip(".") if isinstance(answer, str) and answer else None

    def options(self, values: Values, unusual: set[str], lse: Any) -> Values:
        """The keyword arguments of a call; `lse` is the given one."""
        known = {key: value for key, value in values.items() if key not in IN_TENSORS}
        known |= {"lse": lse, "return_lse": values.get("lse") == "out"}
        if not self.takes_all:
            return {key: known[key] for key in self.names if key in known}
        wanted = set(ALWAYS) | set(self.names) | unusual
        if known["return_lse"]:
            wanted = wanted - {"lse"} | {"return_lse"}
        return {key: value for key, value in known.items() if key in wanted}


def parameters_of(function: Function, name: str) -> tuple[tuple[str, ...], bool]:
    """The names of the parameters that may be given by name, and whether there is a **parameter."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise Refusal(f"the signature of '{name}' cannot be read") from error
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return (tuple(one.name for one in parameters if one.kind in by_name),
            any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters))
