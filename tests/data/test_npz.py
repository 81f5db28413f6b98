import zipfile

import numpy as np
import pytest

from genzoo.data import store
from genzoo.data.npz import NPZ
from genzoo.errors import UserError
from genzoo.images import arrays as headers


def noise(num=20, shape=(8, 8, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, *shape), np.uint8)


def save(path, compressed=False, **arrays):
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def prepare(root, **options):
    config = NPZ.Config(root=root, **{"size": 8, **options})
    return store.prepare(NPZ(config), config)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(headers, "CHUNK_BYTES", 1500)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "train, test",
    [
        ("train", "test"),
        ("x_train", "x_test"),
        ("X_train", "X_test"),
        ("Train", "TEST"),
        ("train_images", "test_images"),
        ("images", "test"),
        ("photos", "X_test"),
    ],
)
def test_named_splits(tmp_path, compressed, train, test):
    arrays = {"labels": np.zeros(3), train: noise(20), test: noise(5, seed=1)}
    splits = prepare(save(tmp_path / "a.npz", compressed, **arrays))
    np.testing.assert_array_equal(splits["train"].images, noise(20))
    np.testing.assert_array_equal(splits["test"].images, noise(5, seed=1))


def test_validation_split(tmp_path):
    splits = prepare(save(tmp_path / "a.npz", train=noise(6), val=noise(4), test=noise(5)))
    assert {name: len(split) for name, split in splits.items()} == {"train": 6, "valid": 4, "test": 5}
    splits = prepare(save(tmp_path / "b.npz", train=noise(6), val=noise(4)))
    assert {name: len(split) for name, split in splits.items()} == {"train": 6, "test": 4}


@pytest.mark.parametrize("name", ["images", "arr_0", "train"])
def test_one_array_is_split_by_fraction(tmp_path, name):
    images = noise(50)
    root = save(tmp_path / "a.npz", labels=np.arange(50), **{name: images})
    splits = prepare(root, test_fraction=0.3)
    assert len(splits["test"]) == 15 and len(splits["train"]) == 35
    together = np.concatenate([splits["train"].images, splits["test"].images])
    assert sorted(map(bytes, together)) == sorted(map(bytes, images))
    assert splits["test"].sha256 == prepare(root, test_fraction=0.3)["test"].sha256


@pytest.mark.parametrize(
    "arrays, message",
    [
        (
            ("masks", "photos"),
            "several arrays of images .*masks uint8 .*photos uint8 .*understood: train, x_train, .*images",
        ),
        (("masks", "photos", "test"), "several arrays of images"),
        (("test",), "no arrays of images"),
    ],
)
def test_arrays_whose_names_do_not_say_which_is_which(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        prepare(save(tmp_path / "a.npz", **{name: noise(7) for name in arrays}))


def test_layouts(tmp_path):
    images = noise(12)
    for stored in (images, images.transpose(0, 3, 1, 2).copy()):
        splits = prepare(save(tmp_path / "a.npz", train=stored, test=stored))
        np.testing.assert_array_equal(splits["train"].images, images)
    grey = noise(12, (8, 8))
    for stored in (grey, grey[..., None], grey[:, None]):
        splits = prepare(save(tmp_path / "a.npz", train=stored, test=stored), channels=1)
        np.testing.assert_array_equal(splits["train"].images[..., 0], grey)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"images": np.full((4, 8, 8, 3), 7.0)}, r"'images' has values from 7 to 7; .*x / 255"),
        ({"images": np.full((4, 8, 8, 3), -0.5)}, r"'images' has values from -0.5 .*\(x \+ 1\) / 2"),
        ({"images": np.full((4, 8, 8, 3), np.nan)}, "not finite"),
        ({"train": np.zeros((4, 8, 8, 3), np.int64)}, "'train' is int64, not uint8"),
        ({"images": noise(4, (9, 9, 3))}, r"shape \(4, 9, 9, 3\).*data.size and data.channels"),
        ({"images": noise(4, (8, 8, 1))}, "data.size and data.channels"),
        ({"images": noise(4, (8, 8))}, "data.size and data.channels"),
        ({"images": np.asfortranarray(noise(4))}, "Fortran order"),
        (
            {"labels": np.arange(4), "complex": np.zeros((4, 8, 8, 3), complex)},
            r"no array 'train' or 'images'.*labels int64 \(4,\)",
        ),
        ({"images": np.array([{}, {}], object)}, "'images' is object, not uint8"),
        ({"images": noise(0)}, "there are no images"),
        ({"images": noise(1)}, "there are no images"),
        ({"images": np.uint8(3)}, "data.size"),
        ({}, "no array"),
    ],
)
def test_arrays_that_are_not_images_are_refused(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        prepare(save(tmp_path / "a.npz", **arrays))


def test_files_that_are_not_npz_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    with zipfile.ZipFile(tmp_path / "junk.npz", "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00\xff\xffjunk")
    with zipfile.ZipFile(tmp_path / "lzma.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("images.npy", b"")
    for root, message in [
        (None, "data.root is not set"),
        (tmp_path / "absent.npz", "there is no file"),
        (tmp_path, "there is no file"),
        (tmp_path / "text.npz", "not a readable .npz"),
        (tmp_path / "junk.npz", "not a readable .npz"),
        (tmp_path / "lzma.npz", "neither stored nor deflated"),
    ]:
        with pytest.raises(UserError, match=message):
            prepare(root)


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_noticed(tmp_path, compressed, cache):
    root = save(tmp_path / "a.npz", compressed, images=noise(200))
    content = bytearray(root.read_bytes())
    content[len(content) // 2] ^= 1
    root.write_bytes(content)
    with pytest.raises(UserError, match=r"'images.npy' is (damaged|truncated)"):
        prepare(root)
    assert [path for path in (cache / "datasets").iterdir() if path.is_dir()] == []


def test_damage_is_noticed_whatever_zipfile_does_after_a_seek(tmp_path, monkeypatch):
    """Since Python 3.12 it compares no checksum then."""
    root = save(tmp_path / "a.npz", images=noise(200))
    content = bytearray(root.read_bytes())
    content[len(content) // 2] ^= 1
    root.write_bytes(content)
    seek = zipfile.ZipExtFile.seek

    def unchecked_seek(self, *arguments):
        self._expected_crc = None
        return seek(self, *arguments)

    monkeypatch.setattr(zipfile.ZipExtFile, "seek", unchecked_seek)
    with pytest.raises(UserError, match=r"'images.npy' is damaged: Bad CRC-32"):
        prepare(root)


@pytest.mark.parametrize(
    ("stop", "more", "message"), [(-10, b"", "truncated"), (None, b"more", "longer than its header")]
)
def test_an_array_that_is_not_as_long_as_it_says(tmp_path, stop, more, message):
    root = save(tmp_path / "whole.npz", images=noise(20))
    with zipfile.ZipFile(root) as archive, zipfile.ZipFile(tmp_path / "other.npz", "w") as other:
        other.writestr("images.npy", archive.read("images.npy")[:stop] + more)
    with pytest.raises(UserError, match=rf"'images.npy' is {message}"):
        prepare(tmp_path / "other.npz")


def test_memory_stays_bounded(tmp_path, less_than, monkeypatch):
    monkeypatch.setattr(headers, "CHUNK_BYTES", 1 << 20)
    root = save(tmp_path / "a.npz", compressed=True, images=np.zeros((1000, 128, 128, 3), np.uint8))  # 49 MB
    with less_than(12):
        assert len(prepare(root, size=128)["train"]) == 900
