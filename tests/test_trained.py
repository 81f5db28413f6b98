"""A trained run put to use: what users give is read as the model saw its images, and files are what the model makes."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given as tried
from hypothesis import strategies as st
from PIL import Image

from genzoo.data.size import central
from genzoo.given import given, unique
from genzoo.loading import load


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """name -> a run of two steps: split (one channel, 32 x 32) and faces (three channels)."""
    from genzoo.recipe import read
    from genzoo.run import run

    words = ["train.steps=2", "train.batch_size=4", "train.precision=fp32", "evaluation.num_samples=2", "report=false",
             "evaluation.metrics=[]", "samplers=[prior]", "model.encoder.base_dim=2", "model.encoder.embed_dim=8",
             "model.latent.dim=3", "model.head.decoder.base_dim=2"]  # fmt: skip
    root = tmp_path_factory.mktemp("trained")
    run(read("svae_digits", words), root / "split")
    run(read("svae_digits", [*words, "data={name: faces, num_train: 8, num_test: 6, size: 32}"]), root / "faces")
    return {name: root / name for name in ("split", "faces")}


@pytest.fixture
def pictures(tmp_path):
    """A folder of odd pictures, names too."""
    rng = np.random.default_rng(0)
    sizes = {"a.png": (32, 32), "sub/b ü.jpg": (50, 40), "sub/a.webp": (20, 61), "sub/a.png": (33, 32)}
    for name, (w, h) in sizes.items():
        file = tmp_path / "own" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)).save(file)
    return tmp_path / "own"


def read_all(source, size=3):
    return np.concatenate(list(source.batches(size)))


def opened(path):
    return np.asarray(Image.open(path))


@tried(st.integers(1, 300), st.integers(1, 300), st.integers(1, 900), st.integers(1, 900))
def test_the_central_box_has_the_proportions_and_is_the_largest(height, width, w, h):
    left, upper, right, lower = central((3, height, width))(w, h)
    assert 0 <= left < right <= w and 0 <= upper < lower <= h
    assert right - left == w or lower - upper == h, "it touches two sides"
    assert abs((right - left) - (lower - upper) * width / height) <= max(1, width / height)
    assert abs(left - (w - right)) <= 1 and abs(upper - (h - lower)) <= 1, "as much is cut off on both sides"


@tried(st.lists(st.text("ab._/", min_size=1, max_size=6).map(lambda t: t + ".png"), max_size=9, unique=True))
def test_names_stay_different(names):
    from genzoo.errors import UserError

    try:
        made = unique(names)
    except UserError:
        return
    assert len(set(made)) == len(names)


def test_every_way_of_giving_the_same_images_is_the_same(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    folder = tmp_path / "folder"
    folder.mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k}.png")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    np.savez(tmp_path / "images.npz", images=images)
    np.save(tmp_path / "images.npy", images.transpose(0, 3, 1, 2) / 255)
    for name in ("folder", "images.zip", "images.npz", "images.npy"):
        assert (read_all(given(str(tmp_path / name), (3, 32, 32))) == images).all()
    one = given(str(folder / "3.png"), (3, 32, 32))
    assert one.names == ["3"] and (read_all(one) == images[3:4]).all()


def test_photographs_are_turned_upright_and_only_their_middle_is_kept(tmp_path):
    image = np.zeros((40, 20, 3), np.uint8)
    image[:10] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # stored sideways
    Image.fromarray(np.rot90(image)).save(tmp_path / "sideways.png", exif=exif)
    Image.fromarray(image).save(tmp_path / "upright.png")
    made = read_all(given(str(tmp_path), (3, 40, 20)))
    assert (made[0] == made[1]).all() and (made[0] == image).all()
    assert (read_all(given(str(tmp_path), (1, 10, 10))) == 0).all(), "the middle is black"


@pytest.mark.parametrize("name", ["split", "faces"])
def test_reconstructions_are_what_the_model_makes(trained, pictures, call, tmp_path, name):
    code, out, err = call("reconstruct", trained[name], pictures, "--out", "made")
    assert code == 0 and "4 images" in out, err
    model = load(trained[name])
    source = given(str(pictures), model.image_shape)
    x = torch.from_numpy(read_all(source)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        made = model.decode(model.encode(x).mean)
    expected = (made.image * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    assert sorted(str(file.relative_to("made").with_suffix("")) for file in Path("made").rglob("*.png")) == sorted(
        source.names
    )
    for file, pixels in zip(source.names, expected, strict=True):
        assert (opened(f"made/{file}.png").reshape(pixels.shape) == pixels).all()


def test_parts_go_into_folders_and_originals_beside(trained, pictures, call, tmp_path):
    for words, out in (
        (["--part", "sigma", "--part", "y"], "parts"),
        (["--beside", "--part", "sigma", "--part", "y"], "beside"),
    ):
        code, _, err = call("reconstruct", trained["faces"], pictures, "--out", out, *words)
        assert code == 0, err
    sigma, y, whole = opened("parts/sigma/a.png"), opened("parts/y/a.png"), opened("beside/a.png")
    assert sigma.shape == (32, 32) and y.shape == (32, 32, 3)
    assert whole.shape == (32, 3 * 32 + 2 * 2, 3)
    assert (whole[:, :32] == opened(pictures / "a.png")).all(), "it has the model's size already"
    assert (whole[:, 34:66] == sigma[..., None]).all() and (whole[:, 68:] == y).all()


def test_what_is_encoded_decodes_to_the_reconstructions(trained, pictures, call, tmp_path):
    for words in (["reconstruct", trained["split"], pictures, "--out", "a"], ["encode", trained["split"], pictures, "--out", "z.npz"],
                  ["decode", trained["split"], "z.npz", "--out", "b"]):  # fmt: skip
        code, _, err = call(*words)
        assert code == 0, err
    with np.load("z.npz", allow_pickle=False) as kept:
        assert kept["mean"].shape == kept["variance"].shape == (4, 3) and (kept["variance"] > 0).all()
        assert int(kept["checkpoint_step"]) == 2 and "bicubic" in str(kept["processing"])
    files = sorted(file.relative_to("a") for file in Path("a").rglob("*.png"))
    assert files == sorted(file.relative_to("b") for file in Path("b").rglob("*.png")) and len(files) == 4
    assert all((opened(Path("a") / file) == opened(Path("b") / file)).all() for file in files)


def test_a_split_of_a_dataset_can_be_given(trained, call, tmp_path):
    code, out, err = call("encode", trained["split"], "digits:test", "--out", "z.npz")
    assert code == 0 and "mean 360 x 3" in out, err


@pytest.mark.parametrize(
    "arrays, said",
    [
        ({"z": np.zeros((2, 4))}, "latents of this model are n x 3"),
        ({"z": np.zeros((0, 3))}, "latents of this model are n x 3"),
        ({"z": np.full((2, 3), np.nan)}, "not finite"),
        ({"z": np.array(["a", "b"])}, "latents of this model are n x 3"),
        *(
            ({"z": np.zeros((2, 3)), "names": np.array(["a", name])}, "is no name for a file inside the folder")
            for name in ("../b", "/tmp/b", "", ".", "a\0b", "a\nb", "\x1b]0;owned\x07", "\ud800")
        ),
        ({"z": np.zeros((2, 3)), "names": np.full(2, 0x110000, "<u4").view("<U1")}, "holds no names"),
        ({"z": np.array([[1, 2, 3], None], object)}, "cannot be read"),
        ({"other": np.zeros((2, 3))}, "no array z or mean"),
    ],
)
def test_latents_that_cannot_be_decoded_are_refused(trained, call, tmp_path, arrays, said):
    np.savez(tmp_path / "z.npz", **arrays)
    code, _, err = call("decode", trained["split"], "z.npz", "--out", "made")
    assert code == 2 and said in err and not Path("made").exists()


def test_mistakes_are_told(trained, pictures, call, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "old.png").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "bad.png").write_bytes(b"no picture")
    for words, said in (
        (["reconstruct", trained["split"], pictures, "--out", "full"], "not an empty folder"),
        (["reconstruct", trained["split"], pictures, "--out", "made", "--part", "y3"], "makes no part 'y3'"),
        (["reconstruct", trained["split"], "empty", "--out", "made"], "no image files"),
        (["reconstruct", trained["split"], "absent", "--out", "made"], "there is no absent"),
        (["encode", trained["split"], "broken", "--out", "z.npz"], "bad.png"),
        (["encode", trained["split"], pictures, "--out", "z.txt"], "in an .npz file"),
        (["decode", trained["split"], "absent.npz", "--out", "made"], "there is no file"),
        (["decode", "empty", "z.npz", "--out", "made"], "not a run folder"),
    ):
        code, _, err = call(*words)
        assert code == 2 and said in err, words
    assert not (tmp_path / "z.npz").exists()


@pytest.mark.parametrize("name, part", [("split", "y"), ("faces", "sigma")])
def test_panels_are_drawn(trained, call, tmp_path, name, part):
    code, out, err = call("panels", trained[name], "--out", "made", "--part", part)
    assert code == 0, err
    files = {Path(line).name: Image.open(line) for line in out.splitlines()}
    assert files.keys() == {"interpolation.png", "interpolation_animated.png", "traversal.png", "nearest.png"}
    animation = files["interpolation_animated.png"]
    assert animation.width > 3.9 * animation.height, "y, sigma, y1, y2 side by side"
    sizes = {"interpolation.png": (11, 5 if name == "faces" else 6), "traversal.png": (9, 3)}
    for file, (columns, rows) in sizes.items():
        assert files[file].height == 2 + rows * 66 and files[file].width > columns * 66


def test_an_animation_has_a_frame_for_every_image(tmp_path):
    from genzoo.parts import Composition
    from genzoo.reports.panels import _animate

    image = torch.linspace(0, 1, 7).view(7, 1, 1, 1).expand(7, 3, 8, 8)
    _animate(Composition(image, {}, {"sigma": image[:, :1]}), tmp_path / "moving.png")
    moving = Image.open(tmp_path / "moving.png")
    assert (moving.n_frames, moving.height) == (7, 128)
    for k in range(7):
        moving.seek(k)
        assert moving.convert("RGB").getpixel((5, 5)) == (round(255 * k / 6),) * 3


def test_panels_refuse_a_part_that_is_not_there(trained, call, tmp_path):
    code, _, err = call("panels", trained["split"], "--out", "made", "--part", "y9")
    assert code == 2 and "makes no part 'y9'" in err


def test_the_nearest_training_images_are_found_across_blocks(monkeypatch):
    from genzoo.reports import panels

    monkeypatch.setattr(panels, "BLOCK", 7)
    training = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
    chosen = [3, 48, 20]
    samples = torch.from_numpy(training[chosen]).permute(0, 3, 1, 2).float() / 255
    rows = panels._beside_nearest(samples, training)
    assert torch.equal(rows["nearest 1"], samples)
    distances = np.linalg.norm((training[chosen][:, None].astype(float) - training[None]).reshape(3, 50, -1), axis=2)
    for k in (1, 2):
        expected = training[distances.argsort(axis=1)[:, k]]
        assert (rows[f"nearest {k + 1}"].permute(0, 2, 3, 1).numpy() * 255).round().astype(
            np.uint8
        ).tolist() == expected.tolist()


def test_python_does_the_same(trained, pictures):
    import genzoo

    model = genzoo.load(trained["faces"])
    x = torch.from_numpy(read_all(given(str(pictures), model.image_shape))).permute(0, 3, 1, 2).float() / 255
    made = model.reconstruct(x)
    assert torch.allclose(made.image, model.decode(model.encode(x).mean).image) and set(made.parts) == {
        "sigma",
        "y1",
        "y2",
    }
    way = model.interpolate(x[0], x[1], 5)
    assert way.image.shape == (5, 3, 32, 32) and not way.image.requires_grad
    assert torch.allclose(way.image[[0, -1]], model.reconstruct(x[:2]).image, atol=1e-5)
    assert torch.equal(model.sample(3, seed=1).image, model.sample(3, seed=1).image)
    assert not torch.equal(model.sample(3).image, model.sample(3).image)
    with pytest.raises(ValueError, match="this model takes"):
        model.reconstruct(x[:, :1])
