"""The command line of attnbench in this process, with Python functions as backends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from attnbench import _abi, _callable, library
from attnbench._backend import PythonBackend

CALL = "python -m attnbench"


def fnv1a(data: bytes) -> str:
    """The hash by which rows know files."""
    state = 0xCBF29CE484222325
    for byte in data:
        state = (state ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{state:016x}"


@contextlib.contextmanager
def stdout_is_stderr() -> Iterator[None]:
    """What a module prints while it is imported may not become a worker's answer."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


class Program:
    """The program around the library: loads functions, and says how a worker is started."""

    def __init__(self, numerics: str | None) -> None:
        self._numerics = numerics
        self._loaded: dict[str, tuple[PythonBackend, bytes]] = {}  # plugins stay where they are
        self._said = ctypes.create_string_buffer(b"")
        own = ["--numerics", numerics] if numerics else []
        words = [os.fsencode(word) for word in (sys.executable, "-m", "attnbench", *own)]
        self._worker = (ctypes.c_char_p * (len(words) + 1))(*words, None)
        self.embedding = _abi.Embedding(
            size=ctypes.sizeof(_abi.Embedding), call=" ".join([CALL, *own]).encode(),
            worker=self._worker, load=_abi.LOAD(self._load))

    def _load(self, name: bytes, loaded: ctypes._Pointer[_abi.Loaded]) -> int | None:
        try:
            with stdout_is_stderr():
                backend, source = self._backend(name.decode())
        except BaseException as error:
            refused = isinstance(error, _callable.Refusal)
            text = str(error) if refused else _callable.sentence(error)
            self._said = ctypes.create_string_buffer(text.encode())
            return ctypes.addressof(self._said)
        loaded.contents.plugin = ctypes.pointer(backend.plugin)
        loaded.contents.hash = source
        return None

    def _backend(self, name: str) -> tuple[PythonBackend, bytes]:
        if name in self._loaded:
            return self._loaded[name]
        function, files = _callable.find(name)
        said = [torch.__version__.encode(), (self._numerics or "").encode()]
        source = b"".join([*(Path(file).read_bytes() for file in files), *said])
        self._loaded[name] = (PythonBackend(_callable.Adapter(name, function, self._numerics)),
                              fnv1a(source).encode())
        return self._loaded[name]


def take_numerics(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Takes `--numerics CLASS` out of the arguments: the functions know it, the program does not."""
    numerics, rest = None, []
    words = iter(arguments)
    for word in words:
        if word == "--numerics":
            numerics = next(words, "")
        elif word.startswith("--numerics="):
            numerics = word.partition("=")[2]
        else:
            rest.append(word)
    return numerics, rest


def main(arguments: Sequence[str]) -> int:
    """Runs the program and returns its exit code. A keyboard interrupt ends it, as it does in C."""
    numerics, rest = take_numerics(arguments)
    if numerics is not None and numerics not in _abi.NUMERICS:
        print(f"attnbench: --numerics is one of {', '.join(_abi.NUMERICS)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    shared = ctypes.CDLL(str(library.path()))
    program = Program(numerics)
    words = [os.fsencode(word) for word in ("attnbench", *rest)]
    argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    code: int = shared.attnbench_main(len(words), argv, ctypes.byref(program.embedding))
    return code
