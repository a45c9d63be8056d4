"""Makes rows files for the tests of plots/: made-up numbers in the harness's format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
GPU_BACKENDS = ("libtorch", "cublas_naive", "fused_simt", "mma_sm80", "split_k", "wgmma_sm90",
                "one_pass_sm90", "split_k_sm90")
CPU_BACKENDS = ("cpu_reference", "cpu_fused", "libtorch")
FAMILIES = ("normal", "uniform", "peaked", "neg", "tail", "one_hot", "all_equal")
TFLOPS = {"cpu_reference": 0.0001, "cpu_fused": 0.05, "libtorch": 60.0, "cublas_naive": 80.0,
          "fused_simt": 20.0, "mma_sm80": 350.0, "split_k": 300.0, "wgmma_sm90": 600.0,
          "one_pass_sm90": 700.0, "split_k_sm90": 550.0}


def run(kind: str = "cuda", utc: str = "2026-11-21T10:15:00Z", driver: str = "580.159",
        name: str = "NVIDIA H200") -> Record:
    on_gpu = kind == "cuda"
    return {
        "type": "run", "schema": 1, "run_id": utc.replace("-", "").replace(":", "") + "-1a2b3c",
        "utc": utc, "argv": ["attnbench", "bench", "colreduce"], "seed": 1,
        "git": {"sha": "0123456789abcdef0123456789abcdef01234567", "dirty": False,
                "diff_hash": None},
        "build": {"id": "00ff00ff", "cxx": "GNU 13.2.0", "nvcc": "13.0" if on_gpu else None,
                  "flags": "-O3", "arch": "90a" if on_gpu else None, "torch": None,
                  "benchmark": "1.8.3"},
        "device": {"kind": kind, "name": name if on_gpu else "Some CPU",
                   "sms": 132 if on_gpu else None, "l2_bytes": 62914560 if on_gpu else None,
                   "mem_bytes": 150000000000, "power_limit_w": 700.0 if on_gpu else None,
                   "ecc": True if on_gpu else None, "mig": False if on_gpu else None,
                   "sm_clock_mhz": None, "mem_clock_mhz": None},
        "host": {"cpu": "Some CPU", "threads": 16}, "driver": driver if on_gpu else None,
        "cuda": "13.0" if on_gpu else None,
        "ceilings": {"copy_Bps": 4.2e12, "mma_flops": 7.9e14, "ffma_flops": 5.6e13,
                     "ex2_per_s": 4.1e12, "null_kernel_ns": 2200.0},
    }


def spread(median: float) -> Record:
    return {"n": 60, "median": median, "p5": median * 0.97, "p25": median * 0.985,
            "p75": median * 1.02, "p95": median * 1.1, "min": median * 0.96,
            "mad": median * 0.01, "samples": [median] * 60}


def cell(backend: str, mode: str, suite: str, shape: dict[str, int], status: str = "OK",
         device: str = "cuda", dtype: str = "f16", data: str = "normal", nerr: float = 0.5,
         median_ns: float = 1e6, workspace: int = 1 << 20, hidden: int = 0,
         **options: str) -> Record:
    """One cell line; what its status forbids is null."""
    settings = {"layout": "bhsd", "scale": "auto", "mask": "none", "reduction": "sum",
                "mean_over": "visible", "q_strides": "auto", "k_strides": "auto",
                "out_dtype": "f32"} | options
    ran = status in ("OK", "NOISY", "UNCHECKED")
    timed = ran and mode == "bench"
    checked = status in ("OK", "NOISY", "INCORRECT")
    correct = status != "INCORRECT"
    identity = json.dumps([backend, mode, suite, shape, dtype, data, settings], sort_keys=True)
    return {
        "type": "cell", "key": hashlib.sha256(identity.encode()).hexdigest()[:16], "mode": mode,
        "op": "colreduce", "suite": suite, "backend": backend, "device": device,
        "math": "fp32 FMA", "class": "fp32_P", "deterministic": True, "shape": shape,
        "dtype": dtype, "options": settings, "data": data, "status": status,
        "reason": None if status in ("OK", "UNCHECKED") else f"made up {status}",
        "check": {"before": correct, "after": correct if timed else None, "nerr_max": nerr,
                  "at": [0, 0, 0], "ref": "gpu_f64", "bit_stable": True} if checked else None,
        "time": {"cold": spread(median_ns), "hot": spread(median_ns * 0.9), "graph": None,
                 "host_launch": 3000, "planning": 2000, "first_call": 400000,
                 "allocation": 9000, "flush_bytes": 1 << 27} if timed else None,
        "mem": {"inputs": 1 << 24, "outputs": 1 << 16, "workspace": workspace, "hidden": hidden,
                "lower_bound": 1 << 20} if ran else None,
        "plan": None, "kernels": [],
        "sol": {"pct": 42.0, "bound": "mma", "limit_ns": median_ns * 0.42} if timed else None,
        "flags": [], "repro": "attnbench bench colreduce",
    }


def comparison(a: str, b: str, suite: str, shape: dict[str, int], ratio: float | None = 0.9,
               verdict: str | None = "FASTER", session: str = "20261121T101500Z-1a2b3c",
               half_width: float = 0.004, control: bool = False, level: str = "claim",
               status: str = "OK", **options: str) -> Record:
    """One compare line; a status other than OK has no ratio."""
    own = cell(a, "verify", suite, shape, **options)
    other = cell(b, "verify", suite, shape, **options)
    identity = json.dumps([own["key"], other["key"], level])
    compared = ratio is not None
    processes, blocks = ((5, 8) if level == "claim" else (1, 12)) if compared else (0, 0)
    block = {"first": "A", "ns": [1000] * 20, "mhz": [1980.0] * 4}
    return {
        "type": "compare", "key": hashlib.sha256(identity.encode()).hexdigest()[:16],
        "session": session, "control": control, "op": "colreduce", "suite": suite,
        "a": own["key"], "b": other["key"], "backend_a": a, "backend_b": b,
        "shape": shape, "dtype": own["dtype"], "options": own["options"], "data": own["data"],
        "level": level, "cache": "cold", "status": status,
        "reason": None if status == "OK" else f"made up {status}",
        "processes": processes, "blocks": processes * blocks, "precise": compared,
        "median_a": 1000000 if compared else None,
        "median_b": round(1000000 * ratio) if compared else None, "ratio": ratio,
        "ci99": [ratio * (1 - half_width), ratio * (1 + half_width)] if compared else None,
        "p": 1e-9 if compared else None, "process_ratios": [ratio] * processes, "delta": 0.005,
        "clock": {"a_mhz": 1980, "b_mhz": 1980, "cycles": None} if compared else None,
        "verdict": verdict if compared else None, "flags": [],
        "runs": [[block] * blocks for _ in range(processes)],
        "repro": f"attnbench compare {a} {b}",
    }


def session_end(session: str = "20261121T101500Z-1a2b3c", doubts: Iterable[str] = (),
                withdrawn: Iterable[str] = (), ratio: float = 0.9, worst: float = 1.1,
                key: str = "00ff00ff00ff00ff", slower: float = 0.25) -> Record:
    """The event line that ends a session of comparisons."""
    return {
        "type": "event", "event": "compare_session", "session": session, "level": "claim",
        "delta": 0.005, "proven": not list(doubts), "doubts": list(doubts),
        "sentinel": [300000, 300500, 300200], "sentinel_drift": 500 / 300000, "compared": 4,
        "geometric_mean": {"ratio": ratio, "ci99": [ratio * 0.9, ratio * 1.1]},
        "worst": {"key": key, "ratio": worst}, "slower_share": slower,
        "withdrawn": list(withdrawn),
    }


def sweep_shapes(suite: str) -> list[tuple[str, dict[str, int]]]:
    """Mask and shape of every problem in the suites `readme` and `small`."""
    if suite == "readme":
        heads, columns = {"H": 32, "H_kv": 32, "D": 128}, (
            [("none", b, 1024, 1024) for b in (1, 4, 16, 64, 256)]
            + [("none", 1, n << 10, n << 10) for n in (2, 4, 8, 16)]
            + [("causal", b, 64, 16384) for b in (1, 4, 16, 64, 256)]
            + [("causal", 1, 512, n << 10) for n in (16, 32, 64, 128, 256)])
    else:
        heads, columns = {"H": 4, "H_kv": 4, "D": 64}, (
            [("none", b, 256, 256) for b in (1, 2, 4, 8)]
            + [("none", 1, n, n) for n in (128, 512, 1024)]
            + [("causal", b, 16, 4096) for b in (1, 2, 4, 8)]
            + [("causal", 1, 64, n << 10) for n in (1, 2, 4, 8)])
    return [(mask, {"B": b, "M": m, "N": n} | heads) for mask, b, m, n in columns]


def sweep(suite: str = "readme") -> list[Record]:
    """A plausible sweep: times follow the work, one backend refuses, one runs out of memory."""
    on_gpu = suite == "readme"
    rows = []
    for backend in GPU_BACKENDS if on_gpu else CPU_BACKENDS:
        for mask, shape in sweep_shapes(suite):
            work = 4.0 * shape["B"] * shape["H"] * shape["M"] * shape["N"] * shape["D"]
            rate = TFLOPS[backend] * 1e3 if on_gpu else min(TFLOPS[backend], 0.1) * 1e3
            if backend == "split_k":
                rate *= (64 / shape["M"]) ** 0.3
            median = 12e3 + work / rate
            scores = shape["B"] * shape["H"] * shape["M"] * shape["N"]
            naive = backend in ("libtorch", "cublas_naive")
            status = "OK"
            if naive and scores > 3 << 30:
                status = "OOM"
            if backend == "split_k" and mask == "none" and shape["B"] > 64:
                status = "UNSUPPORTED"
            if backend == "cpu_reference" and shape["N"] > 4096:
                status = "TIMEOUT"
            workspace = scores * (4 if naive else 0) + (
                0 if backend in ("cpu_reference", "fused_simt") else
                shape["B"] * shape["H"] * shape["M"] * 8)
            rows.append(cell(backend, "bench", suite, shape, status, mask=mask,
                             device="cuda" if on_gpu else "cpu",
                             dtype="f16" if on_gpu else "f32", median_ns=median,
                             workspace=workspace, hidden=workspace // 8 if naive else 0))
    return rows


def matrix(backends: Iterable[str] = CPU_BACKENDS[:2] + GPU_BACKENDS) -> list[Record]:
    """A plausible correctness matrix: every family on a few shapes and settings."""
    base = {"B": 2, "H": 4, "H_kv": 4, "M": 131, "N": 1027, "D": 64}
    settings: list[tuple[dict[str, int], dict[str, str]]] = [
        ({}, {}), ({"M": 1}, {}), ({"N": 1}, {}), ({"M": 300, "N": 131}, {"mask": "causal"}),
        ({"H_kv": 2}, {"layout": "bshd"}), ({"D": 72}, {"layout": "qkv_slice"}),
        ({"B": 40, "H": 2000, "H_kv": 2000, "M": 3, "N": 5}, {}),
        ({}, {"mask": "causal_top_left", "reduction": "mean"}),
        ({}, {"reduction": "max"}), ({"D": 37}, {"reduction": "mean", "mean_over": "all"}),
    ]
    rows = []
    for index, backend in enumerate(backends):
        for family_index, family in enumerate(FAMILIES):
            for place, (sizes, options) in enumerate(settings):
                for dtype in ("f16", "bf16", "f32"):
                    tensor_cores = backend.endswith(("_sm80", "_sm90")) or backend == "split_k"
                    refused = tensor_cores and (dtype == "f32" or sizes.get("D", 64) % 8)
                    nerr = 0.2 + 0.1 * ((index + family_index + place) % 7)
                    rows.append(cell(backend, "verify", "edge", base | sizes,
                                     "UNSUPPORTED" if refused else "OK", dtype=dtype,
                                     device="cpu" if backend.startswith("cpu") else "cuda",
                                     data=family, nerr=nerr, **options))
    return rows


def peers(suite: str = "readme") -> list[Record]:
    """`auto` beside Python functions and the published package, 60 different samples a cell."""
    package, shapes = {
        "readme": ("py_flash_colreduce", sweep_shapes("readme")),
        "colsum": ("py_flash_colsum", [("none", {"B": b, "H": 16, "H_kv": 16, "M": 1024, "N": 1024,
                                                 "D": 64}) for b in (1, 2)]),
    }[suite]
    rows = []
    for place, (mask, shape) in enumerate(shapes):
        for backend, times in (("auto", 1.0), ("py_eager", 4.0 + place / 8), ("py_compiled", 3.0),
                               (package, 2.0)):
            median = 1e5 * (1 + place) * times
            record = cell(backend, "bench", suite, shape, median_ns=median, mask=mask)
            record["time"]["cold"]["samples"] = [median * (1 + 0.002 * (29.5 - i))
                                                 for i in range(60)]
            rows.append(record)
    return rows


def depth() -> list[Record]:
    """A few cells of attention residuals beside those of another operator."""
    shapes = {"attnres_phase1": {"N": 4, "S": 8, "B": 4, "T": 16384, "D": 2048},
              "attnres_merge_bwd": {"B": 4, "T": 16384, "D": 7168}}
    rows = []
    for op, shape in shapes.items():
        for backend, percent in (("libtorch", 12.0), ("fused_simt", 81.0)):
            record = cell(backend, "bench", "shapes", shape, dtype="bf16", dpartial="add")
            rows.append(record | {"op": op, "sol": {"pct": percent, "bound": "memory",
                                                    "limit_ns": percent * 1e4}})
    return rows


def depth_peers() -> list[Record]:
    """Peers of those cells, one of which failed, and a network of another revision of the family."""
    shape = {"N": 4, "S": 8, "B": 4, "T": 16384, "D": 2048}
    rows = []
    for backend, status, percent in (("torch_eager", "OK", 9.0), ("flash_attn_res", "CRASH", None)):
        record = cell(backend, "bench", "shapes", shape, status, dtype="bf16", median_ns=4e6,
                      dpartial="add", sources="stacked")
        rows.append(record | {"op": "attnres_phase1", "sol": percent and {
            "pct": percent, "bound": "memory", "limit_ns": percent * 4e4}})
    for op in ("attnres_network", "attnres_network_bwd"):
        record = cell("fused_simt", "bench", "shapes", {"L": 32, "S": 8, "B": 4, "T": 16384,
                                                        "D": 2048}, dtype="bf16", median_ns=2e7)
        rows.append(record | {"op": op, "sol": {"pct": 70.0, "bound": "memory", "limit_ns": 1.4e7}})
    return rows


def models() -> list[Record]:
    """A model whole, in a sliding window, and through an observation window."""
    shape = {"B": 1, "H": 32, "H_kv": 8, "M": 32768, "N": 32768, "D": 128}
    rows = []
    for percent, options in ((63.0, {"window": "4095"}), (21.0, {"query_begin": "-64"})):
        record = cell("wgmma_sm90", "bench", "models", shape, dtype="bf16", mask="causal",
                      **options)
        rows.append(record | {"sol": {"pct": percent, "bound": "mma", "limit_ns": 1e4}})
    return rows


def colsum() -> list[Record]:
    """A square problem and, of the same shape, one query of it."""
    shape = {"B": 1, "H": 16, "H_kv": 16, "M": 4096, "N": 4096, "D": 64}
    return [cell("mma_sm80", "bench", "colsum", shape, median_ns=2e6, heads="mean"),
            cell("mma_sm80", "bench", "colsum", shape, median_ns=1e3, heads="mean",
                 query_end="1")]


def write(results: Path, device: str, records: Iterable[Record],
          folder: str = "20261121T101500Z_0123456") -> Path:
    """Writes RESULTS/DEVICE/FOLDER/rows.jsonl and returns its path."""
    path = results / device / folder / "rows.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
