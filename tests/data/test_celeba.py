import functools
import io
import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from genzoo.data import celeba, store
from genzoo.data.celeba import CelebA
from genzoo.errors import UserError

# A miniature: some images of each official range.
NUMBERS = [1, 2, 162770, 162771, 182637, 182638, 202599]
OFFICIAL = {"train": [1, 2, 162770], "valid": [162771, 182637], "test": [182638, 202599]}


def picture(number):
    return np.random.default_rng(number).integers(0, 256, (218, 178, 3), np.uint8)


def jpeg(number, size=None):
    buffer = io.BytesIO()
    image = Image.fromarray(picture(number))
    (image.resize(size) if size else image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


JPEGS = {f"{number:06}.jpg": jpeg(number) for number in NUMBERS}


@functools.cache
def prepared(number, size=64):
    """Crop and resize done once more, by hand: Pillow's bilinear filter is a triangle of the scale's width."""
    image = np.asarray(Image.open(io.BytesIO(JPEGS[f"{number:06}.jpg"]))).astype(float)[45:173, 25:153]
    scale = 128 / size
    centers = (np.arange(size) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(128) + 0.5 - centers[:, None]) / scale)
    weights /= weights.sum(1, keepdims=True)
    return np.einsum("yr,rcd,xc->yxd", weights, image, weights, optimize=True)


