import io
import json
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel, ValidationError

from genzoo.data import store
from genzoo.data.folder import Folder
from genzoo.data.npz import NPZ
from genzoo.data.size import central, pixels, sides
from genzoo.data.webdataset import WebDataset

SIDES = st.integers(1, 3000)


@given(width=SIDES, height=SIDES, shape=st.tuples(st.just(3), st.integers(8, 1024), st.integers(8, 1024)))
def test_the_largest_central_box_of_those_proportions(width, height, shape):
    left, upper, right, lower = central(shape)(width, height)
    assert 0 <= left < right <= width and 0 <= upper < lower <= height
    assert right - left == width or lower - upper == height  # larger it cannot be
    assert abs(left - (width - right)) <= 1 and abs(upper - (height - lower)) <= 1
    wide, high = right - left, lower - upper
    assert abs(wide - high * shape[2] / shape[1]) <= 1 or abs(high - wide * shape[1] / shape[2]) <= 1
    if shape[1] == shape[2]:
        assert wide == high == min(width, height)


class Options(BaseModel):
    size: pixels(8, 100) = 64


@given(st.one_of(st.integers(), st.lists(st.integers(0, 110), max_size=4), st.floats(), st.text(), st.booleans()))
def test_one_number_or_two(value):
    fits = isinstance(value, int) and not isinstance(value, bool) and 8 <= value <= 100
    fits = fits or (isinstance(value, list) and len(value) == 2 and all(8 <= side <= 100 for side in value))
    if fits:
        found = Options(size=value).size
        assert list(sides(found)) == (value if isinstance(value, list) else [value, value])
        assert Options.model_validate(Options(size=value).model_dump(mode="json")).size == found
    else:
        with pytest.raises(ValidationError, match=r"one number or \[height, width\], each from 8 to 100"):
            Options(size=value)


def test_pictures_that_are_not_square(tmp_path):
    """A disc in a wide photograph stays a disc; folder, shards and arrays of it give the same."""
    y, x = np.mgrid[:128, :400]
    disc = (np.hypot(y - 64, x - 200) < 40).astype(np.uint8) * 255
    (tmp_path / "images").mkdir()
    for i in range(8):
        Image.fromarray(disc).convert("RGB").save(tmp_path / "images" / f"{i}.png")
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for i in range(40):
            data = (tmp_path / "images" / f"{i % 8}.png").read_bytes()
            info = tarfile.TarInfo(f"{i}.png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    made = []
    for part, root in ((Folder, "images"), (WebDataset, "0.tar")):
        config = part.Config(name=part.__name__.lower(), root=str(tmp_path / root), size=[64, 78])
        split = store.prepare(part(config), config)["train"]
        made.append(split.images[0])
        assert "central part of 64:78" in split.card["source"]["processing"]
    assert made[0].shape == (64, 78, 3) and np.array_equal(*made)
    rows, columns = (np.flatnonzero((made[0][..., 0] > 127).any(axis)) for axis in (1, 0))
    assert rows[-1] - rows[0] == columns[-1] - columns[0] == pytest.approx(39, abs=1)
    np.savez(tmp_path / "a.npz", images=np.stack([made[0]] * 4))
    config = NPZ.Config(name="npz", root=tmp_path / "a.npz", size=[64, 78])
    assert np.array_equal(store.prepare(NPZ(config), config)["train"].images[0], made[0])


def test_a_wide_colour_set_trains_samples_and_scores(call, tmp_path):
    (tmp_path / "images").mkdir()
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (24, 9, 11, 3), np.uint8)):
        Image.fromarray(image).resize((90, 70)).save(tmp_path / "images" / f"{i}.png")
    data = "data={name: folder, root: images, size: [64, 78], test_fraction: 0.4}"
    words = (
        "name=wide",
        "train.steps=2",
        "train.batch_size=4",
        "evaluation.num_samples=6",
        "evaluation.allow_few=true",
    )
    code, out, err = call("run", "svae_digits", data, *words, "--out", "wide", "--json")
    assert code == 0, err
    assert all(np.isfinite(score["value"]) for score in json.loads(out)["scores"])
    code, _, err = call("sample", "wide", "--num", 2, "--out", "samples")
    assert code == 0 and {Image.open(path).size for path in (tmp_path / "samples").iterdir()} == {(78, 64)}, err
    with Image.open(tmp_path / "wide" / "panels" / "prior_grid.png") as grid:
        assert grid.width > grid.height
