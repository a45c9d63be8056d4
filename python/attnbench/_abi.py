"""The C structs of harness/plugin/attnbench_plugin.h and attnbench_embed.h, member by member."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_size_t, c_uint32, c_void_p

ABI = 1  # ATTNBENCH_PLUGIN_ABI
HOST, DEVICE, ANY = range(3)
OUT_OF_MEMORY = "memory ran out"  # ATTNBENCH_OUT_OF_MEMORY
DTYPES = ("f16", "bf16", "f32")
NUMERICS = ("fp64", "fp32", "half_weights", "stored")


class Field(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("text", c_char_p), ("number", c_int64),
                ("is_default", c_int32)]


class Tensor(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("data", c_void_p), ("dtype", c_int32), ("shape", c_int64 * 4),
                ("strides", c_int64 * 4)]


class Problem(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("op", c_char_p), ("fields", POINTER(Field)),
                ("field_count", c_size_t), ("tensors", POINTER(Tensor)), ("tensor_count", c_size_t)]


class Device(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("space", c_int32), ("name", c_char_p), ("sm", c_int32),
                ("sm_count", c_int32), ("shared_bytes_per_block", c_size_t), ("l2_bytes", c_size_t),
                ("total_bytes", c_size_t), ("threads", c_int32)]


class Launch(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("problem", POINTER(Problem)), ("device", POINTER(Device)),
                ("workspace", c_void_p), ("workspace_bytes", c_size_t), ("state", c_void_p),
                ("note", c_char_p), ("numerics", c_char_p)]


# Answers of type `const char*` are addresses here: ctypes would not keep a string's memory.
SUPPORTS = ctypes.CFUNCTYPE(c_void_p, c_void_p, POINTER(Problem), POINTER(Device))
WORKSPACE = ctypes.CFUNCTYPE(c_size_t, c_void_p, POINTER(Problem), POINTER(Device))
PLAN = ctypes.CFUNCTYPE(c_void_p, c_void_p, POINTER(Launch))
ENQUEUE = ctypes.CFUNCTYPE(c_void_p, c_void_p, POINTER(Launch), c_void_p)
RELEASE = ctypes.CFUNCTYPE(None, c_void_p, POINTER(Launch))
TRIM = ctypes.CFUNCTYPE(None, c_void_p)


class Backend(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("op", c_char_p), ("id", c_char_p), ("summary", c_char_p),
                ("math", c_char_p), ("numerics", c_char_p), ("memory", c_int32),
                ("deterministic", c_int32), ("context", c_void_p), ("supports", SUPPORTS),
                ("workspace_bytes", WORKSPACE), ("plan", PLAN), ("enqueue", ENQUEUE),
                ("release", RELEASE), ("trim", TRIM)]


class Plugin(ctypes.Structure):
    _fields_ = [("abi_version", c_uint32), ("size", c_size_t),
                ("backends", POINTER(POINTER(Backend))), ("backend_count", c_size_t)]


class Loaded(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("plugin", POINTER(Plugin)), ("hash", c_char_p)]


LOAD = ctypes.CFUNCTYPE(c_void_p, c_char_p, POINTER(Loaded))


class Embedding(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("call", c_char_p), ("worker", POINTER(c_char_p)),
                ("load", LOAD)]
