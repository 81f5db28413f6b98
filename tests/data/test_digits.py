import numpy as np
import pytest

from genzoo.data.digits import Digits


def read(split, **options):
    dataset = Digits(Digits.Config(**options))
    images = np.concatenate(list(dataset.read(split)))
    assert images.shape[1:] == (*dataset.image_shape[1:], 1) and images.dtype == np.uint8
    assert len(images) == dataset.locate()["num_images"][split]
    return images


def test_every_digit_is_in_one_split():
    from sklearn.datasets import load_digits

    seen = np.concatenate([read("train", size=8), read("test", size=8)])[..., 0]
    expected = (load_digits().images * 255 / 16).round().astype(np.uint8)
    assert len(seen) == 1797
    assert sorted(map(bytes, seen)) == sorted(map(bytes, expected))


@pytest.mark.parametrize("size", [16, 32, 50])
def test_enlarged_digits_look_like_the_small_ones(size):
    small, large = read("test", size=8).astype(float), read("test", size=size).astype(float)
    assert large.min() == 0 and large.max() == 255
    assert abs(small.mean() - large.mean()) < 2
    assert np.corrcoef(small.mean((1, 2, 3)), large.mean((1, 2, 3)))[0, 1] > 0.99
