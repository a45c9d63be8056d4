"""Intervals of medians and of their ratios, whatever the distribution of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from rows import Spread

LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians; the interval is missing where there are too few samples for one."""

    value: float
    ends: tuple[float, float] | None

    @property
    def above_one(self) -> bool:
        """Whether the whole interval is."""
        return self.ends is not None and self.ends[0] > 1


def median_ranks(n: int, level: float) -> tuple[int, int] | None:
    """Places, from 0 and in rising order, of the two of `n` samples between which the median lies
    with a probability of at least `level`; None where smallest and largest do not reach it.

    As many samples as a binomial of n and 1/2 says lie below the median (David and Nagaraja, Order
    Statistics, section 7.1).
    """
    outside = 0  # the binomial's tail below the lower place, times 2^n
    place = -1
    while 2 * (outside + comb(n, place + 1)) <= (1 - level) * 2**n:
        outside += comb(n, place + 1)
        place += 1
    return None if place < 0 else (place, n - 1 - place)


def median_interval(samples: Sequence[float], level: float) -> tuple[float, float] | None:
    """Ends between which the median lies, as `median_ranks` says."""
    ranks = median_ranks(len(samples), level)
    if ranks is None:
        return None
    ordered = sorted(samples)
    return ordered[ranks[0]], ordered[ranks[1]]


def ratio_of_medians(base: Spread, own: Spread) -> Ratio:
    """Median of `base` over that of `own`, with an interval of LEVEL or more: from end to opposite
    end of the medians' intervals, each of which may miss half as often."""
    each = 1 - (1 - LEVEL) / 2
    over, under = median_interval(base.samples, each), median_interval(own.samples, each)
    ends = (over[0] / under[1], over[1] / under[0]) if over and under else None
    return Ratio(base.median / own.median, ends)
