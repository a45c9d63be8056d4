"""What one call of the operator costs the host, in us: on a GPU without waiting for it, and of that what
the launch itself takes, as the harness's rows have it; everywhere on meta tensors: Python, dispatch and
checks alone.

    PYTHONPATH=python python3 tools/operator_overhead.py [--calls 200] [--rounds 50]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import attnbench


SHAPE = {"B": 1, "H": 32, "M": 64, "N": 256, "D": 128}


def quartiles_us(functions: dict[str, Callable[[], object]], calls: int, rounds: int,
                 wait: bool) -> dict[str, list[float]]:
    """Of each function the quartiles over the rounds of the mean time of a call; a round has all of
    them, and between two the GPU is waited for. The first round is left out."""
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, call in functions.items():
            begin = time.perf_counter()
            for _ in range(calls):
                call()
            samples[name].append(1e6 * (time.perf_counter() - begin) / calls)
            if wait:
                torch.cuda.synchronize()
    return {name: statistics.quantiles(times[1:], n=4) for name, times in samples.items()}


def launch_us() -> float:
    """The time in which a plan of the same problem is enqueued: `host_launch` of the harness's row."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = [word for axis, size in SHAPE.items() for word in (f"--{axis}", str(size))]
        subprocess.run([sys.executable, "-m", "attnbench", "bench", "colreduce", *sizes,
                        "--dtype", "f16", "--reduction", "mean", "--mask", "causal",
                        "--backend", "auto", "--device", "cuda", "--out", folder],
                       check=True, stdout=subprocess.DEVNULL)
        rows = map(json.loads, (Path(folder) / "rows.jsonl").read_text().splitlines())
        return next(row["time"]["host_launch"] for row in rows if row["type"] == "cell") / 1e3


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=200, help="a round; fewer than a GPU queues")
    parser.add_argument("--rounds", type=int, default=50)
    args = parser.parse_args()
    for device in ("meta", "cuda") if torch.cuda.is_available() else ("meta",):
        B, H, M, N, D = SHAPE.values()
        q = torch.zeros(B, H, M, D, dtype=torch.float16, device=device)
        k = torch.zeros(B, H, N, D, dtype=torch.float16, device=device)
        out = torch.empty(B, H, N, device=device)
        operator = torch.ops.attnbench.colreduce.default
        rows: dict[str, Callable[[], object]] = {
            "attnbench.colreduce": lambda: attnbench.colreduce(q, k, "mean", mask="causal"),
            "the operator itself": lambda: operator(q, k, "mean", mask="causal"),
            "torch.empty": lambda: torch.empty(B, H, N, device=device),
            "one kernel, out.zero_()": lambda: out.zero_(),
        }
        for name, us in quartiles_us(rows, args.calls, args.rounds, device == "cuda").items():
            print(f"{device:<5} {name:<24} {us[1]:8.2f} us [{us[0]:.2f}, {us[2]:.2f}]")
    if torch.cuda.is_available():
        print(f"cuda  the launch alone         {launch_us():8.2f} us")


if __name__ == "__main__":
    main()
