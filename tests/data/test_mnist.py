import gzip
import struct
import zlib

import numpy as np
import pytest

from genzoo import cache as user_cache
from genzoo.cache import download
from genzoo.data import mnist, store
from genzoo.data.cifar10 import CIFAR10
from genzoo.data.mnist import MNIST, FashionMNIST
from genzoo.errors import UserError

COUNTS = {"train": 30, "test": 12}


def digits(split):
    return np.random.default_rng(len(split)).integers(0, 256, (COUNTS[split], 28, 28), np.uint8)


def write_idx(folder, opener=open, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in MNIST.files.items():
        with opener(folder / (name + suffix), "wb") as file:
            file.write(struct.pack(">4I", 0x803, COUNTS[split], 28, 28) + digits(split).tobytes())


@pytest.fixture(autouse=True)
def miniature(monkeypatch):
    monkeypatch.setattr(MNIST, "num_images", COUNTS)


def prepare(cls, **options):
    config = cls.Config(**options)
    return store.prepare(cls(config), config)


@pytest.mark.parametrize("below", ["FashionMNIST/raw", "raw", "."])
@pytest.mark.parametrize("opener, suffix", [(open, ""), (gzip.open, ".gz")])
def test_idx_layouts(tmp_path, below, opener, suffix):
    write_idx(tmp_path / below, opener, suffix)
    splits = prepare(FashionMNIST, root=tmp_path)
    for split in COUNTS:
        images = splits[split].images
        assert images.shape == (COUNTS[split], 32, 32, 1)
        np.testing.assert_array_equal(images[:, 2:30, 2:30, 0], digits(split))
        assert images.sum() == digits(split).sum(dtype=np.int64)  # the border is zero


def test_sizes(tmp_path):
    write_idx(tmp_path)
    np.testing.assert_array_equal(prepare(MNIST, root=tmp_path, size=28)["test"].images[..., 0], digits("test"))
    odd = prepare(MNIST, root=tmp_path, size=31)["test"].images
    np.testing.assert_array_equal(odd[:, 1:29, 1:29, 0], digits("test"))
    with pytest.raises(ValueError, match="greater than or equal to 28"):
        MNIST.Config(size=27)


def test_reading_goes_on_after_any_image(tmp_path):
    write_idx(tmp_path)
    dataset = MNIST(MNIST.Config(root=tmp_path, size=28))
    dataset.locate()
    for start in (0, 6, 7, 29):
        np.testing.assert_array_equal(
            np.concatenate(list(dataset.read("train", start)))[..., 0], digits("train")[start:]
        )


@pytest.mark.parametrize("split", COUNTS)
def test_mnist_is_not_taken_for_fashion_mnist(tmp_path, monkeypatch, split):
    write_idx(tmp_path / "MNIST" / "raw")
    monkeypatch.setitem(mnist.MNIST_CRC32, split, zlib.crc32(digits(split)[0]))
    assert len(prepare(MNIST, root=tmp_path / "MNIST")["train"]) == 30
    with pytest.raises(UserError, match=f"{MNIST.files[split]} is MNIST's"):
        prepare(FashionMNIST, root=tmp_path / "MNIST")


def test_read_only_root(tmp_path):
    write_idx(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw").chmod(0o555)
    assert len(prepare(MNIST, root=tmp_path)["train"]) == 30
    (tmp_path / "MNIST" / "raw").chmod(0o755)


def test_bad_idx_files_are_named(tmp_path):
    write_idx(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for content, message in [
        (whole[:-1], "truncated .it ends in image 29.: fetch it again"),
        (whole + b"more", "longer than its 30 images: fetch it again"),
        (whole[:10], "not an idx3-ubyte file"),
        (b"<html>" + whole, "not an idx3-ubyte file"),
        (struct.pack(">4I", 0x803, 5, 28, 28), r"holds an array of \(5, 28, 28\), not"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{path.name}.*{message}"):
            prepare(MNIST, root=tmp_path)
    path.unlink()
    packed = bytearray(gzip.compress(whole))
    packed[-8] ^= 1  # of the checksum
    for content, message in [(packed[:-300], "end-of-stream"), (packed, "CRC check failed")]:
        path.with_suffix(".gz").write_bytes(content)
        with pytest.raises(UserError, match=f"train-images-idx3-ubyte.gz cannot be read: .*{message}"):
            prepare(MNIST, root=tmp_path)


def test_missing_files_say_what_to_fetch_and_where_to_put_it(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=rf"train-images-idx3-ubyte.gz is not in {tmp_path}.*fetch http.*mnist"):
        prepare(MNIST, root=tmp_path)
    with pytest.raises(UserError, match=r"cifar-10-binary.tar.gz is not in .*fetch https://www.cs.toronto.edu"):
        prepare(CIFAR10, root=tmp_path)

    def offline(urls, target, checksum):
        raise OSError(f"{urls[0]}: no network")

    monkeypatch.setattr(user_cache, "download", offline)
    for cls in (MNIST, FashionMNIST, CIFAR10):
        with pytest.raises(UserError, match=r"cannot be downloaded .*: no network.*another machine.*data.root"):
            prepare(cls)


def test_download_is_checked_and_appears_when_it_is_whole(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"hello")
    target = tmp_path / "new" / "target"
    with pytest.raises(OSError, match="its md5 is 5d41402abc4b2a76b9719d911017c592, not 00"):
        download([source.as_uri(), (tmp_path / "none").as_uri()], target, "md5:00")
    assert list(target.parent.iterdir()) == []
    download([(tmp_path / "none").as_uri(), source.as_uri()], target, "md5:5d41402abc4b2a76b9719d911017c592")
    assert target.read_bytes() == b"hello" and len(list(target.parent.iterdir())) == 1
