"""How backends, statuses and sizes look: the same in every figure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

RC: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.5,
}
FAILURE_COLOUR = "#b2182b"
NOTE_COLOUR = "#555555"


@dataclass(frozen=True)
class BackendStyle:
    colour: str
    marker: str


# Reading order of impls/colreduce/backends.cpp, then other operators' backends and peers. Colours after Okabe and Ito, distinguishable with
# every common colour vision; the markers repeat the distinction.
BACKENDS: dict[str, BackendStyle] = {
    "cpu_reference": BackendStyle("#666666", "p"),
    "cpu_fused": BackendStyle("#56b4e9", "h"),
    "libtorch": BackendStyle("#e69f00", "s"),
    "cublas_naive": BackendStyle("#d55e00", "^"),
    "fused_simt": BackendStyle("#009e73", "D"),
    "mma_sm80": BackendStyle("#0072b2", "o"),
    "split_k": BackendStyle("#cc79a7", "v"),
    "wgmma_sm90": BackendStyle("#332288", "P"),
    "one_pass_sm90": BackendStyle("#000000", "d"),
    "split_k_sm90": BackendStyle("#661100", "<"),
    "auto": BackendStyle("#117733", "*"),
    "bulk_sm90": BackendStyle("#882255", "X"),
    "cluster_sm90": BackendStyle("#999999", r"$\clubsuit$"),
    "runner_one_shot": BackendStyle("#33bbee", r"$\mathbf{1}$"),
    "runner_two_phase": BackendStyle("#ee7733", r"$\mathbf{2}$"),
    "runner": BackendStyle("#0077bb", r"$\mathbf{R}$"),
    "torch_eager": BackendStyle("#999933", "8"),
    "torch_compile": BackendStyle("#44aa99", ">"),
    "flash_attn_res": BackendStyle("#aa4499", "H"),
}
# For backends that are not listed yet. Filled markers all: edges are white.
SPARE = (
    BackendStyle("#88ccee", r"$\spadesuit$"),
    BackendStyle("#ddaa33", r"$\heartsuit$"),
    BackendStyle("#bb5566", r"$\Omega$"),
)


def backend_styles(backends: Iterable[str]) -> dict[str, BackendStyle]:
    """Style of each backend, in reading order; unlisted ones follow by name."""
    names = set(backends)
    styles = {name: style for name, style in BACKENDS.items() if name in names}
    for index, name in enumerate(sorted(names - BACKENDS.keys())):
        styles[name] = SPARE[index % len(SPARE)]
    return styles


@dataclass(frozen=True)
class StatusStyle:
    marker: str  # on the rail at the top of a panel
    glyph: str  # in text
    meaning: str


STATUS: dict[str, StatusStyle] = {
    "UNSUPPORTED": StatusStyle(r"$\oslash$", "⊘", "refused"),
    "OOM": StatusStyle(r"$\boxtimes$", "⊠", "out of memory"),
    "INCORRECT": StatusStyle("X", "✗", "incorrect"),
    "TIMEOUT": StatusStyle(r"$\mathbf{T}$", "T", "timeout"),
    "CRASH": StatusStyle("*", "✶", "crash"),
    "NOT_BUILT": StatusStyle(r"$\boxminus$", "⊟", "not built"),
    "UNCHECKED": StatusStyle(r"$\bigcirc$", "○", "unchecked"),
    "NOISY": StatusStyle(r"$\sim$", "~", "noisy"),
}


def size_label(size: int) -> str:
    """1024 -> 1k, 262144 -> 256k, 1027 -> 1027."""
    for unit, letter in ((1 << 20, "M"), (1 << 10, "k")):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


def number_label(value: float) -> str:
    """A number without exponent or trailing zeros: 0.01, 1, 10,000."""
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"
