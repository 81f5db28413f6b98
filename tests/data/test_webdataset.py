import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from genzoo.data import addresses, store
from genzoo.data.webdataset import WebDataset
from genzoo.errors import UserError


def encoded(value, size=(20, 16), kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", size, (value, 0, 255 - value)).save(file, kind)
    return file.getvalue()


def write_shards(folder, values, prefix="shard", per_shard=4, change=lambda members: members):
    """Shards as WebDataset's writer makes them: an image and its label a sample."""
    folder.mkdir(exist_ok=True)
    for first in range(0, len(values), per_shard):
        with tarfile.open(folder / f"{prefix}-{first // per_shard:03}.tar", "w") as archive:
            members = {}
            for i, value in enumerate(values[first : first + per_shard], start=first):
                members |= {f"{i:05}.png": encoded(value), f"{i:05}.cls": b"3"}
            for name, data in change(members).items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def dataset(**options):
    return WebDataset(WebDataset.Config(name="webdataset", **{"size": 8, **options}))


def reds(images):
    return images[:, 4, 4, 0].tolist()


@pytest.fixture
def shards(tmp_path):
    write_shards(tmp_path / "s", range(10, 30))
    return tmp_path / "s"


def test_shards_become_a_store_with_exact_counts(shards, tmp_path):
    write_shards(shards, range(100, 103), prefix="held-out")
    made = dataset(root=f"{shards}/shard-{{000..004}}.tar", test=f"{shards}/held-out-*.tar")
    splits = store.prepare(made, made.config)
    assert reds(splits["train"].images) == list(range(10, 30)) and reds(splits["test"].images) == [100, 101, 102]
    assert splits["train"].images.shape == (20, 8, 8, 3)
    source = splits["train"].card["source"]["shards"]["train"]
    assert [entry["url"].rpartition("/")[2] for entry in source] == [f"shard-{i:03}.tar" for i in range(5)]
    write_shards(shards, range(30, 50))  # other shards under the same names
    again = dataset(**made.config.model_dump(exclude={"name"}))
    assert reds(store.prepare(again, again.config)["train"].images) == list(range(30, 50))


def test_without_test_shards_a_share_of_the_samples_is_held_out(shards):
    made = dataset(root=f"{shards}/*.tar", test_fraction=0.4)
    made.locate()
    train, test = (reds(np.concatenate(list(made.read(split)))) for split in ("train", "test"))
    assert sorted(train + test) == list(range(10, 30)) and 2 < len(test) < 14
    (shards / "shard-000.tar").unlink()
    made = dataset(root=f"{shards}/*.tar", test_fraction=0.4)
    made.locate()  # no other sample changes sides
    assert reds(np.concatenate(list(made.read("test")))) == [value for value in test if value >= 14]


@pytest.mark.parametrize("skip_corrupt", [False, True])
def test_reading_goes_on_anywhere(shards, skip_corrupt):
    if skip_corrupt:
        write_shards(shards, range(10, 30), change=lambda members: {**members, "00002.png": b"not a picture"})
    made = dataset(root=f"{shards}/*.tar", test_fraction=0.01, skip_corrupt=skip_corrupt)
    made.locate()
    whole = np.concatenate(list(made.read("train")))
    for start in (0, 1, 5, 17):
        assert np.array_equal(np.concatenate(list(made.read("train", start=start))), whole[start:])


def test_any_address_of_fsspec(shards, monkeypatch):
    import fsspec

    monkeypatch.setattr(addresses, "PROTOCOLS", (*addresses.PROTOCOLS, "memory"))

    memory = fsspec.filesystem("memory")
    memory.put(str(shards / "shard-000.tar"), "/bucket/a-7.tar")
    made = dataset(root="memory://bucket/a-{7..7}.tar", test_fraction=0.01)
    made.locate()
    assert reds(np.concatenate(list(made.read("train")))) == [10, 11, 12, 13]


def test_corrupt_images_are_named_or_counted(shards):
    write_shards(shards, [1, 2], prefix="bad", change=lambda members: {**members, "00000.png": b"not a picture"})
    root = f"{shards}/bad-000.tar"
    made = dataset(root=root, test=f"{shards}/shard-000.tar")
    made.locate()
    with pytest.raises(UserError, match=r"bad-000\.tar: 00000\.png is not an image .*"):
        list(made.read("train"))
    made = dataset(root=root, test=f"{shards}/shard-000.tar", skip_corrupt=True)
    made.locate()
    assert reds(np.concatenate(list(made.read("train")))) == [2]
    assert len(made.notes["train"]["skipped"]) == 1


def test_the_image_of_a_sample_with_several(shards):
    def add(members):
        return dict(sorted({**members, **{n.replace(".png", ".mask.png"): encoded(255) for n in members if ".png" in n},
                            **{n.replace(".png", ".jpg"): encoded(200, kind="JPEG") for n in members if ".png" in n}}.items()))  # fmt: skip

    write_shards(shards, [5, 6], prefix="two", change=add)
    options = {"root": f"{shards}/two-000.tar", "test": f"{shards}/shard-000.tar"}
    made = dataset(**options)
    made.locate()
    with pytest.raises(UserError, match=r"'00000' has several images; data\.image says which"):
        list(made.read("train"))
    for image, expected in (("png", [5, 6]), ("mask.png", [255, 255])):
        made = dataset(**options, image=image)
        made.locate()
        assert reds(np.concatenate(list(made.read("train")))) == expected


def test_pictures_first_and_their_masks_later(shards):
    """As `tar cf x.tar *.jpg *.png` packs them: the members of a sample are not adjacent."""
    pictures = {f"{i}.jpg": encoded(200, kind="JPEG") for i in range(5)}
    write_shards(shards, range(5), prefix="apart", per_shard=5, change=lambda members: {
        **pictures, "LICENSE": b"none", "notes.txt": b"", **{f"{i}.png": encoded(i) for i in range(5)}, ".hidden.png": b""})  # fmt: skip
    options = {"root": f"{shards}/apart-000.tar", "test": f"{shards}/shard-000.tar"}
    made = dataset(**options)
    made.locate()
    with pytest.raises(UserError, match=r"'0' has several images; data\.image says which: data\.image=jpg"):
        list(made.read("train"))
    made = dataset(**options, image="png")
    made.locate()
    assert reds(np.concatenate(list(made.read("train")))) == list(range(5))
    assert made.notes["train"]["passed_over"] == {"of kind .jpg": 5, "without a suffix or hidden": 2, "of kind .txt": 1}


def test_a_shard_without_images_says_what_it_holds(shards):
    write_shards(shards, range(3), prefix="none", change=lambda members: {"a.txt": b"", "b.json": b"", "c.json": b""})
    made = dataset(root=f"{shards}/none-000.tar", test=f"{shards}/shard-000.tar")
    with pytest.raises(
        UserError, match=r"no images in .*none-000\.tar; passed over: 2 of kind \.json, 1 of kind \.txt"
    ):
        store.prepare(made, made.config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "data.root is not set"),
        ({"root": "{shards}/" + "{{0..9}}" * 8 + ".tar"}, "stands for 100,000,000 shards; at most 100,000 are read"),
        ({"root": "{shards}/{{0..999999999999}}.tar"}, "stands for 1,000,000,000,000 shards"),
        ({"root": "{shards}/{{9..0}}.tar"}, "its numbers go down"),
        ({"root": "{shards}/{{0.." + "9" * 5000 + "}}.tar"}, "there is no shard|cannot be read"),
        ({"root": "/**/*.tar"}, r"`\*\*` is not looked for"),
        ({"root": "{shards}"}, "is not a file"),
        ({"root": "/dev/zero"}, "is not a file"),
        ({"root": "{shards}/nowhere-{{0..1}}.tar"}, "data.root: there is no shard .*nowhere-0.tar"),
        ({"root": "{shards}/none*.tar"}, "data.root: there is no shard .*none\\*"),
        (
            {"root": "nosuch://bucket/0.tar"},
            "data.root: 'nosuch://bucket/0.tar' is refused: 'nosuch' is none of the protocols",
        ),
        (
            {"root": "{shards}/shard-000.tar", "test": "{shards}/*.tar"},
            "data.test: .*shard-000.tar is one of the training",
        ),
    ],
    ids=str,
)
def test_mistakes(shards, options, message):
    with pytest.raises(UserError, match=message):
        dataset(**{key: value.format(shards=shards) for key, value in options.items()}).locate()


