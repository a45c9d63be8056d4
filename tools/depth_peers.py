#!/usr/bin/env python3
"""Times attention residuals in PyTorch, eager and compiled, and in the flash-attn-res package where it
can be imported, beside the harness's backends: cold L2, CUDA events, every sample kept, each output
checked against fp64 first. Appends rows to results/DEVICE/UTC_REVISION/rows.jsonl.

Every peer has a worker process; a cell that takes too long or takes its process with it gets a row that
says so. --warm only compiles and checks, to fill the compilers' caches while the GPU has no other use."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import queue
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peer_rows
from peer_rows import OPERATORS, PEERS, SHAPES, PeerCell, Record

ROOT = Path(__file__).resolve().parent.parent
WORKER = [sys.executable, str(ROOT / "tools" / "peer_worker.py")]
START_SECONDS = 90.0  # to import PyTorch and wake the GPU


class Worker:
    """A process that answers requests, a line each."""

    def __init__(self, command: Sequence[str], peer: str) -> None:
        self._process = subprocess.Popen([*command, peer], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put("")  # the end of the process

    def ask(self, request: Record, seconds: float) -> Record:
        """Its answer; without one it is killed, and the answer says why there is none."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self.close()
            return {"status": "TIMEOUT", "reason": f"took more than {seconds:.0f} s"}
        except OSError:
            line = ""
        if line:
            return json.loads(line)  # type: ignore[no-any-return]
        self.close()
        return {"status": "CRASH", "reason": "its process ended"}

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


def smi() -> dict[str, str]:
    """What nvidia-smi says of the first GPU; empty where it does not answer."""
    names = ("driver_version", "power.limit", "ecc.mode.current", "mig.mode.current",
             "clocks.max.sm", "clocks.max.memory")
    try:
        told = subprocess.run(["nvidia-smi", "--id=0", f"--query-gpu={','.join(names)}",
                               "--format=csv,noheader,nounits"], capture_output=True, text=True,
                              check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(names, (value.strip() for value in told.split(","))))


def machine() -> Record:
    """Host and driver; what is unknown is null."""
    told = smi()

    def number(name: str) -> float | None:
        try:
            return float(told[name])
        except (KeyError, ValueError):
            return None

    def whole(name: str) -> int | None:
        value = number(name)
        return None if value is None else int(value)

    ecc = {"Enabled": True, "Disabled": False}.get(told.get("ecc.mode.current", ""))
    cpus = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo")
            if line.startswith("model name")]
    return {"driver": told.get("driver_version"), "power_limit_w": number("power.limit"),
            "ecc": ecc, "mig": told.get("mig.mode.current") == "Enabled",
            "sm_clock_mhz": whole("clocks.max.sm"), "mem_clock_mhz": whole("clocks.max.memory"),
            "cpu": cpus[0] if cpus else None, "threads": os.cpu_count(),
            "python": f"Python {platform.python_version()}"}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def revision() -> Record:
    """Of the source tree, or of ATTN_GIT_SHA where it travelled without its repository."""
    def git(*words: str) -> str | None:
        try:
            return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True,
                                  check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    sha = git("rev-parse", "HEAD")
    if sha is None:
        return {"sha": os.environ.get("ATTN_GIT_SHA"), "dirty": None, "diff_hash": None}
    diff = git("diff", "HEAD") or ""
    return {"sha": sha, "dirty": bool(diff),
            "diff_hash": hashlib.sha256(diff.encode()).hexdigest()[:16] if diff else None}


def without_folder(argv: Sequence[str]) -> list[str]:
    """The command without the folder of its rows, which no row names."""
    kept = list(argv)
    if "--out" in kept:
        at = kept.index("--out")
        del kept[at:at + 2]
    return [word for word in kept if not word.startswith("--out=")]


def tool_hash() -> str:
    files = sorted((ROOT / "tools").glob("*peer*.py"))
    return hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:16]


