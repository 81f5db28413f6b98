import numpy as np
import pytest
import torch
from PIL import Image

from genzoo.evaluation.drawing import CELL, COLOR_MAP, GAP, grid, panel, save_png_samples, write_panels
from genzoo.parts import Composition


def composition(channels, size=16, num=5):
    generator = torch.Generator().manual_seed(0)
    y1, y2 = torch.rand(2, num, channels, size, size, generator=generator)
    sigma = torch.rand(num, 1, size, size, generator=generator)
    return Composition(torch.lerp(y2, y1, sigma), {"y1": y1, "y2": y2}, {"sigma": sigma})


def cells(path, num_rows, num_columns):
    """The panel's cells, each shrunk back to the image's own pixels."""
    sheet = np.array(Image.open(path))
    margin = sheet.shape[1] - GAP - num_columns * (CELL + GAP) + GAP
    assert sheet.shape[0] == GAP + num_rows * (CELL + GAP)
    for row in range(num_rows):
        for column in range(num_columns):
            top, left = GAP + row * (CELL + GAP), margin + column * (CELL + GAP)
            yield row, column, sheet[top : top + CELL, left : left + CELL][::4, ::4]


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_input_maps_branches_image(channels, tmp_path):
    made = composition(channels)
    x = torch.rand(5, channels, 16, 16)
    panel(made, tmp_path / "panels" / "p.png", x=x)
    rows = [x, made.maps["sigma"], made.branches["y1"], made.branches["y2"], made.image]
    for row, column, cell in cells(tmp_path / "panels" / "p.png", 5, 5):
        image = (rows[row][column] * 255).round().byte().permute(1, 2, 0).numpy()
        if row == 1 and channels == 3:
            ends = [[int(code[k : k + 2], 16) for k in (1, 3, 5)] for code in (COLOR_MAP[0], COLOR_MAP[-1])]
            assert np.abs(cell[image[..., 0] == image.min()].astype(int) - ends[0]).max() < 20
            assert np.abs(cell[image[..., 0] == image.max()].astype(int) - ends[1]).max() < 20
        else:
            np.testing.assert_array_equal(cell, np.broadcast_to(image, cell.shape))
    assert [file.name for file in (tmp_path / "panels").iterdir()] == ["p.png"]


def test_large_images_keep_their_size_and_columns_are_limited(tmp_path):
    panel({"y": torch.rand(20, 3, 80, 80)}, tmp_path / "p.png", columns=3)
    width, height = Image.open(tmp_path / "p.png").size
    assert height == 80 + 2 * GAP and 3 * 82 < width < 4 * 82


def test_grid(tmp_path):
    images = torch.rand(5, 1, 32, 32)
    grid(images, tmp_path / "g.png", columns=3)
    assert Image.open(tmp_path / "g.png").size == (3 * 66 - GAP, 2 * 66 - GAP)


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_png_samples_keep_their_mode(channels, mode, tmp_path):
    images = torch.rand(3, channels, 4, 4)
    save_png_samples(iter([images[:2], images[2:]]), tmp_path / "s")
    read = Image.open(tmp_path / "s" / "000002.png")
    assert read.mode == mode
    np.testing.assert_array_equal(
        np.array(read).reshape(4, 4, channels), (images[2] * 255).round().byte().permute(1, 2, 0)
    )


def test_a_run_leaves_its_pictures(split_model, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    from genzoo.samplers.prior import PriorSampler

    prior = PriorSampler(PriorSampler.Config(name="prior"), latent_shape=(4,))
    write_panels(split_model, {"prior": prior}, images, tmp_path, seed=0, device="cpu")
    assert {path.name for path in tmp_path.iterdir()} == {"reconstruction.png", "prior.png", "prior_grid.png"}
    assert all(Image.open(path).size[0] > 200 for path in tmp_path.iterdir())
