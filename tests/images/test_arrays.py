"""Arrays as people have them: any usual layout and range is one and the same images; headers that lie are not believed."""

import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from genzoo.data.folder import Folder
from genzoo.data.npz import NPZ
from genzoo.data.store import prepare
from genzoo.errors import UserError
from genzoo.evaluation.compare import compare
from genzoo.evaluation.config import EvaluationConfig
from genzoo.images import arrays as module
from genzoo.images.arrays import Pictures, open_arrays
from genzoo.images.pixels import eight_bits, layout_of, to_uint8
from genzoo.sides import side

RGB = np.random.default_rng(0).integers(0, 256, (12, 9, 11, 3), np.uint8)
GREY = np.random.default_rng(1).integers(0, 256, (12, 9, 11), np.uint8)

FORMS = {
    "uint8 b h w c": RGB,
    "uint8 b c h w": RGB.transpose(0, 3, 1, 2),
    "uint8 b h w c with alpha": np.concatenate([RGB, RGB[..., :1]], axis=3),
    "float32 b h w c": (RGB / 255).astype(np.float32),
    "float64 b c h w": RGB.transpose(0, 3, 1, 2) / 255,
    "float16 b h w c": (RGB / 255).astype(np.float16),
    "big-endian float": (RGB / 255).astype(">f4"),
    "uint16 b h w c": RGB.astype(np.uint16) * 257,
    "uint16 b c h w, big-endian": (RGB.astype(np.uint16) * 257).transpose(0, 3, 1, 2).astype(">u2"),
    "a little beyond [0, 1]": RGB / 255 * (1 + 2e-3) - 1e-3,
}
GREYS = {
    "uint8 b h w": GREY,
    "uint8 b h w 1": GREY[..., None],
    "float b 1 h w": GREY[:, None] / 255,
    "uint16 b h w": GREY.astype(np.uint16) * 257,
}


def folder(path, images):
    path.mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image).save(path / f"{k:02}.png")
    return path


def score(a, b):
    """Frechet distance on four numbers an image (`pixels`)."""
    metric = EvaluationConfig(metrics=[{"name": "fd", "features": "pixels"}]).metrics
    return compare(a, b, metric)[0]["value"]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("form", [*FORMS, *GREYS])
def test_every_form_of_array_gives_the_number_of_the_folder(tmp_path, pixels, form, suffix):
    values = FORMS[form] if form in FORMS else GREYS[form]
    images = folder(tmp_path / "images", RGB if form in FORMS else GREY)
    other = folder(tmp_path / "other", np.random.default_rng(2).integers(0, 256, (12, 20, 20, 3), np.uint8))
    np.save(tmp_path / "a.npy", values) if suffix == ".npy" else np.savez(tmp_path / "a.npz", values)
    expected = score(side(images), side(other))
    assert score(side(tmp_path / f"a{suffix}"), side(other)) == pytest.approx(expected, abs=1e-3) and expected > 1
    tensor = torch.from_numpy(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("=")))
    assert score(side(tensor), side(other)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("form", [*FORMS, *GREYS])
def test_training_takes_the_same_forms_and_the_same_pixels(tmp_path, form, monkeypatch):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "CHUNK_BYTES", 1500)
    values = FORMS[form] if form in FORMS else GREYS[form]
    channels = 1 if form in GREYS else 4 if "alpha" in form else 3
    np.savez(tmp_path / "a.npz", train=values, test=values[:2])
    config = NPZ.Config(root=tmp_path / "a.npz", size=[9, 11], channels=channels)
    trained_on = prepare(NPZ(config), config)["train"].images
    np.savez(tmp_path / "b.npz", values)
    scored = np.stack(list(side(tmp_path / "b.npz").read(np.arange(12))))
    np.testing.assert_array_equal(trained_on, scored)
    if "beyond" not in form and channels == 3:
        np.testing.assert_array_equal(scored, RGB)


