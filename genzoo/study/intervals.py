"""95 % intervals: of a mean over runs, of a difference of paired runs, of a rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev

LEVEL = 0.95
METHOD = (
    "A value is the mean of n runs that differ in their seed alone, ± half the width of its 95 % interval by Student's "
    "t with n − 1 degrees of freedom, which takes the runs' values as normal; a single run has no interval. A rate is "
    "k of n runs, with Wilson's 95 % score interval. Both are held to data of known coverage by "
    "tests/study/test_intervals.py."
)


@dataclass(frozen=True)
class Interval:
    """center, and its ends where there is more than one run."""

    center: float
    low: float | None
    high: float | None
    num: int

    @property
    def half(self) -> float | None:
        return None if self.low is None else (self.high - self.low) / 2

    def apart(self, other: "Interval") -> bool:
        """Whether both have ends, and no value lies in both."""
        return None not in (self.low, other.low) and (self.high < other.low or other.high < self.low)


def of_mean(values: Sequence[float]) -> Interval:
    """Student's t ("The probable error of a mean", 1908): exact for normal values, whatever their number."""
    from scipy.special import stdtrit

    num, center = len(values), fmean(values)
    if num < 2:
        return Interval(center, None, None, num)
    half = float(stdtrit(num - 1, (1 + LEVEL) / 2)) * stdev(values) / sqrt(num)
    return Interval(center, center - half, center + half, num)


def of_rate(hits: int, num: int) -> Interval:
    """Wilson's score interval (1927), which holds its level on average over rates also for few runs."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    rate = hits / num
    middle = (rate + z * z / (2 * num)) / (1 + z * z / num)
    half = z * sqrt(rate * (1 - rate) / num + z * z / (4 * num * num)) / (1 + z * z / num)
    low, high = min(rate, max(0.0, middle - half)), max(rate, min(1.0, middle + half))  # rounding at 0 and 1
    return Interval(rate, low, high, num)