def test_a_truncated_shard_is_named(shards):
    path = shards / "shard-001.tar"
    path.write_bytes(path.read_bytes()[:700])
    made = dataset(root=f"{shards}/*.tar")
    made.locate()
    with pytest.raises(UserError, match=r"shard-001\.tar is damaged or cannot be read"):
        list(made.read("train"))


@pytest.mark.parametrize("options", [{}, {"stream": True}, {"stream": True, "skip_corrupt": True}], ids=str)
def test_a_shard_that_ends_inside_an_image_is_named(shards, options):
    path = shards / "shard-001.tar"
    path.write_bytes(path.read_bytes()[:540])
    made = dataset(root=f"{shards}/*.tar", test_fraction=0.01, **options)
    made.locate()
    with pytest.raises(UserError, match=r"shard-001\.tar is damaged or cannot be read"):
        list(made.read("train"))


def cut_at_a_member(content, members):
    return content[: members[5].offset]


def cut_in_a_header(content, members):
    return content[: members[5].offset + 100]


def damage_a_header(content, members):
    return content[: members[5].offset + 150] + b"?" + content[members[5].offset + 151 :]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("damage", [cut_at_a_member, cut_in_a_header, damage_a_header])
def test_a_shard_never_ends_early_in_silence(shards, damage, stream):
    path = shards / "shard-001.tar"
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    path.write_bytes(damage(path.read_bytes(), members))
    made = dataset(root=f"{shards}/*.tar", test_fraction=0.01, stream=stream)
    made.locate()
    with pytest.raises(UserError, match=r"shard-001\.tar is damaged or cannot be read"):
        list(made.read("train"))


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("name", ["shard.tar.{kind}", "shard.tar"])  # what it is called does not matter
def test_checksums_of_compressed_shards_are_compared(tmp_path, kind, name):
    path = tmp_path / name.format(kind=kind)
    with tarfile.open(path, f"w:{kind}") as archive:
        for i in range(5):
            info = tarfile.TarInfo(f"{i}.png")
            info.size = len(encoded(i))
            archive.addfile(info, io.BytesIO(encoded(i)))
    made = dataset(root=str(path), test_fraction=0.01)
    made.locate()
    assert reds(np.concatenate(list(made.read("train")))) == list(range(5))
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[{"gz": -8, "bz2": -4, "xz": -11}[kind]] ^= 1  # of the checksum
    for bad in (bytes(damaged), content[:-4]):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=rf"{path.name} is damaged or cannot be read"):
            list(made.read("train"))