def test_a_bare_array_is_split_by_fraction(tmp_path, monkeypatch):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    np.save(tmp_path / "a.npy", RGB / 255)
    config = NPZ.Config(root=tmp_path / "a.npy", size=[9, 11], test_fraction=0.25)
    splits = prepare(NPZ(config), config)
    assert {name: len(split) for name, split in splits.items()} == {"train": 9, "test": 3}


def test_a_folder_of_16_bits_trains_and_scores_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    values = np.random.default_rng(3).integers(0, 65536, (12, 9, 9), np.uint16)
    root = folder(tmp_path / "deep", values)
    config = Folder.Config(root=root, size=9, channels=1, test_fraction=0.2)
    trained_on = np.concatenate([split.images for split in prepare(Folder(config), config).values()])
    scored = np.stack(list(side(root).read(np.arange(12))))
    np.save(tmp_path / "deep.npy", values)
    for other in (scored, np.stack(list(side(tmp_path / "deep.npy").read(np.arange(12))))):
        assert sorted(map(bytes, trained_on)) == sorted(map(bytes, other))
    np.testing.assert_array_equal(scored[..., 0], np.round(values / 257))


@given(st.integers(1, 65535), st.data())
def test_levels_are_rounded_to_the_nearest(largest, data):
    values = np.array(data.draw(st.lists(st.integers(0, largest), min_size=1, max_size=20)))
    assert np.abs(eight_bits(values, largest) - values * 255 / largest).max() <= 0.5 + 1e-9


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_floats_are_rounded_as_samples_are(values):
    from genzoo.evaluation.images import quantize

    x = np.array(values, np.float32)
    np.testing.assert_array_equal(to_uint8(x, "x"), quantize(torch.from_numpy(x)).numpy())


