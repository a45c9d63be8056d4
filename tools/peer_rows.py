"""Rows of peers of attention residuals in the format of results/row.schema.json: what tools/depth_peers.py
writes of a run and of its cells."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]

PEERS = ("torch_eager", "torch_compile", "flash_attn_res")
OPERATORS = ("attnres_phase1", "attnres_merge", "attnres_phase1_bwd", "attnres_merge_bwd")
MATH = {"torch_eager": "PyTorch operators in fp32, gradients by autograd",
        "torch_compile": "torch.compile of fp32 operators, gradients by autograd",
        "flash_attn_res": "Triton kernels of flash-attn-res, gradients by its autograd"}
# The norm of each output's error is held to twice what its rounding may make of it.
CLASS = "norm_x2"
EPS = 2.0 ** -20
SUITE = "shapes"
# The headline, then two widths that are and are not a power of two.
SHAPES = ({"N": 4, "S": 8, "B": 4, "T": 16384, "D": 2048},
          {"N": 8, "S": 8, "B": 1, "T": 8192, "D": 4096},
          {"N": 9, "S": 6, "B": 4, "T": 8192, "D": 2304})


@dataclass(frozen=True)
class PeerCell:
    """One operator of one peer on one shape, in bf16."""

    peer: str
    op: str
    sizes: tuple[tuple[str, int], ...]
    seed: int

    @property
    def shape(self) -> dict[str, int]:
        return dict(self.sizes)

    @property
    def options(self) -> dict[str, str]:
        """The operator's fields that are no sizes, as the harness would print them."""
        common = {"query_dtype": "auto", "out_dtype": "auto", "eps": f"{EPS:.17g}"}
        return common | {
            "attnres_phase1": {"sources": "stacked", "token_stride": "0"},
            "attnres_phase1_bwd": {"sources": "stacked", "token_stride": "0", "grad_dtype": "auto",
                                   "dlse": "off", "add_to": "none", "dwt": "write"},
            "attnres_merge": {"update": "off", "lse": "off"},
            "attnres_merge_bwd": {"grad_dtype": "auto", "dlse": "off", "dpartial": "add",
                                  "dwt": "write"},
        }[self.op]

    @property
    def least_bytes(self) -> int:
        """What the operator must move, as its cost model in reference/ counts it."""
        s = self.shape
        tokens, width = s["B"] * s["T"], s["D"]
        n, queries = s.get("N", 1), s.get("S", 1)
        planes, scalars = {"attnres_phase1": (n + queries, queries),
                           "attnres_phase1_bwd": (2 * n + queries, 0),
                           "attnres_merge": (3, 1),
                           "attnres_merge_bwd": (6, 2)}[self.op]
        gradient = 4 * queries * width if self.op.endswith("_bwd") else 0
        return 2 * planes * tokens * width + 4 * scalars * tokens + 2 * queries * width + gradient

    def request(self, warm: bool) -> Record:
        return {"op": self.op, "shape": self.shape, "eps": EPS, "seed": self.seed, "warm": warm}


def cells(peers: Sequence[str], ops: Sequence[str], shapes: Sequence[dict[str, int]],
          seed: int) -> list[PeerCell]:
    """A shape after the other, its peers one after another; a merge has no N and no S."""
    plan = []
    for shape in shapes:
        merged = {name: shape[name] for name in "BTD"}
        for peer in peers:
            plan += [PeerCell(peer, op, tuple((merged if "merge" in op else shape).items()), seed)
                     for op in ops]
    return plan


def run_line(facts: Record, machine: Record, git: Record, utc: str, argv: Sequence[str], seed: int,
             tool: str) -> Record:
    """`facts` is what the worker says of its GPU, `machine` what nvidia-smi and the host say, `tool` a
    hash of the files that measure."""
    return {
        "type": "run", "schema": 1, "utc": utc, "argv": list(argv), "seed": seed, "git": git,
        "run_id": utc.replace("-", "").replace(":", "") + "-" + tool[:6],
        "build": {"id": tool, "cxx": machine["python"], "nvcc": None, "flags": "", "arch": None,
                  "torch": facts["torch"], "benchmark": None},
        "device": {"kind": "cuda", "name": facts["name"], "sms": facts["sms"],
                   "l2_bytes": facts["l2_bytes"], "mem_bytes": facts["mem_bytes"],
                   "power_limit_w": machine["power_limit_w"], "ecc": machine["ecc"],
                   "mig": machine["mig"], "sm_clock_mhz": machine["sm_clock_mhz"],
                   "mem_clock_mhz": machine["mem_clock_mhz"]},
        "host": {"cpu": machine["cpu"], "threads": machine["threads"]},
        "driver": machine["driver"], "cuda": facts["cuda"],
        "ceilings": {"copy_Bps": facts["copy_Bps"], "mma_flops": None, "ffma_flops": None,
                     "ex2_per_s": None, "null_kernel_ns": None},
    }


def spread(samples: Sequence[float]) -> Record:
    """The samples with their quantiles, by linear interpolation as the harness does."""
    ordered = sorted(samples)

    def quantile(share: float) -> float:
        at = share * (len(ordered) - 1)
        low = int(at)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (at - low) * (ordered[high] - ordered[low])

    median = quantile(0.5)
    return {"n": len(ordered), "median": median, "p5": quantile(0.05), "p25": quantile(0.25),
            "p75": quantile(0.75), "p95": quantile(0.95), "min": ordered[0],
            "mad": statistics.median(abs(x - median) for x in ordered), "samples": list(samples)}


def cell_line(cell: PeerCell, run: Record, result: Record, repro: str) -> Record:
    """The row of a cell, from what a worker or its end said of it."""
    timed = result["status"] == "OK"
    built = result["status"] != "NOT_BUILT"
    ran = result["status"] in ("OK", "INCORRECT")
    cold = spread(result["samples"]) if timed else None
    limit_ns = 1e9 * cell.least_bytes / run["ceilings"]["copy_Bps"]
    identity = json.dumps([cell.peer, cell.op, cell.shape, cell.options, cell.seed, run["build"],
                           run["device"]["name"], run["driver"]], sort_keys=True)
    return {
        "type": "cell", "key": hashlib.sha256(identity.encode()).hexdigest()[:16], "mode": "bench",
        "op": cell.op, "suite": SUITE, "backend": cell.peer, "device": "cuda" if built else None,
        "math": MATH[cell.peer] if built else None, "class": CLASS if built else None,
        "deterministic": cell.peer != "flash_attn_res" if built else None,
        "shape": cell.shape, "dtype": "bf16", "options": cell.options, "data": "normal",
        "status": result["status"], "reason": result["reason"],
        "check": result["check"] if ran else None,
        "time": {"cold": cold, "hot": None, "graph": None, "host_launch": None,
                 "flush_bytes": result["flush_bytes"]} if timed else None,
        "clock": None,
        "mem": result["mem"] | {"lower_bound": cell.least_bytes} if ran else None,
        "plan": None, "kernels": [],
        "sol": {"pct": 100 * limit_ns / cold["median"], "bound": "memory", "limit_ns": limit_ns}
        if cold else None,
        "flags": [], "repro": repro,
    }
