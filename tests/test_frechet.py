import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from genzoo.errors import UserError
from genzoo.frechet import Statistics, frechet_distance


def features(seed, n, dim, rank=None, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(rank or dim, dim))
    return torch.from_numpy(rng.normal(size=(n, rank or dim)) @ mixing + shift)


def by_sqrtm(a, b):
    """The textbook formula with scipy's matrix square root."""
    root = scipy.linalg.sqrtm(a.cov.numpy() @ b.cov.numpy())
    return float((a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * np.trace(root).real)


@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(-3, 3), st.integers(-3, 3))
def test_equals_the_matrix_square_root(seed, dim, shift, exponent):
    scale = 10.0**exponent
    a = Statistics.of(features(seed, 40, dim) * scale)
    b = Statistics.of(features(seed + 1, 50, dim, shift=shift) * scale)
    assert frechet_distance(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-6, abs=1e-9 * scale**2)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)


@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(2, 7), st.integers(8, 12))
def test_singular_covariances_in_fifty_digits(seed, n_a, n_b, dim):
    """Fewer images than dimensions. With centred factors X, Y: tr sqrt(S1 S2) = sum of the singular values of X Y^T."""
    x, y = features(seed, n_a, dim), features(seed + 1, n_b, dim)
    with mpmath.workdps(50):
        x_, y_ = (mpmath.matrix(z.tolist()) for z in (x, y))
        for z in (x_, y_):
            for j in range(dim):
                mean = sum(z[i, j] for i in range(z.rows)) / z.rows
                for i in range(z.rows):
                    z[i, j] = (z[i, j] - mean) / mpmath.sqrt(z.rows - 1)
        cross = x_ * y_.T
        root = sum(mpmath.svd_r(cross, compute_uv=False))
        traces = sum(v**2 for v in x_) + sum(v**2 for v in y_)
        exact = float(traces - 2 * root) + float((x.mean(0) - y.mean(0)).square().sum())
    assert frechet_distance(Statistics.of(x), Statistics.of(y)) == pytest.approx(exact, rel=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 10), st.integers(2, 30))
def test_a_set_is_at_no_distance_from_itself(seed, dim, n):
    a = Statistics.of(features(seed, n, dim))
    assert 0 <= frechet_distance(a, a) <= 1e-6 * float(a.cov.trace())


def test_diagonal_gaussians_have_a_closed_form():
    def known(mean, std):
        return Statistics.known(100, torch.tensor(mean), torch.diag(torch.tensor(std) ** 2))

    a, b = known([0.0, 1.0, 2.0], [1.0, 0.0, 3.0]), known([1.0, 1.0, 0.0], [2.0, 2.0, 0.5])
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 1 + 4 + 2.5**2, rel=1e-12)


def test_constant_images_do_not_break_it():
    a, b = Statistics.of(torch.ones(5, 3)), Statistics.of(torch.zeros(5, 3))
    assert frechet_distance(a, b) == pytest.approx(3)


@given(st.integers(0, 10**6), st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_statistics_do_not_depend_on_batches_or_order(seed, sizes):
    x = features(seed, sum(sizes) + 2, 5, shift=1e4).float()
    batched = Statistics(5)
    for part in x.flip(0).split([*sizes, 2]):
        batched.add(part)
    for statistics in (batched, Statistics.of(x)):
        assert statistics.n == len(x)
        np.testing.assert_allclose(statistics.mean, x.double().mean(0), rtol=1e-12)
        np.testing.assert_allclose(statistics.cov, np.cov(x.double().T), rtol=1e-9, atol=1e-9)


def test_features_that_are_not_finite_are_refused():
    broken = Statistics.of(torch.tensor([[1.0, torch.nan], [0.0, 1.0]]))
    with pytest.raises(UserError, match="not finite"):
        frechet_distance(broken, Statistics.of(torch.eye(2)))


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(2, 40))
def test_thin_and_full_sides_agree_with_the_matrix_square_root(seed, n_a, n_b):
    """dim 20: either side may be kept as rows, singular or full."""
    x, y = features(seed, n_a, 20), features(seed + 1, n_b, 20)
    a, b = Statistics.of(x), Statistics.of(y)
    assert a.is_thin == (n_a < 20)
    np.testing.assert_allclose(a.cov, np.cov(x.T.numpy()), atol=1e-9)
    np.testing.assert_allclose(a.mean, x.mean(0), atol=1e-12)
    known = [Statistics.known(s.n, s.mean, s.cov) for s in (a, b)]
    expected = frechet_distance(*known)
    for pair in ((a, b), (b, a), (a, known[1]), (known[0], b)):
        assert frechet_distance(*pair) == pytest.approx(expected, rel=1e-6)


def test_the_reference_is_factored_once_however_many_sides_it_meets(monkeypatch):
    calls = []
    cholesky = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda cov: calls.append(1) or cholesky(cov))
    reference = Statistics.of(features(0, 60, 8))
    for seed in range(4):
        assert frechet_distance(reference, Statistics.of(features(seed + 1, 30, 8))) > 0
    assert len(calls) == 1
    reference.add(features(9, 5, 8))  # and anew when it has changed
    assert frechet_distance(reference, Statistics.of(features(1, 30, 8))) > 0
    assert len(calls) == 2
    assert frechet_distance(reference, Statistics.of(features(1, 6, 8))) > 0
    assert len(calls) == 2  # few rows are a factor as they are