@pytest.mark.parametrize(
    "values, message",
    [
        (RGB / 127.5 - 1, r"from -1 to 1; .*\(x \+ 1\) / 2"),
        (RGB.astype(np.float32), r"from 0 to 255; .*x / 255 .*x.round\(\).astype\('uint8'\)"),
        (RGB * 100.0, "scale them to that"),
        (np.where(RGB == 7, np.nan, 0), "not finite"),
        (np.where(RGB == 7, np.inf, 0), "not finite"),
        (RGB.astype(np.int64), r"is int64, not uint8.*astype\('uint8'\)"),
        (RGB > 100, "is bool, not uint8"),
        (RGB[0], r"the shape \(9, 11, 3\), not b h w c"),
        (RGB[..., :2], r"the shape \(12, 9, 11, 2\)"),
        (RGB[None], "not b h w c"),
        (RGB[:0], "no images"),
        (np.asfortranarray(RGB), "Fortran order"),
    ],
)
def test_what_is_no_image_is_refused_with_the_conversion(tmp_path, values, message):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UserError, match=message) as caught:
        side(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


def test_several_arrays_of_images_are_told_apart_by_the_user(tmp_path):
    path = tmp_path / "med.npz"
    np.savez(path, val_images=RGB[:5], train_images=RGB, train_labels=np.zeros((12, 1)))
    with pytest.raises(UserError, match=rf"several arrays of images \(.*\): say which, {path}:train_images"):
        side(path)
    assert side(f"{path}:train_images").num == 12 and side(f"{path}:val_images").num == 5
    with pytest.raises(UserError, match=r"no array 'train_image'; did you mean 'train_images'"):
        side(f"{path}:train_image")
    with pytest.raises(UserError, match=r"train_labels.*has the shape"):
        side(f"{path}:train_labels")


def npy(shape, kind="|u1", data=b"", order=False):
    text = repr({"descr": kind, "fortran_order": order, "shape": shape}).encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + data


LIES = [
    (10**12, 8, 8, 3),
    (2**62, 2, 2, 3),
    (-4, 8, 8, 3),
    (True, 8, 8, 3),
    (4, 8, 8, -3),
    (-4, -8, 8, 3),
    (5, 8, 8, 3),
    (3, 8, 8, 3),
    (10**30,),
]


@pytest.mark.parametrize("shape", LIES)
@pytest.mark.parametrize("packed", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_headers_are_compared_with_the_bytes(tmp_path, shape, packed):
    data = npy(shape, data=RGB.tobytes()[: 4 * 8 * 8 * 3])
    path = tmp_path / ("a.npy" if packed is None else "a.npz")
    if packed is None:
        path.write_bytes(data)
    else:
        with zipfile.ZipFile(path, "w", packed) as archive:
            archive.writestr("images.npy", data)
    config = NPZ.Config(root=path, size=8)
    for read in (lambda: side(path), lambda: prepare(NPZ(config), config)):
        with pytest.raises(
            UserError, match=r"not a readable \.np[yz] file: the array .* is (no array|truncated|longer)"
        ):
            read()


def test_a_directory_of_a_zip_that_lies_is_not_believed(tmp_path):
    """Sizes stand in the local header, and in the directory, and nothing but the bytes says which is right."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", npy((4_000_000, 8, 8, 3), data=b"\0" * 768))
    size = struct.pack("<I", 768 + len(npy((4_000_000, 8, 8, 3))))
    lie = struct.pack("<I", 4_000_000 * 192 + len(npy((4_000_000, 8, 8, 3))))
    content = (tmp_path / "a.npz").read_bytes()
    assert content.count(size) == 2
    (tmp_path / "a.npz").write_bytes(content.replace(size, lie))
    with pytest.raises(UserError, match="is truncated: it says 768000"):
        side(tmp_path / "a.npz")


def test_pickles_are_refused_by_what_they_are(tmp_path):
    class Mark:
        def __reduce__(self):
            return (tmp_path / "EXECUTED").mkdir, ()

    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Mark()))
    torch.save({"images": torch.zeros(3)}, tmp_path / "a.pt")
    torch.save([torch.zeros(3)], tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "objects.npz", images=np.array([Mark()], object))
    np.save(tmp_path / "objects.npy", np.array([Mark()], object))
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("a/b.py", "")
        archive.writestr("a/c.txt", "")
    (tmp_path / "a.tar").write_bytes(bytes(257) + b"ustar" + bytes(300))
    Image.fromarray(RGB[0]).save(tmp_path / "one.png")
    for name, message in {
        "a.pkl": "is a Python pickle, which is never loaded",
        "a.pt": "is a torch file, which is never loaded",
        "old.pt": "is a torch file, which is never loaded",
        "objects.npz": r"holds neither .* \(it holds images object",
        "objects.npy": "only a pickle can hold is never loaded",
        "code.zip": r"there are no images in .*passed over were 1 \.py, 1 \.txt",
        "a.tar": "is a tar archive: unpack it",
        "one.png": "is one image: give the folder",
    }.items():
        with pytest.raises(UserError, match=message):
            side(tmp_path / name)
        if name in ("a.pkl", "a.pt", "old.pt", "a.tar"):
            with pytest.raises(UserError, match=message):
                NPZ(NPZ.Config(name="npz", root=tmp_path / name)).locate()
    assert not (tmp_path / "EXECUTED").exists()


@given(st.lists(st.integers(0, 9), max_size=5).map(tuple))
def test_a_layout_names_every_axis_once(shape):
    layout = layout_of(shape)
    if layout:
        assert len(layout.split()) == len(shape) and set(layout.split()) <= set("bhwc")
        channels = dict(zip(layout.split(), shape, strict=True)).get("c", 1)
        assert channels in (1, 3, 4)
    else:
        assert len(shape) not in (3, 4) or not {1, 3, 4}.isdisjoint(shape[2:]) or len(shape) == 4


def test_only_headers_are_read_and_memory_stays_bounded(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((200_000, 8, 8, 3), np.float32))  # 154 MB in 150 kB
    array = open_arrays(tmp_path / "a.npz")["images"]
    sizes = [block.nbytes for block in Pictures.of(array).blocks()]
    assert max(sizes) <= module.CHUNK_BYTES // 4 and sum(sizes) == 200_000 * 192
