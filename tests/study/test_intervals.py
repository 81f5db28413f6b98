"""Intervals hold their level on data of known coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genzoo.study.intervals import Interval, of_mean, of_rate

NUM = 4000


@pytest.mark.parametrize("num", [2, 3, 5, 10])
def test_the_mean_of_normal_values_lies_inside_in_95_of_100_cases(num):
    values = np.random.default_rng(num).normal(13.0, 4.0, (NUM, num))
    made = [of_mean(list(row)) for row in values]
    inside = np.mean([one.low <= 13.0 <= one.high for one in made])
    assert abs(inside - 0.95) < 4 * math.sqrt(0.95 * 0.05 / NUM)


def test_the_normal_quantile_would_not_do_for_three_runs():
    values = np.random.default_rng(0).normal(0, 1, (NUM, 3))
    inside = np.abs(values.mean(axis=1)) <= 1.96 * values.std(axis=1, ddof=1) / math.sqrt(3)
    assert inside.mean() < 0.9


def coverage(rate: float, num: int) -> float:
    """Exactly: the probability of every count whose interval holds the rate."""
    found = 0.0
    for hits in range(num + 1):
        one = of_rate(hits, num)
        if one.low <= rate <= one.high:
            found += math.comb(num, hits) * rate**hits * (1 - rate) ** (num - hits)
    return found


@pytest.mark.parametrize("num", [3, 5, 10, 30])
def test_rates_lie_inside_in_95_of_100_cases_on_average(num):
    rates = np.linspace(0.001, 0.999, 501)
    made = np.array([coverage(rate, num) for rate in rates])
    assert 0.94 <= made.mean() <= 0.985  # few runs: counts are coarse, and Wilson errs towards wide
    assert made.min() > 0.8


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8), st.floats(0.1, 100), st.floats(-1e3, 1e3))
def test_intervals_move_and_stretch_with_the_values(values, factor, shift):
    one, other = of_mean(values), of_mean([factor * value + shift for value in values])
    scale = max(map(abs, values)) * factor + abs(shift) + 1
    assert other.low == pytest.approx(factor * one.low + shift, abs=1e-7 * scale)
    assert other.high == pytest.approx(factor * one.high + shift, abs=1e-7 * scale)


@given(st.integers(1, 50).flatmap(lambda num: st.tuples(st.integers(0, num), st.just(num))))
def test_rates_mirror_and_stay_rates(pair):
    hits, num = pair
    one, other = of_rate(hits, num), of_rate(num - hits, num)
    assert 0 <= one.low <= one.center <= one.high <= 1
    assert one.low == pytest.approx(1 - other.high) and one.low < one.high


def test_one_run_has_no_interval_and_parts_from_nothing():
    alone = of_mean([3.0])
    assert alone == Interval(3.0, None, None, 1) and not alone.apart(of_mean([9.0, 9.1]))
    assert of_mean([1.0, 1.1]).apart(of_mean([9.0, 9.1])) and not of_mean([1.0, 9.0]).apart(of_mean([2.0, 8.0]))
