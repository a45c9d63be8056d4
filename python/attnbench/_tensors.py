"""Memory of the harness as torch tensors, without a copy."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from attnbench import _abi

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
RANKS = {"out": 3, "lse": 3}  # of colreduce, whose other tensors have four axes


class _Words:
    """Memory of a GPU for torch.as_tensor: 16-bit words, or fp32."""

    def __init__(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], size: int):
        self.__cuda_array_interface__: dict[str, Any] = {
            "version": 3, "data": (address, False), "shape": shape,
            "strides": tuple(size * stride for stride in strides),
            "typestr": "<f4" if size == 4 else "<i2", "stream": None}


def wrap(tensor: _abi.Tensor, on_gpu: bool) -> torch.Tensor:
    """A view of the memory: q [B, H, M, D], k [B, H_kv, N, D], out [B, heads, N], lse [B, H, M]."""
    dtype = DTYPES[_abi.DTYPES[tensor.dtype]]
    rank = RANKS.get(tensor.name.decode(), 4)
    shape, strides = tuple(tensor.shape)[:rank], tuple(tensor.strides)[:rank]
    if 0 in shape:
        return torch.empty(shape, dtype=dtype, device="cuda" if on_gpu else "cpu")
    if on_gpu:
        words = torch.as_tensor(_Words(tensor.data, shape, strides, dtype.itemsize), device="cuda")
        if words.data_ptr() != tensor.data:
            raise RuntimeError("PyTorch copied the harness's memory in place of viewing it")
        return words if dtype is torch.float32 else words.view(dtype)
    last = sum((extent - 1) * stride for extent, stride in zip(shape, strides))
    memory = (ctypes.c_char * ((last + 1) * dtype.itemsize)).from_address(tensor.data)
    return torch.frombuffer(memory, dtype=dtype).as_strided(shape, strides)


def store(out: torch.Tensor, result: Any, name: str) -> None:
    """Copies what a function returned to where the harness looks for it."""
    if not isinstance(result, torch.Tensor):
        raise TypeError(f"it returned a {type(result).__name__} for {name}, not a tensor")
    if result.shape != out.shape:
        raise ValueError(f"it returned {name} as {list(result.shape)}, not {list(out.shape)}")
    if result.device.type != out.device.type:
        raise ValueError(f"it returned {name} on {result.device}, not on {out.device}")
    if result.data_ptr() != out.data_ptr() or result.stride() != out.stride():
        out.copy_(result)
