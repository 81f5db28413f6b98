import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from genzoo.frechet import Statistics, frechet_distance
from genzoo.metrics.fd import bootstrap_error
from genzoo.metrics.fd_infinity import frechet_infinity


def gaussian(seed, n, dim=8, shift=0.0, scale=1.0):
    return scale * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def test_the_limit_is_the_distance_of_the_gaussians_themselves():
    """N samples are biased upwards by about C/N; the extrapolation is not. In closed form the distance is 8 * 0.01."""
    reference = Statistics.known(10**9, torch.zeros(8), torch.eye(8))
    plain, limits = [], []
    for seed in range(40):
        samples = gaussian(seed, 400, shift=0.1)
        plain.append(frechet_distance(reference, Statistics.of(samples)))
        limits.append(frechet_infinity(reference, samples, num_points=15, min_samples=100, seed=seed)["value"])
    error = np.std(limits) / len(limits) ** 0.5
    assert np.mean(plain) - 0.08 > 10 * np.std(plain) / len(plain) ** 0.5
    assert abs(np.mean(limits) - 0.08) < 4 * error < 0.03


def test_the_line_is_scikit_learns_through_the_same_subsets():
    reference, samples = Statistics.of(gaussian(0, 300)), gaussian(1, 200, shift=0.2)
    made = frechet_infinity(reference, samples, num_points=5, min_samples=40, seed=3)
    generator = torch.Generator().manual_seed(3)
    sizes = np.array([40, 80, 120, 160, 200])
    values = []
    for size in sizes:
        chosen = samples[torch.randperm(200, generator=generator)[:size]]
        values.append(frechet_distance(reference, Statistics.of(chosen)))
    line = LinearRegression().fit(1 / sizes.reshape(-1, 1), values)
    assert made["value"] == pytest.approx(line.predict(np.zeros((1, 1)))[0], rel=1e-6)
    assert made["slope"] == pytest.approx(line.coef_[0], rel=1e-6)
    assert made["num_points"] == 5 and made["min_samples"] == 40
    assert made == frechet_infinity(reference, samples, num_points=5, min_samples=40, seed=3)


def test_too_few_samples_for_a_line():
    with pytest.raises(ValueError, match="no line"):
        frechet_infinity(Statistics.of(gaussian(0, 9)), gaussian(1, 10), num_points=3, min_samples=10, seed=0)


def test_the_error_bar_is_the_spread_over_fresh_samples():
    reference = Statistics.known(10**9, torch.zeros(8), torch.eye(8))
    fresh = [frechet_distance(reference, Statistics.of(gaussian(s, 300, shift=0.3))) for s in range(200)]
    stated = [bootstrap_error(reference, gaussian(10**4 + s, 300, shift=0.3), 50, seed=s) for s in range(20)]
    assert np.mean(stated) == pytest.approx(np.std(fresh), rel=0.25)
    samples = gaussian(1, 300)
    assert bootstrap_error(reference, samples, 5, seed=1) == bootstrap_error(reference, samples, 5, seed=1)
