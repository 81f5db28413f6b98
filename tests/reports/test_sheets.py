"""Walls inside a page: every image where its style says it is, exact where it is said to be, and never too many bytes."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from genzoo.reports.page import walls_of
from genzoo.reports.pictures import Wall
from genzoo.reports.sheets import BUDGET, MAX_SIDE


def wall(num, h, w, channels=3, parts=("y", "sigma"), seed=0, rows=()):
    rng = np.random.default_rng(seed)
    images = {part: rng.integers(0, 256, (num, h, w, channels), np.uint8) for part in parts}
    return Wall(
        "a", "A", "images", {part: image.repeat(3 // channels, axis=3) for part, image in images.items()}, list(rows)
    )


def opened(sheet):
    return Image.open(io.BytesIO(base64.b64decode(str(sheet["uri"]).partition(",")[2])))


def shown(sheet, place, h, w):
    """What a CSS background of columns x rows tiles shows in a box of one tile at that position."""
    picture = np.asarray(opened(sheet).convert("RGB"))
    left, top = (round(float(part.rstrip("%")) / 100 * (size - box)) for part, size, box in
                 zip(place, (picture.shape[1], picture.shape[0]), (w, h), strict=True))  # fmt: skip
    return picture[top : top + h, left : left + w]


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))
def test_every_image_is_where_its_place_says(num, h, w, channels):
    given_wall = wall(num, h, w, channels)
    (made,), note = walls_of([given_wall])
    assert note == "" and len(made["places"]) == num
    for sheet in made["sheets"]:
        for k, place in enumerate(made["places"]):
            assert (shown(sheet, place, h, w) == given_wall.parts[sheet["part"]][k]).all()


def test_rows_hold_their_own_images():
    (made,), _ = walls_of([wall(12, 4, 4, rows=("z3", "z0", "z7"))])
    assert [row["name"] for row in made["rows"]] == ["z3", "z0", "z7"]
    assert [place for row in made["rows"] for place in row["places"]] == made["places"]


@pytest.mark.parametrize("size", [64, 300])
def test_noise_stays_in_the_budget_and_says_how(size):
    """Noise cannot be compressed: the worst that a model can make."""
    walls, note = walls_of([wall(96, size, size), wall(96, size, size, seed=1), wall(72, size, size, rows="abcdefgh")])
    size_of_all = sum(len(sheet["uri"]) for one in walls for sheet in one["sheets"])
    assert size_of_all <= BUDGET * 4 / 3 + 4096
    assert "compressed" in note and ("128 pixels" in note) == (size > MAX_SIDE)
    assert len(walls[2]["places"]) == 72, "rows are never cut"
    assert len(walls[0]["places"]) >= 8
