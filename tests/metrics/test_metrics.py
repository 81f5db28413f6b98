import numpy as np
import pytest
import torch
from cleanfid.fid import kernel_distance as cleanfid_kernel_distance
from hypothesis import given, settings
from hypothesis import strategies as st

from genzoo import neighbors
from genzoo.config import parse, part
from genzoo.evaluation.extraction import Side
from genzoo.evaluation.scorer import Measure, make_metric
from genzoo.metrics import density_coverage, kid, precision_recall
from genzoo.metrics.kid import kernel_distance
from genzoo.registry import METRICS


def config_of(name, **options):
    return parse(part(METRICS), {"name": name, **options}, name)


def make(name, **options):
    return make_metric(config_of(name, **options))


def features(seed, n, dim=6, shift=0.0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) + shift


@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(-1, 1))
def test_kid_of_one_whole_subset_is_cleanfids(seed, n, shift):
    x, y = features(seed, n), features(seed + 1, n, shift=shift)
    ours = kernel_distance(x, y, num_subsets=1, subset_size=n, seed=0)
    theirs = cleanfid_kernel_distance(x.double().numpy(), y.double().numpy(), num_subsets=1, max_subset_size=n)
    assert ours["value"] == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    assert ours["standard_error"] is None


def test_kid_against_a_double_loop():
    x, y = features(0, 7).double(), features(1, 7, shift=0.3).double()
    kernel = lambda a, b: float((a @ b / 6 + 1) ** 3)  # noqa: E731
    pairs = [(i, j) for i in range(7) for j in range(7)]
    off = [(i, j) for i, j in pairs if i != j]
    expected = np.mean([kernel(x[i], x[j]) for i, j in off]) + np.mean([kernel(y[i], y[j]) for i, j in off])
    expected -= 2 * np.mean([kernel(x[i], y[j]) for i, j in pairs])
    assert kernel_distance(x, y, 1, 1000, seed=5)["value"] == pytest.approx(expected, rel=1e-6)


def test_kid_of_large_subsets_takes_no_more_memory(monkeypatch):
    x, y = features(0, 70), features(1, 70, shift=0.3)
    whole = kernel_distance(x, y, 3, 60, seed=5)
    for held in (1, 60, 61 * 60, 7 * 60):
        monkeypatch.setattr(kid, "MAX_HELD", held)
        assert kernel_distance(x, y, 3, 60, seed=5)["value"] == pytest.approx(whole["value"], rel=1e-6)


def test_kid_is_unbiased_seeded_and_its_standard_error_holds():
    """Over many draws from one distribution the mean is 0 and the spread is what the standard error says."""
    made = [kernel_distance(features(k, 200), features(10**4 + k, 200), 20, 20, seed=k) for k in range(150)]
    values = np.array([m["value"] for m in made])
    assert abs(values.mean()) < 3 * values.std() / len(values) ** 0.5
    stated = np.mean([m["standard_error"] for m in made])
    assert 0.7 * values.std() < stated < 2 * values.std()
    again = kernel_distance(features(3, 200), features(10**4 + 3, 200), 20, 20, seed=3)
    assert again == made[3]
    assert again["value"] != kernel_distance(features(3, 200), features(10**4 + 3, 200), 20, 20, seed=4)["value"]


def naive(real, fake, k):
    """Precision, recall, density and coverage straight from their definitions, point by point."""
    real, fake = real.double().numpy(), fake.double().numpy()

    def reach(points):
        return [sorted(np.linalg.norm(points - p, axis=1))[k] for p in points]

    def inside(p, centres, radii):
        return sum(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii, strict=True))

    in_real = [inside(p, real, reach(real)) for p in fake]
    in_fake = [inside(p, fake, reach(fake)) for p in real]
    covered = [any(np.linalg.norm(p - c) <= r for p in fake) for c, r in zip(real, reach(real), strict=True)]
    return (
        np.mean(np.array(in_real) > 0),
        np.mean(np.array(in_fake) > 0),
        np.sum(in_real) / k / len(fake),
        np.mean(covered),
    )


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(5, 20), st.integers(5, 20), st.integers(1, 4), st.floats(0, 2))
def test_neighbour_scores_against_their_definitions(seed, n, m, k, shift):
    real, fake = features(seed, n, dim=3), features(seed + 1, m, dim=3, shift=shift)
    blocks = {module: module.BLOCK for module in (neighbors, precision_recall, density_coverage)}
    try:
        for module in blocks:
            module.BLOCK = 4
        made = {}
        for name in ("precision_recall", "density_coverage"):
            made |= make(name, k=k).score(Side(real), Side(fake), 0)
    finally:
        for module, block in blocks.items():
            module.BLOCK = block
    for name, expected in zip(("precision", "recall", "density", "coverage"), naive(real, fake, k), strict=True):
        assert made[name]["value"] == pytest.approx(expected, abs=1e-9), name
        assert made[name]["k"] == k


def test_neighbour_scores_at_their_ends():
    x = features(0, 50)
    for far, expected in ((0.0, 1.0), (1000.0, 0.0)):
        for name in ("precision_recall", "density_coverage"):
            for entry, made in make(name).score(Side(x), Side(x + far), 0).items():
                if entry != "density":
                    assert made["value"] == expected, entry


def test_every_metric_has_a_score():
    for name in METRICS.entries:
        metric = make(name)
        if metric.needs != "features":  # those of a model: tests/metrics/test_of_model.py
            continue
        made = metric.score(Side(features(0, 30)), Side(features(1, 30)), 0)
        assert made.keys() == metric.lower.keys()
        assert all(np.isfinite(entry["value"]) for entry in made.values())


def test_numbers_of_images_that_give_no_score():
    config = config_of("precision_recall", k=5)
    measure = Measure(config, make_metric(config), None)
    assert "needs 6 images" in measure.impossible(5, 100)
    assert not measure.impossible(6, 6)
