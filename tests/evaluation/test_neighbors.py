import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from genzoo import neighbors
from genzoo.evaluation.images import from_array
from genzoo.evaluation.neighbors import draw_neighbors
from genzoo.evaluation.work import ON_CPU
from genzoo.metrics.memorization import memorization
from genzoo.neighbors import nearest


def features(seed, n, dim=5, shift=0.0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) + shift


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(3, 12), st.sampled_from([0.0, 1e3]))
def test_against_point_by_point_definitions(seed, n, m, shift):
    x, training = features(seed, n, shift=shift), features(seed + 1, m, shift=shift)
    block, neighbors.BLOCK = neighbors.BLOCK, 4
    try:
        distances, indices = nearest(x, training, 2)
        rate, authenticity = memorization(x, training, 0.5)
    finally:
        neighbors.BLOCK = block
    a, b = x.double().numpy(), training.double().numpy()
    copies, authentic = 0, 0
    for k, point in enumerate(a):
        gaps = np.linalg.norm(b - point, axis=1)
        order = np.argsort(gaps)
        np.testing.assert_allclose(distances[k], gaps[order[:2]], rtol=1e-6)
        assert indices[k].tolist() == order[:2].tolist()
        copies += gaps[order[0]] <= 0.5 * gaps[order[1]]
        others = np.delete(np.linalg.norm(b - b[order[0]], axis=1), order[0])
        authentic += gaps[order[0]] > others.min()  # dgm-eval's AuthPct: real_min < gen_min
    assert rate == pytest.approx(copies / n) and authenticity == pytest.approx(authentic / n)


def test_copies_are_found_also_of_images_that_the_training_set_holds_twice():
    images = features(0, 200)
    training = torch.cat([images, images[:50]])
    copies, new = images[:60], features(1, 60)
    assert memorization(copies, training, 1 / 3)[0] == 1.0
    assert memorization(new, images, 1 / 3)[0] < 0.1
    assert memorization(torch.cat([copies, new]), training, 1 / 3)[0] >= 0.5


def test_near_copies_are_less_authentic_than_held_out_images():
    training = features(0, 1000, dim=16)
    held_out = [memorization(features(seed, 1000, dim=16), training, 1 / 3) for seed in (1, 2)]
    assert abs(held_out[0][1] - held_out[1][1]) < 0.08 and held_out[0][0] < 0.01
    near = training + 0.1 * features(3, 1000, dim=16)
    rate, authenticity = memorization(near, training, 1 / 3)
    assert rate > 0.9 and authenticity < held_out[0][1] - 0.3
    assert memorization(100 * features(4, 50, dim=16), training, 1 / 3) == (0.0, 1.0)


def test_the_picture_shows_the_copies_first(pixels, tmp_path):
    rng = np.random.default_rng(0)
    training = rng.integers(0, 256, (30, 2, 2, 1), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    samples = rng.integers(0, 256, (9, 2, 2, 1), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    samples[5] = training[17]
    made = draw_neighbors(
        from_array("samples", samples), from_array("training", training), pixels(pixels.Config(name="pixels")),
        tmp_path / "n.png", columns=4, k=2, work=ON_CPU,
    )  # fmt: skip
    assert len(made) == 4 and made[0] == 0 and (made[1:] > 0).all() and (made.diff() >= 0).all()
    picture = np.array(Image.open(tmp_path / "n.png").convert("L")).astype(int)
    cell, gap = 64, 2
    left = picture.shape[1] - gap - 4 * (cell + gap) + gap
    first, copy = (picture[gap + k * (cell + gap) :, left:][:cell, :cell] for k in (0, 1))
    np.testing.assert_array_equal(first, copy)
    np.testing.assert_allclose(first[::32, ::32], training[17, ::8, ::8, 0], atol=1)