def write(root, contents):
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def zipped(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def under(folder, contents=JPEGS):
    return {f"{folder}/{name}": content for name, content in contents.items()}


def prepare(root=None, **options):
    config = CelebA.Config(root=root, **{"allow_partial": True, **options})
    return store.prepare(CelebA(config), config)


def check(splits, numbers=OFFICIAL):
    assert list(splits) == ["train", "valid", "test"]
    for name, expected in numbers.items():
        images = splits[name].images
        assert images.shape == (len(expected), 64, 64, 3)
        for image, number in zip(images, expected, strict=True):
            assert np.abs(image - prepared(number)).max() <= 1


KAGGLE_CSV = b"image_id,partition\n" + b"".join(b"%06d.jpg,%d\n" % (number, number % 3) for number in NUMBERS)
KAGGLE = {split: [number for number in NUMBERS if number % 3 == index] for index, split in enumerate(CelebA.splits)}
TXT = b"".join(b"%06d.jpg %d\n" % (number, number % 3) for number in NUMBERS)


@pytest.mark.parametrize("around", ["", "img_align_celeba/", "celeba/", "CelebA/Img/"])
def test_unpacked_layouts(tmp_path, around):
    below = f"{around}img_align_celeba"
    check(prepare(write(tmp_path / "root", under(below))))
    check(prepare(tmp_path / "root" / below))


ZIPS = ["img_align_celeba.zip", "celeba/img_align_celeba.zip", "archive.zip", "Img/img_align_celeba.zip"]


@pytest.mark.parametrize("place", ZIPS)
def test_zip_layouts(tmp_path, place):
    path = zipped(tmp_path / "CelebA" / place, under("img_align_celeba/img_align_celeba"))
    if not place.startswith("celeba/"):
        check(prepare(tmp_path))
    check(prepare(tmp_path / "CelebA"))
    check(prepare(path))
    check(prepare(path.rename(path.with_name("other name.zip"))))


def test_kaggle_zip_and_folder_with_their_partition(tmp_path):
    contents = {**under("img_align_celeba/img_align_celeba"), "list_eval_partition.csv": KAGGLE_CSV}
    check(prepare(zipped(tmp_path / "archive.zip", contents)), KAGGLE)
    check(prepare(write(tmp_path / "kaggle", contents)), KAGGLE)


@pytest.mark.parametrize("folder", ["", "img_align_celeba/", "Eval/"])
def test_official_partition_file(tmp_path, folder):
    root = write(tmp_path / "root", under("img_align_celeba") | {f"{folder}list_eval_partition.txt": TXT})
    check(prepare(root), KAGGLE)
    everything_valid = re.sub(rb" \d\n", b" 1\n", TXT).replace(b"000001.jpg 1", b"000001.jpg 0")
    (root / f"{folder}list_eval_partition.txt").write_bytes(everything_valid)
    with pytest.raises(UserError, match=r"no image of the split 'test' \(by .*list_eval_partition.txt \(sha256"):
        prepare(root)


def test_partition_that_does_not_know_an_image(tmp_path):
    root = write(tmp_path, under("img_align_celeba") | {"list_eval_partition.txt": TXT.replace(b"162770", b"162769")})
    with pytest.raises(UserError, match=r"162770.jpg is in no split of .*list_eval_partition.txt"):
        prepare(root)


def test_official_ranges(tmp_path):
    split_of, rule = celeba._partition(celeba.Tree(tmp_path, (".jpg",)))
    assert rule == "official ranges of file numbers"
    counts = {split: list(split_of.values()).count(split) for split in CelebA.splits}
    assert counts == {"train": 162_770, "valid": 19_867, "test": 19_962} and len(split_of) == 202_599
    assert [split_of[number] for number in (1, 162_770, 162_771, 182_637, 182_638, 202_599)] == [
        "train", "train", "valid", "valid", "test", "test"
    ]  # fmt: skip


def test_a_wrong_count_says_what_is_missing(tmp_path):
    root = write(tmp_path / "root", under("img_align_celeba"))
    message = r"lacks 202,592 of CelebA's 202,599 images \(000003.jpg, 000004.jpg, .*allow_partial"
    with pytest.raises(UserError, match=message):
        prepare(root, allow_partial=False)
    (root / "img_align_celeba" / "182638.jpg").unlink()
    (root / "img_align_celeba" / "202599.jpg").unlink()
    with pytest.raises(UserError, match="no image of the split 'test'"):
        prepare(root)


def test_two_images_of_one_number_are_named(tmp_path):
    contents = under("img_align_celeba") | {"img_align_celeba/masked/000002.jpg": jpeg(3)}
    message = "two images of one number, .*000002.jpg and .*masked/000002.jpg: set data.root"
    for root in (write(tmp_path / "root", contents), zipped(tmp_path / "img_align_celeba.zip", contents)):
        with pytest.raises(UserError, match=message):
            prepare(root)


def test_other_images_are_not_celeba(tmp_path):
    root = write(tmp_path / "root", under("img_align_celeba") | {"img_align_celeba/000001.jpg": jpeg(1, (409, 687))})
    message = "000001.jpg cannot be used: it has 409x687 pixels; the aligned images have 178x218"
    with pytest.raises(UserError, match=message):
        prepare(root)


def test_corrupt_images_are_named_or_skipped(tmp_path):
    broken = under("img_align_celeba") | {"img_align_celeba/000002.jpg": JPEGS["000002.jpg"][:5000]}
    for root in (write(tmp_path / "root", broken), zipped(tmp_path / "img_align_celeba.zip", broken)):
        with pytest.raises(UserError, match=r"000002.jpg cannot be used: image file is truncated"):
            prepare(root)
        splits = prepare(root, skip_corrupt=True)
        check(splits, OFFICIAL | {"train": [1, 162770]})
        (skipped,) = splits["train"].card["splits"]["train"]["skipped"]
        assert skipped.endswith("000002.jpg")


def test_not_found_says_where_it_looked_what_to_place_and_what_else_to_do(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(celeba, "_download", lambda target: "No download today. ")
    with pytest.raises(UserError) as caught:
        prepare()
    for part in (
        str(cache / "downloads" / "celeba"), str(tmp_path / "data"), "img_align_celeba.zip", "img_align_celeba/*.jpg",
        "archive.zip", "list_eval_partition.txt", "data.root", "data.name=faces", "No download today."
    ):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(UserError, match=f"Looked in: {tmp_path}/elsewhere"):
        prepare(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="CelebA was not found"):  # somebody else's archive.zip
        prepare(zipped(tmp_path / "data" / "archive.zip", {"cat.jpg": b""}).parent)


def test_found_without_a_root(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    zipped(tmp_path / "data" / "celeba" / "img_align_celeba.zip", under("img_align_celeba"))
    check(prepare())
    zipped(cache / "downloads" / "celeba" / "img_align_celeba.zip", under("img_align_celeba"))
    assert str(cache) in prepare()["train"].card["source"]["path"]


def test_download_appears_when_it_is_whole(cache, monkeypatch):
    import torchvision.datasets.utils

    def gdown(file_id, root, filename, md5):
        assert filename == "img_align_celeba.zip" and len(md5) == 32
        zipped(celeba.Path(root, filename), under("img_align_celeba"))

    monkeypatch.setattr(celeba.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torchvision.datasets.utils, "download_file_from_google_drive", gdown)
    check(prepare())

    def fails(file_id, root, filename, md5):
        zipped(celeba.Path(root, filename), {})
        raise RuntimeError("quota exceeded")

    target = cache / "downloads" / "celeba" / "img_align_celeba.zip"
    target.unlink()
    monkeypatch.setattr(torchvision.datasets.utils, "download_file_from_google_drive", fails)
    with pytest.raises(UserError, match=r"The download failed \(quota exceeded\)"):
        prepare()
    assert list(target.parent.iterdir()) == []
