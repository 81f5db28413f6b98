from pathlib import Path

import pytest
import torch
from genzoo_vit.decoder import ViTDecoder

from genzoo.model import trace
from genzoo.recipe import read
from genzoo.run import check
from genzoo.testing import conformance

RECIPE = Path(__file__).parent.parent / "recipes" / "vit_digits.yaml"


def test_keeps_the_contract():
    conformance("decoders/vit", {"dim": 32, "depth": 2})


def test_recipe_fits_together():
    check(read(RECIPE))


def test_two_plugins_share_a_split_head():
    pytest.importorskip("genzoo_stylegan")
    stages = trace(read(RECIPE.with_name("vit_stylegan_digits.yaml")).model, (1, 32, 32))
    assert stages["heads/split y1"] == stages["heads/split y2"] == (1, 32, 32)


def decoder(size: tuple[int, int], **options) -> ViTDecoder:
    return ViTDecoder(ViTDecoder.Config(dim=16, depth=1, **options), in_shape=(6,), out_shape=(2, *size))


def test_any_size_divisible_by_the_patch():
    for patch, size in ((1, (3, 5)), (4, (12, 20)), (7, (28, 35))):
        assert decoder(size, patch=patch)(torch.randn(2, 6)).shape == (2, 2, *size)
    with pytest.raises(ValueError, match="30x30 images cannot be cut into patches of 4x4"):
        decoder((30, 30), patch=4)


def test_a_patch_is_painted_by_its_own_token():
    vit = decoder((12, 20), patch=4).eval()
    with torch.no_grad():
        vit.blocks = torch.nn.ModuleList()  # without attention nothing is mixed
        before = vit(torch.zeros(1, 6))
        vit.patches[7] += torch.randn(16)  # row 1, column 2 of the 3x5 grid
        rows, columns = torch.nonzero((vit(torch.zeros(1, 6)) != before).any(dim=1)[0], as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 7, 8, 11)