def shape_of(text: str) -> dict[str, int]:
    """"N4,S8,B4,T16384,D2048" as sizes."""
    try:
        sizes = {word[0]: int(word[1:]) for word in text.split(",")}
    except (ValueError, IndexError):
        sizes = {}
    if set(sizes) != set("NSBTD") or min(sizes.values()) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no shape such as N4,S8,B4,T16384,D2048")
    return sizes


def repro(cell: PeerCell) -> str:
    sizes = {"N": 1, "S": 1} | cell.shape
    return shlex.join(["python3", "tools/depth_peers.py", "--peer", cell.peer, "--op", cell.op,
                       "--shape", ",".join(f"{k}{sizes[k]}" for k in "NSBTD"), "--seed",
                       str(cell.seed)])


class RowsFile:
    """Appends lines that survive whatever happens next."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a", encoding="utf-8")

    def add(self, record: Record) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", choices=PEERS, help="default: all")
    parser.add_argument("--op", action="append", choices=OPERATORS, help="default: all")
    parser.add_argument("--shape", action="append", type=shape_of, metavar="N4,S8,B4,T16384,D2048",
                        help="default: the headline and two others of the suite `shapes`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cell-limit", type=float, default=45.0, metavar="S")
    parser.add_argument("--time-budget", type=float, default=90.0, metavar="S",
                        help="what has not begun by then gets TIMEOUT (%(default)s)")
    parser.add_argument("--warm", action="store_true", help="compile and check, write no rows")
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    return parser.parse_args(argv)


def measure(plan: Sequence[PeerCell], args: argparse.Namespace, workers: dict[str, Worker],
            start: float, command: Sequence[str]) -> Any:
    """Yields every cell with its result."""
    for cell in plan:
        left = args.time_budget - (time.monotonic() - start)
        if left <= 0:
            yield cell, {"status": "TIMEOUT", "reason": "not run: the time budget was spent"}
            continue
        if not workers[cell.peer].runs:
            workers[cell.peer] = Worker(command, cell.peer)
        yield cell, workers[cell.peer].ask(cell.request(args.warm), min(args.cell_limit, left))


def main(argv: Sequence[str] | None = None, command: Sequence[str] = WORKER) -> int:
    """0 when every cell has its row, 2 where PyTorch sees no GPU."""
    args = options(argv)
    start = time.monotonic()
    peers = args.peer or list(PEERS)
    plan = peer_rows.cells(peers, args.op or OPERATORS, args.shape or SHAPES, args.seed)
    workers = {peer: Worker(command, peer) for peer in peers}
    rows = None
    try:
        facts = workers[peers[0]].ask({"hello": True}, START_SECONDS)
        if "copy_Bps" not in facts:
            print(f"depth_peers: no GPU that PyTorch sees: {facts['reason']}", file=sys.stderr)
            return 2
        now = datetime.datetime.now(datetime.timezone.utc)
        run = peer_rows.run_line(facts, machine(), revision(), now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                                 ["tools/depth_peers.py",
                                  *without_folder(sys.argv[1:] if argv is None else argv)],
                                 args.seed, tool_hash())
        if not args.warm:
            folder = f"{now.strftime('%Y%m%dT%H%M%SZ')}_{(run['git']['sha'] or 'unknown')[:7]}"
            device = facts["name"].lower().replace(" ", "-")
            rows = RowsFile(args.out / device / folder / "rows.jsonl")
            rows.add(run)
            print(rows.path)
        for number, (cell, result) in enumerate(measure(plan, args, workers, start, command), 1):
            sizes = " ".join(f"{k}{v}" for k, v in cell.shape.items())
            said = result["status"] if result["reason"] is None else (
                f"{result['status']}: {result['reason']}")
            print(f"[{number}/{len(plan)}] {cell.peer} {cell.op} {sizes} {said} "
                  f"({result.get('seconds', 0.0):.1f} s)", file=sys.stderr)
            if rows:
                rows.add(peer_rows.cell_line(cell, run, result, repro(cell)))
    finally:
        for worker in workers.values():
            worker.close()
        if rows:
            rows.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
