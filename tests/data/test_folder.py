import io
import os
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from genzoo.data import store
from genzoo.data.folder import Folder
from genzoo.data.size import central
from genzoo.errors import UserError
from genzoo.images import tree as trees
from genzoo.images.decode import upright


def encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def flat(colour, size=(20, 16), mode="RGB", **options):
    return encode(Image.new(mode, size, colour), **options)


def tree(root, contents):
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def zipped(path, contents, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def prepare(root, **options):
    config = Folder.Config(root=root, **{"size": 8, **options})
    return store.prepare(Folder(config), config)


def colours(split):
    """The first pixel of every image."""
    return [tuple(pixel) for pixel in split.images[:, 0, 0].tolist()]


# Where images come from, and which split they go to.


def test_nested_tree_and_zip_of_it_are_the_same(tmp_path):
    contents = {f"{i % 3}/deep er/{i}.{'PNG' if i % 2 else 'jpg'}": flat((i * 9, 50, 200)) for i in range(20)}
    contents |= {"notes.txt": b"no image", "0/.hidden.png": b"", "__MACOSX/0/._0.png": b"", ".git/0.png": b""}
    folder = prepare(tree(tmp_path / "tree", contents))
    archive = prepare(zipped(tmp_path / "tree.zip", contents))
    assert len(folder["train"]) + len(folder["test"]) == 20
    for split in ("train", "test"):
        assert folder[split].sha256 == archive[split].sha256
    # Packing leaves the enclosing folder out of, or in, the names: neither changes the split.
    contents = {f"wrapped/{name}": content for name, content in contents.items()}
    wrapped = prepare(zipped(tmp_path / "wrapped.zip", contents))
    assert wrapped["test"].sha256 == archive["test"].sha256


def test_split_folders(tmp_path):
    red, green, blue = flat((255, 0, 0)), flat((0, 255, 0)), flat((0, 0, 255))
    three = {"train/x/1.png": red, "VAL/2.png": green, "test/3.png": blue, "4.png": red}
    splits = prepare(tree(tmp_path / "three", three))
    assert {name: colours(split) for name, split in splits.items()} == {
        "train": [(255, 0, 0)], "valid": [(0, 255, 0)], "test": [(0, 0, 255)]
    }  # fmt: skip
    assert splits["train"].card["source"]["split"] == "by folders; 1 files beside them ignored"
    splits = prepare(tree(tmp_path / "two", {"set/train/1.png": red, "set/val/2.png": green}))
    assert {name: colours(split) for name, split in splits.items()} == {"train": [(255, 0, 0)], "test": [(0, 255, 0)]}
    splits = prepare(tree(tmp_path / "one", {f"train/{i}.png": red for i in range(20)}), test_fraction=0.3)
    assert len(splits["train"]) + len(splits["test"]) == 20
    with pytest.raises(UserError, match="has a folder for test images but none called 'train'"):
        prepare(tree(tmp_path / "none", {"test/1.png": red, "more/2.png": red}))


@pytest.mark.parametrize("train, test", [("training", "testing"), ("Training", "Validation"), ("TRAIN", "val")])
def test_spellings_of_split_folders(tmp_path, train, test):
    splits = prepare(tree(tmp_path, {f"{train}/1.png": flat((1, 0, 0)), f"{test}/2.png": flat((2, 0, 0))}))
    assert {name: colours(split) for name, split in splits.items()} == {"train": [(1, 0, 0)], "test": [(2, 0, 0)]}


@pytest.mark.parametrize(
    "names, held_out",
    [
        (["seg_train/1", "seg_test/2"], "seg_test"),
        (["trainA/1", "testA/2"], "testA"),
        (["train2017/1", "val2017/2"], "val2017"),
        (["training-set/1", "TEST SET/2"], "TEST SET"),
        (["set/train/1", "set/test/2", "preview"], "set/test"),
        (["cats/train/1", "cats/validation/2", "dogs/train/3", "dogs/validation/4"], "cats/validation"),
        (["train/cats/train/1", "train/cats/test/2"], "train/cats/test"),
    ],
)
def test_folders_of_test_images_are_never_mixed_into_training(tmp_path, names, held_out):
    contents = {f"{name}.png": flat((i, 0, 0)) for i, name in enumerate(names)}
    for root in (tree(tmp_path / "tree", contents), zipped(tmp_path / "tree.zip", contents)):
        with pytest.raises(UserError, match=f"its folder '{held_out}' seems to hold test images"):
            prepare(root)


@pytest.mark.parametrize(
    "folders", [("trainers", "testudo"), ("latest", "contest"), ("train_station", "freight_train")]
)
def test_folders_that_are_no_splits(tmp_path, folders):
    splits = prepare(tree(tmp_path, {f"{folder}/1.png": flat((9, 0, 0)) for folder in folders}))
    assert {name: len(split) for name, split in splits.items()} == {"train": 1, "test": 1}


def test_backslashes_in_a_zip_are_slashes(tmp_path):
    contents = {f"{split}\\{i}.png": flat((i, 0, 0)) for split in ("train", "test") for i in range(9)}
    splits = prepare(zipped(tmp_path / "windows.zip", contents))
    assert splits["train"].card["source"]["split"] == "by folders"
    assert colours(splits["train"]) == colours(splits["test"]) == [(i, 0, 0) for i in range(9)]


@pytest.mark.parametrize("before, after", [("", ""), ("cats/", "{}/"), ("animals/cats/", "{}/cats/")])
def test_split_by_hash_is_stable_when_images_are_added(tmp_path, before, after):
    """Nor does it change when a folder is added beside the first, at any depth."""

    def split_of(names):
        contents = {
            f"{before if name < 60 else after.format(name % 7)}{name}.png": flat((name % 256, name // 256, 0))
            for name in names
        }
        splits = prepare(tree(tmp_path / str(len(names)), contents), test_fraction=0.25)
        return {colour: split for split, found in splits.items() for colour in colours(found)}

    few, many = split_of(range(60)), split_of(range(0, 600))
    assert len(few) == 60 and len(many) == 600
    assert few == {colour: many[colour] for colour in few}
    assert 100 < list(many.values()).count("test") < 200


def test_small_sets_leave_no_side_empty(tmp_path):
    for number in (2, 3):
        root = tree(tmp_path / str(number), {f"{i}.png": flat((i, 0, 0)) for i in range(number)})
        splits = prepare(root, test_fraction=0.01)
        assert len(splits["test"]) == 1 and len(splits["train"]) == number - 1
    with pytest.raises(UserError, match="at least two"):
        prepare(tree(tmp_path / "lonely", {"1.png": flat((0, 0, 0))}))


def test_no_images_are_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    tree(tmp_path / "texts", {"readme.txt": b"hello"})
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 not really")
    for root, message in [
        (None, "data.root is not set"),
        (tmp_path / "absent", "there is no folder or zip file"),
        (tmp_path / "empty", "there are no images in"),
        (tmp_path / "texts", "there are no images in"),
        (zipped(tmp_path / "empty.zip", {}), "there are no images in"),
        (tmp_path / "broken.zip", "neither a folder nor a readable zip"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            prepare(root)
        assert "\n" not in str(caught.value)


def test_links_are_followed_and_loops_are_not(tmp_path):
    real = tree(tmp_path / "real", {f"{i}.png": flat((i, 0, 0)) for i in range(5)})
    root = tree(tmp_path / "root", {"own.png": flat((99, 0, 0))})
    (root / "linked").symlink_to(real, target_is_directory=True)
    (real / "back").symlink_to(root, target_is_directory=True)
    (root / "self").symlink_to(root / "self")
    splits = prepare(root)
    assert sorted(colours(splits["train"]) + colours(splits["test"])) == [(i, 0, 0) for i in (*range(5), 99)]
    (root / "gone.png").symlink_to(root / "nowhere.png")
    with pytest.raises(UserError, match=r"gone.png cannot be read"):
        prepare(root)


def test_a_changed_file_is_another_store(tmp_path, cache):
    root = tree(tmp_path / "root", {f"{i}.png": flat((i, 0, 0)) for i in range(4)})
    before = prepare(root)
    (root / "2.png").write_bytes(flat((200, 0, 0)))
    after = prepare(root)
    assert (200, 0, 0) in colours(after["train"]) + colours(after["test"])
    assert {split.sha256 for split in before.values()} != {split.sha256 for split in after.values()}


# What becomes of one image.


def one(tmp_path, content, name="image.png", **options):
    """The prepared form of one image, h w c."""
    shape = (options.pop("channels", 3), 8, 8)
    root = tree(tmp_path, {name: content})
    (file,) = trees.Tree(root, trees.SUFFIXES).files([name])
    return upright(file.read(), file.place, shape, central(shape), **options)


def test_central_square(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, :8], wide[:, 8:16], wide[:, 16:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    np.testing.assert_array_equal(one(tmp_path / "wide", encode(Image.fromarray(wide))), wide[:, 8:16])
    tall = wide.transpose(1, 0, 2).copy()
    np.testing.assert_array_equal(one(tmp_path / "tall", encode(Image.fromarray(tall))), tall[8:16])


def test_resize_is_antialiased(tmp_path):
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    small = one(tmp_path, encode(Image.fromarray(checks.astype(np.uint8))))
    assert np.abs(small.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation, format):
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    undo = [None, 0, 3, 1, 5, 2, 6, 4][orientation - 1]  # what a camera in that orientation would have recorded
    stored = upright if undo is None else upright.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(one(tmp_path, encode(stored, format, exif=exif)), np.asarray(upright))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    "odd",
    [
        struct.pack("<HHIi", 0x128, 9, 1, -2),  # a resolution unit that is a signed number
        struct.pack("<HHIf", 0x128, 11, 1, 2.5),  # ... or a fraction
    ],
)
def test_odd_exif_tags_do_not_matter(tmp_path, orientation, odd):
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    stored = encode(upright.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else upright, "JPEG")
    tags = struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0) + odd
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + struct.pack("<I", 0)
    tagged = stored[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + stored[2:]
    expected = np.asarray(Image.open(io.BytesIO(stored)))
    np.testing.assert_array_equal(
        one(tmp_path, tagged, "a.jpg"), np.rot90(expected, -1) if orientation == 6 else expected
    )


@pytest.mark.parametrize(
    "mode, colour, options, expected",
    [
        ("1", 1, {}, (255, 255, 255)),
        ("L", 90, {}, (90, 90, 90)),
        ("LA", (90, 0), {}, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 0), {}, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), {}, (10, 20, 30)),
        ("RGBA", (0, 0, 0, 51), {}, (204, 204, 204)),
        ("I;16", 257 * 77, {}, (77, 77, 77)),
        ("I;16", 65535, {}, (255, 255, 255)),
        ("I;16", 128, {"format": "TIFF"}, (0, 0, 0)),
        ("I;16", 129, {"format": "TIFF"}, (1, 1, 1)),
        ("I", 257 * 77, {"format": "PPM"}, (77, 77, 77)),
        ("CMYK", (0, 255, 255, 0), {"format": "TIFF"}, (255, 0, 0)),
        ("YCbCr", (128, 128, 128), {"format": "TIFF"}, (128, 128, 128)),
    ],
)
def test_modes(tmp_path, mode, colour, options, expected):
    image = one(tmp_path, flat(colour, mode=mode, **options), f"i.{options.get('format', 'png').lower()}")
    assert np.abs(image.astype(int) - expected).max() <= 1


def grey_tiff(value, bits, white_is_zero):
    """8x8 pixels of one value; Pillow itself writes neither kind."""
    pixels = f"{value:0{bits}b}" * 64
    data = int(pixels, 2).to_bytes(8 * bits, "big")
    if bits == 16:
        data = struct.pack("<64H", *[value] * 64)
    tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: 0 if white_is_zero else 1, 273: 8, 277: 1, 278: 8, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, number) for tag, number in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "value, bits, white_is_zero, expected",
    [
        (4095, 12, False, 255),
        (2048, 12, False, 128),
        (65535, 16, True, 0),
        (257 * 55, 16, True, 200),
        (257, 16, False, 1),
    ],
)
def test_the_range_that_a_tiff_states(tmp_path, value, bits, white_is_zero, expected):
    image = one(tmp_path, grey_tiff(value, bits, white_is_zero), "a.tif")
    assert np.unique(image).tolist() == [expected]


@pytest.mark.parametrize("clear, expected", [(1000, 255), (1001, 4)])
def test_the_transparent_value_of_a_16_bit_png(tmp_path, clear, expected):
    content = flat(1000, mode="I;16")
    chunk = b"tRNS" + struct.pack(">H", clear)
    place = content.index(b"IDAT") - 4
    content = content[:place] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[place:]
    assert np.unique(one(tmp_path, content)).tolist() == [expected]
    assert one(tmp_path, content, channels=2)[0, 0, 1] == (0 if clear == 1000 else 255)


def test_palettes(tmp_path):
    picture = Image.fromarray(np.repeat(np.uint8([[[255, 0, 0], [0, 0, 255]]]), 4, 1).repeat(8, 0))
    palette = picture.quantize(2)
    np.testing.assert_array_equal(one(tmp_path / "plain", encode(palette)), np.asarray(picture))
    clear = encode(palette, transparency=palette.getpixel((0, 0)))
    assert one(tmp_path / "clear", clear)[0, 0].tolist() == [255, 255, 255]
    animation = encode(picture, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert one(tmp_path / "moving", animation, "a.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("channels, expected", [(1, [54]), (2, [54, 255]), (3, [255, 0, 0]), (4, [255, 0, 0, 255])])
def test_channels(tmp_path, channels, expected):
    image = one(tmp_path, flat((255, 0, 0)), channels=channels)
    assert image.shape == (8, 8, channels)
    assert np.abs(image[0, 0].astype(int) - expected).max() <= 22  # Pillow's luma of red is 76


def test_alpha_is_kept_where_there_is_a_channel_for_it(tmp_path):
    four = one(tmp_path / "4", flat((10, 20, 30, 200), mode="RGBA"), channels=4)[0, 0]
    two = one(tmp_path / "2", flat((90, 40), mode="LA"), channels=2)[0, 0]
    # Pillow weighs colours by alpha while it resizes, which rounds them.
    assert np.abs(four.astype(int) - [10, 20, 30, 200]).max() <= 1
    assert np.abs(two.astype(int) - [90, 40]).max() <= 3 and two[1] == 40


@pytest.mark.parametrize(
    "content, name, message",
    [
        (b"", "a.png", "is not an image of the kinds PNG"),
        (b"not an image", "a.jpg", "is not an image"),
        (flat((1, 2, 3), size=(300, 300), format="JPEG")[:-300], "a.jpg", "truncated"),
        (flat((1, 2, 3))[:-30], "a.png", "cannot be used"),
        (flat(3.5, mode="F", format="TIFF"), "a.tif", "32-bit numbers"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a.png", "is not an image"),
    ],
)
def test_a_corrupt_image_is_named_or_skipped(tmp_path, cache, content, name, message):
    good = {f"good{i}.png": flat((i, 0, 0)) for i in range(6)}
    root = tree(tmp_path / "root", {**good, name: content})
    with pytest.raises(UserError, match=f"{name} .*{message}"):
        prepare(root)
    assert [path for path in (cache / "datasets").iterdir() if path.is_dir()] == []
    splits = prepare(root, skip_corrupt=True)
    assert len(splits["train"]) + len(splits["test"]) == 6
    notes = splits["train"].card["splits"]
    assert [skipped for entry in notes.values() for skipped in entry.get("skipped", [])] == [name]


def png_of_size(width, height):
    """A PNG that says it is large, and is not."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("width, height", [(7072, 7072), (12000, 12000), (2**31 - 1, 2**31 - 1), (20000, 2501)])
def test_images_of_too_many_pixels_are_refused_before_decoding(tmp_path, width, height, less_than):
    message = r"image.png cannot be used: .*(pixels|size)"
    with less_than(2), warnings.catch_warnings(), pytest.raises(UserError, match=message):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        one(tmp_path, png_of_size(width, height))


def test_max_pixels_is_an_option(tmp_path):
    root = tree(tmp_path / "root", {f"{i}.png": flat((i, 0, 0), size=(20, 20)) for i in range(3)})
    assert prepare(root, max_pixels=400)
    with pytest.raises(UserError, match=r"20x20 pixels, more than 399 \(max_pixels\)"):
        prepare(root, max_pixels=399)


# Archives that mean harm.


@pytest.mark.parametrize(
    "name", ["../out.png", "/out.png", "a/../../out.png", "..\\out.png", "C:\\out.png", "C:/o.png"]
)
def test_members_that_point_outside_are_refused(tmp_path, name):
    contents = {"1.png": flat((1, 0, 0)), "2.png": flat((2, 0, 0)), name: flat((3, 0, 0))}
    with pytest.raises(UserError, match=r"refused: its member .* points outside the archive"):
        prepare(zipped(tmp_path / "evil.zip", contents))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_members_of_one_name_the_last_counts_and_the_others_are_said(tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        for name in ("a/1.png", "2.png", "a\\1.png", "2.png"):
            archive.writestr(name, flat((1, 0, 0)))
    tree = trees.Tree(tmp_path / "twice.zip", trees.SUFFIXES)
    assert tree.names == ["2.png", "a/1.png"] and str(tree.passed_over) == "2 of a name that comes again"


def test_bombs_are_refused(tmp_path, monkeypatch, less_than):
    monkeypatch.setattr(trees, "MAX_FILE_BYTES", 1 << 20)
    good = {"1.png": flat((1, 0, 0)), "2.png": flat((2, 0, 0))}
    bomb = zipped(tmp_path / "bomb.zip", {**good, "3.png": bytes(5 << 20)})
    assert bomb.stat().st_size < 10_000
    with pytest.raises(UserError, match=r"its member '3.png' unpacks to 5 MB, more than 1 MB"):
        prepare(bomb)
    small = {**good, **{f"{k}.png": bytes(1 << 20) for k in range(3, 9)}}
    monkeypatch.setattr(trees, "FREE_BYTES", 2 << 20)
    with pytest.raises(UserError, match=r"refused: it unpacks to more than 100 times its size"):
        prepare(zipped(tmp_path / "many.zip", small))
    # The same with a directory that lies about the size.
    content = bomb.read_bytes().replace(struct.pack("<I", 5 << 20), struct.pack("<I", 1000))
    (tmp_path / "liar.zip").write_bytes(content)
    with less_than(2), pytest.raises(UserError, match=r"3.png"):
        prepare(tmp_path / "liar.zip")
    large = tree(tmp_path / "large", {**good, "3.png": bytes(2 << 20)})
    with pytest.raises(UserError, match=r"3.png is larger than 1 MB"):
        prepare(large)


def test_methods_that_unpack_without_bound_and_passwords_are_refused(tmp_path):
    contents = {"1.png": flat((1, 0, 0)), "2.png": flat((2, 0, 0))}
    with pytest.raises(UserError, match="neither stored nor deflated"):
        prepare(zipped(tmp_path / "lzma.zip", contents, zipfile.ZIP_LZMA))
    locked = zipped(tmp_path / "locked.zip", contents).read_bytes()
    entry = locked.index(b"PK\x01\x02")
    (tmp_path / "locked.zip").write_bytes(locked[: entry + 8] + b"\x01" + locked[entry + 9 :])
    with pytest.raises(UserError, match="is encrypted"):
        prepare(tmp_path / "locked.zip")


def test_a_member_whose_checksum_is_wrong_is_named(tmp_path):
    path = zipped(tmp_path / "a.zip", {f"{i}.png": flat((i, 0, 0)) for i in range(3)}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.zip: 0.png cannot be read: Bad CRC-32"):
        prepare(path)


# Order, memory, anything at all.


def test_order_does_not_depend_on_threads_and_reading_goes_on_anywhere(tmp_path, monkeypatch):
    root = tree(tmp_path / "root", {f"train/{i:03}.png": flat((i, 0, 0)) for i in range(90)} | {"test/a.png": flat(0)})
    (root / "train" / "040.png").write_bytes(b"corrupt")
    expected = [(i, 0, 0) for i in range(90) if i != 40]
    for cores in (1, 7):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        for start in (0, 1, 39, 40, 41, 88):
            dataset = Folder(Folder.Config(root=root, size=8, skip_corrupt=True))
            dataset.locate()
            got = np.concatenate(list(dataset.read("train", start)))
            assert [tuple(pixel) for pixel in got[:, 0, 0].tolist()] == expected[start:]
            assert dataset.notes["train"] == {"skipped": ["train/040.png"]}


def test_memory_stays_bounded(tmp_path, less_than):
    noise = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)))
    root = zipped(tmp_path / "many.zip", {f"{i}.png": noise for i in range(300)})
    with less_than(25):
        assert sum(map(len, prepare(root, size=256).values())) == 300  # 59 MB


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
PATHS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4)
KINDS = st.sampled_from(
    [("PNG", "png"), ("JPEG", "JPG"), ("GIF", "gif"), ("TIFF", "tif"), ("BMP", "bmp"), ("PPM", "ppm")]
)
MODES = st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "HSV"])


@st.composite
def any_file(draw):
    """Path and content of something that may be an image."""
    format, suffix = draw(KINDS)
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    buffer = io.BytesIO()
    try:
        noise = np.random.default_rng(size).integers(0, 256, size, np.uint8)
        Image.fromarray(noise).convert(draw(MODES)).save(buffer, format)
    except (OSError, ValueError, KeyError):  # not every format holds every mode
        buffer.write(draw(st.binary(max_size=50)))
    content = bytearray(buffer.getvalue())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 4]))):
        if content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()) and draw(st.booleans()):
        del content[draw(st.integers(0, len(content))) :]
    *folders, name = draw(PATHS)
    return "/".join([*folders, f"{name}.{suffix}"]), bytes(content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(any_file(), max_size=6),
    st.sampled_from(["folder", "zip"]),
    st.integers(1, 4),
    st.booleans(),
)
def test_any_tree_gives_images_or_one_clear_error(tmp_path_factory, contents, kind, channels, skip_corrupt):
    root = tmp_path_factory.mktemp("fuzz")
    config = Folder.Config(
        root=root if kind == "folder" else root / "all.zip", size=8, channels=channels, skip_corrupt=skip_corrupt
    )
    if kind == "zip":
        zipped(root / "all.zip", dict(contents))
    else:
        for name, content in contents:
            try:
                tree(root, {name: content})
            except OSError:  # a file where another path needs a folder
                continue
    try:
        splits = store.prepare(Folder(config), config)
    except UserError as error:
        assert str(error)
    else:
        for split in splits.values():
            assert split.images.shape[1:] == (8, 8, channels) and len(split) >= 1


def test_root_expands_the_home_folder():
    assert Folder.Config(root="~/pictures").root == Path.home() / "pictures"
