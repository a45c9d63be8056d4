"""A Python function as a backend of the plugin interface: the callbacks of harness/plugin."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

import torch

from attnbench import _abi, _tensors
from attnbench._callable import Adapter, Values, sentence, value_of


def fields_of(problem: _abi.Problem) -> tuple[Values, set[str]]:
    """The problem's fields by name, and which of them are not at their default."""
    fields = [problem.fields[i] for i in range(problem.field_count)]
    values: Values = {}
    for field in fields:  # sizes come first: a scale of "auto" needs one
        name = field.name.decode()
        values[name] = (field.number if name in ("B", "H", "H_kv", "M", "N", "D") else
                        value_of(name, field.text.decode(), values))
    return values, {field.name.decode() for field in fields if not field.is_default}


def is_out_of_memory(error: BaseException) -> bool:
    """The GPU's allocator has an error of its own; the CPU's raises a RuntimeError that names it."""
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


class BoundCall:
    """A function with the tensors and options of one problem."""

    def __init__(self, adapter: Adapter, launch: _abi.Launch) -> None:
        problem = launch.problem.contents
        self.adapter = adapter
        self.on_gpu = launch.device.contents.space == _abi.DEVICE
        values, unusual = fields_of(problem)
        tensors = {}
        for i in range(problem.tensor_count):
            tensor = problem.tensors[i]
            tensors[tensor.name.decode()] = _tensors.wrap(tensor, self.on_gpu)
        self.q, self.k, self.out = tensors["q"], tensors["k"], tensors["out"]
        self.lse_out = tensors["lse"] if values["lse"] == "out" else None
        self.options = adapter.options(values, unusual,
                                       tensors["lse"] if values["lse"] == "in" else None)
        if "out" in adapter.names:
            self.options["out"] = self.out
        self.streams: dict[int, torch.cuda.ExternalStream] = {}

    def __call__(self, stream: int | None) -> None:
        if not self.on_gpu or stream is None:
            return self.run()
        if stream not in self.streams:
            self.streams[stream] = torch.cuda.ExternalStream(stream)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self.streams[stream]):
            if torch.cuda.is_current_stream_capturing() and not self.adapter.capturable:
                raise RuntimeError("it is not declared capturable: a graph may not hold memory "
                                   "that PyTorch's allocator hands out again")
            self.run()

    def run(self) -> None:
        with torch.no_grad():
            result = self.adapter.function(self.q, self.k, **self.options)
            lse = None
            if self.lse_out is not None:
                if not isinstance(result, (tuple, list)) or len(result) != 2:
                    raise TypeError("with return_lse it must return out and lse")
                result, lse = result
            if result is None and "out" not in self.adapter.names:
                raise TypeError("it returned nothing, and has no parameter 'out'")
            if result is not None:
                _tensors.store(self.out, result, "out")
            if self.lse_out is not None:
                _tensors.store(self.lse_out, lse, "lse")


class PythonBackend:
    """The C structs of one function, and its answers to them; lives as long as the process."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self._said = ctypes.create_string_buffer(b"")
        self._note = f"torch {torch.__version__}".encode()
        self._calls: dict[int, BoundCall] = {}
        self._keys = itertools.count(1)
        self._struct = _abi.Backend(
            size=ctypes.sizeof(_abi.Backend), op=b"colreduce", id=adapter.id.encode(),
            summary=adapter.summary.encode(), math=adapter.math.encode(),
            numerics=adapter.numerics.encode(), memory=adapter.memory,
            deterministic=adapter.deterministic, supports=_abi.SUPPORTS(self._supports),
            plan=_abi.PLAN(self._plan), enqueue=_abi.ENQUEUE(self._enqueue),
            release=_abi.RELEASE(self._release), trim=_abi.TRIM(self._trim))
        self._list = (ctypes.POINTER(_abi.Backend) * 1)(ctypes.pointer(self._struct))
        self.plugin = _abi.Plugin(abi_version=_abi.ABI, size=ctypes.sizeof(_abi.Plugin),
                                  backends=self._list, backend_count=1)

    def _say(self, text: str | None) -> int | None:
        """The address of the text, which stays until the next answer; NULL for None."""
        if text is None:
            return None
        self._said = ctypes.create_string_buffer(text.encode())
        return ctypes.addressof(self._said)

    def _complaint(self, action: Callable[[], Any]) -> int | None:
        """Nothing that Python raises may pass through C."""
        try:
            action()
        except BaseException as error:
            return self._say(_abi.OUT_OF_MEMORY if is_out_of_memory(error) else sentence(error))
        return None

    def _supports(self, _self: Any, problem: Any, device: Any) -> int | None:
        on_gpu = device.contents.space == _abi.DEVICE
        if on_gpu and torch.version.cuda is None:
            return self._say("this PyTorch is built without CUDA")
        try:
            values, unusual = fields_of(problem.contents)
            return self._say(self.adapter.refusal(values, unusual, "cuda" if on_gpu else "cpu"))
        except BaseException as error:
            return self._say(sentence(error))

    def _plan(self, _self: Any, launch: Any) -> int | None:
        def bind() -> None:
            key = next(self._keys)
            self._calls[key] = BoundCall(self.adapter, launch.contents)
            launch.contents.state = key
            launch.contents.note = self._note
        return self._complaint(bind)

    def _enqueue(self, _self: Any, launch: Any, stream: int | None) -> int | None:
        return self._complaint(lambda: self._calls[launch.contents.state](stream))

    def _release(self, _self: Any, launch: Any) -> None:
        self._calls.pop(launch.contents.state, None)

    def _trim(self, _self: Any) -> None:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            self._complaint(torch.cuda.empty_cache)
