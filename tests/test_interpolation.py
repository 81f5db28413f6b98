"""Ways between latents: both ends, equal steps of angle and norm, straight where there is no circle."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genzoo.interpolation import between


@given(st.integers(1, 40), st.integers(2, 12), st.integers(0, 2**16), st.booleans())
def test_both_ends_are_included(dim, num, seed, spherical):
    a, b = torch.randn(2, dim, generator=torch.Generator().manual_seed(seed))
    way = between(a, b, num, spherical)
    assert way.shape == (num, dim) and way.dtype == a.dtype
    assert torch.allclose(way[0], a, atol=1e-5) and torch.allclose(way[-1], b, atol=1e-5)


@given(st.integers(2, 40), st.integers(0, 2**16))
def test_spherical_steps_are_equal_in_angle_and_norm(dim, seed):
    a, b = torch.randn(2, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    way = between(a, b, 9, spherical=True)
    norms = way.norm(dim=1)
    assert torch.allclose(norms.diff(), norms.diff()[:1].expand(8), atol=1e-6)
    units = way / norms[:, None]
    cosines = (units[1:] * units[:-1]).sum(1)
    assert torch.allclose(cosines, cosines[:1].expand(8), atol=1e-6)


def test_a_straight_way_is_straight():
    a, b = torch.tensor([0.0, 2.0]), torch.tensor([4.0, 0.0])
    assert between(a, b, 3, spherical=False)[1].tolist() == [2.0, 1.0]
    assert between(a, b, 3, spherical=True)[1].norm() == pytest.approx(3.0)


@pytest.mark.parametrize("a, b", [([1.0, 0.0], [-1.0, 0.0]), ([0.0, 0.0], [1.0, 0.0]), ([1.0, 2.0], [1.0, 2.0])])
def test_without_a_nearest_circle_the_way_is_straight(a, b):
    a, b = torch.tensor(a), torch.tensor(b)
    assert torch.allclose(between(a, b, 3, spherical=True)[1], (a + b) / 2)


def test_maps_keep_their_shape():
    assert between(torch.ones(4, 3, 2), torch.zeros(4, 3, 2), 5, spherical=True).shape == (5, 4, 3, 2)
