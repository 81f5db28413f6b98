import io
import struct
import tarfile

import numpy as np
import pytest

from genzoo.data import store
from genzoo.data.cifar10 import CIFAR10
from genzoo.errors import UserError


def prepare(cls, **options):
    config = cls.Config(**options)
    return store.prepare(cls(config), config)


# CIFAR-10: six files of 20 images.

BATCHES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]


def batch(name):
    return np.random.default_rng(BATCHES.index(name)).integers(0, 256, (20, 3, 32, 32), np.uint8)


def binary(name):
    labels = np.full((20, 1), 7, np.uint8)
    return np.concatenate([labels, batch(name).reshape(20, 3072)], axis=1).tobytes()


def python(name):
    """A pickle as Python 2 wrote it: {'batch_label': ..., 'data': array}, its pixels one BINSTRING."""
    pixels = batch(name).tobytes()
    return (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x05a nicU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x14M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"\x89T" + struct.pack("<I", len(pixels)) + pixels + b"tbu."
    )


LAYOUTS = {"cifar-10-batches-bin": (".bin", binary), "cifar-10-batches-py": ("", python)}


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(CIFAR10, "batch_images", 20)


def write_cifar(root, layout):
    suffix, encode = LAYOUTS[layout]
    (root / layout).mkdir(parents=True)
    for name in BATCHES:
        (root / layout / (name + suffix)).write_bytes(encode(name))
    return root / layout


def check_cifar(splits):
    expected = np.concatenate([batch(name) for name in BATCHES]).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(splits["train"].images, expected[:100])
    np.testing.assert_array_equal(splits["test"].images, expected[100:])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cifar_layouts(tmp_path, small_batches, layout):
    folder = write_cifar(tmp_path, layout)
    check_cifar(prepare(CIFAR10, root=tmp_path))
    check_cifar(prepare(CIFAR10, root=folder))
    archive = tmp_path / "archive" / f"cifar-10-{'binary' if layout.endswith('bin') else 'python'}.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, layout)
    check_cifar(prepare(CIFAR10, root=archive.parent))
    packed = bytearray(archive.read_bytes())
    packed[-8] ^= 1  # of the checksum
    for content in (packed[:-5000], packed):
        archive.write_bytes(content)
        with pytest.raises(UserError, match=f"{archive.name} is damaged"):
            prepare(CIFAR10, root=archive.parent)


def test_a_cifar_pickle_is_never_executed(tmp_path, small_batches):
    folder = write_cifar(tmp_path, "cifar-10-batches-py")
    trap = tmp_path / "executed"
    evil = b"cos\nmkdir\nX" + struct.pack("<I", len(str(trap))) + str(trap).encode() + b"\x85R0"
    for name in BATCHES:
        content = python(name)
        (folder / name).write_bytes(content[:2] + evil + content[2:])
    check_cifar(prepare(CIFAR10, root=tmp_path))
    assert not trap.exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bad_cifar_files_are_named(tmp_path, small_batches, layout):
    folder = write_cifar(tmp_path, layout)
    suffix, encode = LAYOUTS[layout]
    path = folder / f"data_batch_3{suffix}"
    path.write_bytes(encode("data_batch_3")[:-100])
    with pytest.raises(UserError, match=f"data_batch_3{suffix} is truncated or damaged"):
        prepare(CIFAR10, root=tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=f"not complete: {path.name} missing"):
        prepare(CIFAR10, root=tmp_path)


def test_tar_members_are_read_by_name_only(tmp_path, small_batches):
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for name in ["../evil", *(f"cifar-10-batches-bin/{name}.bin" for name in BATCHES)]:
            info = tarfile.TarInfo(name)
            content = b"evil" if "evil" in name else binary(name.split("/")[1].removesuffix(".bin"))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    check_cifar(prepare(CIFAR10, root=tmp_path))
    assert not (tmp_path.parent / "evil").exists()
