import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genzoo.data.faces import NUM_DRAWS, Faces, draw


def faces(split="train", start=0, **options):
    return np.concatenate(list(Faces(Faces.Config(**options)).read(split, start)))


def test_a_face_follows_from_seed_split_and_index_alone():
    nine = faces(num_train=9)
    assert nine.shape == (9, 64, 64, 3) and nine.dtype == np.uint8
    np.testing.assert_array_equal(faces(num_train=6), nine[:6])
    np.testing.assert_array_equal(faces(num_train=9, start=5), nine[5:])
    assert len(np.unique(nine.reshape(9, -1), axis=0)) == 9
    for other in (faces(num_train=9, seed=1), faces("test", num_test=9)):
        assert (other.reshape(9, -1) != nine.reshape(9, -1)).mean(1).min() > 0.5


def test_a_larger_face_is_the_same_face():
    small, large = faces(num_train=6).astype(float), faces(num_train=6, size=128).astype(float)
    shrunk = large.reshape(6, 64, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(shrunk - small).mean() < 4
    for index in range(6):  # its own face is by far the nearest
        distances = np.abs(shrunk - small[index]).mean((1, 2, 3))
        assert distances.argmin() == index and np.sort(distances)[1] > 4 * distances[index]


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1 - 2**-24]), min_size=NUM_DRAWS, max_size=NUM_DRAWS),
    st.integers(32, 96),
    st.integers(32, 96),
)
def test_extreme_parameters_draw_a_picture(draws, height, width):
    with np.errstate(all="raise", under="ignore"):
        image = draw(np.array(draws)[:, None], height, width)
    assert image.shape == (1, height, width, 3)
    assert image.std() > 5


def test_faces_vary_in_every_pixel_and_use_the_whole_range():
    images = faces(num_train=60)
    assert images.std(0).min() > 15
    assert images.min() < 10 and images.max() > 245


def test_a_wider_picture_shows_the_same_face_with_more_beside_it():
    square, wide = faces(num_train=6).astype(float), faces(num_train=6, size=[64, 100])
    assert wide.shape == (6, 64, 100, 3)
    assert np.abs(wide[:, :, 18:82] - square).mean() < 1
    assert faces(num_train=1, size=[33, 50]).shape == (1, 33, 50, 3)
    assert Faces.Config(size=[64, 64]) == Faces.Config(size=64)


def test_sizes_that_cannot_be_drawn():
    for size in (24, 264, [64], [64, 24], "64", 64.0, True, [64, 64, 3], None):
        with pytest.raises(ValueError, match="size"):
            Faces.Config(size=size)


def test_speed():
    faces(num_train=8)
    start = time.process_time()
    faces(num_train=100)
    assert 100 / (time.process_time() - start) > 60  # images per second of one core; 200 on an idle machine


def test_prepare_takes_options_as_recipes_name_them(call):
    code, out, err = call("data", "prepare", "faces", "data.num_train=3", "num_test=2", "data.size=32")
    assert code == 0 and out.startswith("train: 3 images, sha256 ") and "test: 2 images, " in out, err
