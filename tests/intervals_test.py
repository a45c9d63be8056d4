"""plots/intervals.py: how often the intervals hold what they are about, counted and simulated."""

from __future__ import annotations

import math
import random
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "plots"), str(ROOT / "tests")]

import intervals  # noqa: E402
from rows import Spread  # noqa: E402


def spread(samples: list[float]) -> Spread:
    ordered = sorted(samples)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return Spread(len(samples), middle, middle, middle, tuple(samples))


def coverage(n: int, low: int, high: int) -> float:
    """Probability that at least low + 1 and at most `high` of n fair coins show heads."""
    return sum(math.comb(n, heads) for heads in range(low + 1, high + 1)) / 2**n


class Ranks(unittest.TestCase):
    def test_ranks_of_the_tables(self) -> None:
        # 95 %, as tables of the sign test have them; from 0.
        for n, ranks in ((5, None), (6, (0, 5)), (10, (1, 8)), (20, (5, 14)), (25, (7, 17)),
                         (100, (39, 60))):
            self.assertEqual(intervals.median_ranks(n, 0.95), ranks, n)

    def test_the_level_is_reached_and_the_next_places_do_not(self) -> None:
        for level in (0.9, 0.95, 0.975, 0.99):
            for n in range(0, 130):
                ranks = intervals.median_ranks(n, level)
                if ranks is None:
                    self.assertLess(coverage(n, 0, n - 1), level)
                    continue
                low, high = ranks
                self.assertEqual(low, n - 1 - high)
                self.assertGreaterEqual(coverage(n, low, high), level - 1e-12)
                self.assertLess(coverage(n, low + 1, high - 1), level)


class RatioOfMedians(unittest.TestCase):
    def test_it_goes_from_end_to_opposite_end(self) -> None:
        base = [float(sample) for sample in range(101, 108)]  # 7 samples: smallest and largest
        own = [float(sample) for sample in range(57, 50, -1)]
        ratio = intervals.ratio_of_medians(spread(base), spread(own))
        self.assertEqual(ratio.value, 104 / 54)
        self.assertEqual(ratio.ends, (101 / 57, 107 / 51))
        self.assertTrue(ratio.above_one)

    def test_too_few_samples_have_no_interval_and_prove_nothing(self) -> None:
        seven, six = spread([2.0] * 7), spread([1.0] * 6)
        for base, own in ((seven, six), (six, seven), (seven, Spread(60, 1.0, 1.0, 1.0))):
            self.assertIsNone(intervals.ratio_of_medians(base, own).ends)
        self.assertFalse(intervals.ratio_of_medians(seven, six).above_one)

    def test_an_interval_that_reaches_one_proves_nothing(self) -> None:
        for low, proven in ((1.0, False), (0.99, False), (1.01, True)):
            self.assertEqual(intervals.Ratio(1.1, (low, 1.2)).above_one, proven)

    def test_it_misses_the_true_ratio_seldom_and_is_not_wide(self) -> None:
        draw = random.Random(1)
        for n, other, width in ((15, 100, 0.3), (100, 100, 0.15)):
            missed, widths = 0, []
            for _ in range(2000):  # skewed, as times are; the true medians' ratio is 2
                base = [2 * draw.lognormvariate(0, 0.1) for _ in range(n)]
                own = [draw.lognormvariate(0, 0.1) for _ in range(other)]
                ends = intervals.ratio_of_medians(spread(base), spread(own)).ends
                assert ends is not None
                missed += not ends[0] <= 2 <= ends[1]
                widths.append(ends[1] / ends[0] - 1)
            self.assertLess(missed / 2000, 0.05)
            self.assertLess(sum(widths) / 2000, width)


if __name__ == "__main__":
    unittest.main()
