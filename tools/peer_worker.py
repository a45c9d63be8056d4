#!/usr/bin/env python3
"""Checks and times one peer of attention residuals on the GPU that PyTorch sees: a JSON cell a line on
the standard input, its result a line on the standard output. tools/depth_peers.py starts it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from peer_formulas import Outputs, Problem, merge, phase1_eager, phase1_fusable, total_bytes

GATE_CYCLES = 4_000_000  # about 2 ms: the queue is full before the first sample begins
SAMPLE_SECONDS = 0.3
LEAST_SAMPLES, MOST_SAMPLES = 10, 60
# Of an output's norm: twice what a rounding to its type may make of it, as no peer states a bound.
LIMITS = {torch.bfloat16: 1.5 * 2.0 ** -8, torch.float16: 1.5 * 2.0 ** -11,
          torch.float32: 336 * 2.0 ** -24}


def functions(peer: str) -> dict[str, Callable[..., Any]]:
    """The peer's phase 1 and merge."""
    if peer == "torch_eager":
        return {"attnres_phase1": phase1_eager, "attnres_merge": merge}
    if peer == "torch_compile":
        torch.compiler.reset()  # each shape starts from nothing, as in a process of its own
        return {"attnres_phase1": torch.compile(phase1_fusable, dynamic=False),
                "attnres_merge": torch.compile(merge, dynamic=False)}
    import flash_attn_res

    def phase2(b: torch.Tensor, wt: torch.Tensor, read: torch.Tensor, z: torch.Tensor,
               eps: float) -> Any:
        return flash_attn_res.phase_2_online_softmax_merge_triton_op(b, wt[0], read, z, eps)

    return {"attnres_phase1": flash_attn_res.phase_1_batched_attention_triton_op,
            "attnres_merge": phase2}


def copy_rate() -> float:
    """Bytes read and written a second by a copy of 2 GiB, the best of ten."""
    source = torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    best = min(timed_ns(lambda: target.copy_(source), None) for _ in range(10))
    return 2 * total_bytes([source]) / (best * 1e-9)


def timed_ns(run: Callable[[], Any], flush: torch.Tensor | None) -> float:
    """One sample between events on a gated stream, after the flush is written."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda._sleep(GATE_CYCLES)
    if flush is not None:
        flush.fill_(1)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) * 1e6


class Cell:
    """One operator of the peer on one shape."""

    def __init__(self, request: dict[str, Any], function: Callable[..., Any]) -> None:
        self.function = function
        self.problem = Problem(request["op"], request["shape"], request["eps"], request["seed"],
                               "cuda")

    def prepare(self) -> Callable[[], Any]:
        """What a sample times; a backward's forward has run by then."""
        if self.problem.backward:
            return self.problem.prepare_backward(self.function)
        return self.forward

    def forward(self) -> Outputs:
        with torch.no_grad():
            return self.problem.forward(self.function)

    def outputs(self) -> Outputs:
        """Of a run of its own."""
        run = self.prepare()
        result = run()
        return self.problem.gradients() if self.problem.backward else result

    def check(self) -> tuple[bool, float, int, bool]:
        """Whether the answer is right, its error, the output that has it, and whether bits repeat."""
        first = tuple(t.clone() for t in self.outputs())
        stable = all(torch.equal(a, b) for a, b in zip(first, self.outputs()))
        error, worst = self.problem.error(first, LIMITS)
        return error <= 1, error, worst, stable

    def memory(self) -> dict[str, int]:
        """Bytes of inputs and outputs, and what a run takes besides at its peak."""
        run = self.prepare()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        kept = run()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        written = self.problem.gradients() if self.problem.backward else kept
        outputs = total_bytes(written)
        return {"inputs": self.problem.bytes, "outputs": outputs, "workspace": 0,
                "hidden": max(0, peak - outputs)}

    def samples(self) -> tuple[list[float], int]:
        """Cold times, and the bytes written before each."""
        l2 = torch.cuda.get_device_properties(0).L2_cache_size
        flush = torch.empty(2 * l2, dtype=torch.uint8, device="cuda")
        for _ in range(2):
            once = timed_ns(self.prepare(), flush)
        count = int(SAMPLE_SECONDS / (once * 1e-9 + 3e-3))
        count = max(LEAST_SAMPLES, min(MOST_SAMPLES, count))
        return [timed_ns(self.prepare(), flush) for _ in range(count)], 2 * l2


def measure(request: dict[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    cell = Cell(request, function)
    ok, error, worst, stable = cell.check()
    finite = error if error != float("inf") else None
    check = {"before": ok, "after": None, "nerr_max": finite, "at": [worst], "ref": "gpu_f64",
             "bit_stable": stable}
    result: dict[str, Any] = {"status": "OK", "reason": None, "check": check, "mem": cell.memory()}
    if not ok:
        return result | {"status": "INCORRECT",
                         "reason": f"the norm of output {worst}'s error is {error:.3g} of its limit"}
    if request["warm"]:
        return result
    samples, flush_bytes = cell.samples()
    check["after"] = cell.problem.error(cell.outputs(), LIMITS)[0] <= 1
    if not check["after"]:
        return result | {"status": "INCORRECT", "reason": "wrong after it was timed"}
    return result | {"samples": samples, "flush_bytes": flush_bytes}


def answer(request: dict[str, Any], peer: str) -> dict[str, Any]:
    """What a request gives, whatever happens but the end of the process."""
    try:
        if "hello" in request:
            found = torch.cuda.get_device_properties(0)
            return {"name": found.name, "sms": found.multi_processor_count,
                    "l2_bytes": found.L2_cache_size, "mem_bytes": found.total_memory,
                    "torch": torch.__version__, "cuda": torch.version.cuda,
                    "copy_Bps": copy_rate()}
        return measure(request, functions(peer)[request["op"].removesuffix("_bwd")])
    except ImportError as missing:
        return {"status": "NOT_BUILT", "reason": str(missing)}
    except torch.cuda.OutOfMemoryError:
        return {"status": "OOM", "reason": "memory ran out"}
    except Exception as error:  # a peer's failure is its row
        lines = str(error).strip().splitlines() or [""]
        return {"status": "CRASH", "reason": f"{type(error).__name__}: {lines[-1][:300]}"}


def main() -> int:
    # What libraries print must not end up between the results.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        start = time.monotonic()
        result = answer(json.loads(line), sys.argv[1])
        torch.cuda.empty_cache()
        print(json.dumps(result | {"seconds": time.monotonic() - start}), file=results, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
