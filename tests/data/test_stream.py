import io
import itertools
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from genzoo.data import store
from genzoo.data.stream import ENTRY, Stream
from genzoo.data.webdataset import WebDataset
from genzoo.errors import UserError
from genzoo.images.tree import CorruptFile
from genzoo.training.feed import Feed

NUM, SHAPE = 53, (3, 8, 8)


def write_shards(folder, sizes, broken=()):
    """Tars of so many PNGs of noise each, with a label beside every image; the images of `broken` are none."""
    images = np.random.default_rng(0).integers(0, 256, (sum(sizes), 8, 8, 3), dtype=np.uint8)
    numbers = iter(range(len(images)))
    folder.mkdir()
    for shard, size in enumerate(sizes):
        with tarfile.open(folder / f"{shard:03}.tar", "w") as archive:
            for i in itertools.islice(numbers, size):
                file = io.BytesIO()
                Image.fromarray(images[i]).save(file, "PNG")
                for suffix, data in (("png", b"none" if i in broken else file.getvalue()), ("cls", b"7")):
                    info = tarfile.TarInfo(f"{i:05}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return images


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream") / "train"
    images = write_shards(folder, [10, 1, 17, 25])
    write_shards(folder.parent / "test", [3])
    return folder, images


def prepared(folder, **options):
    words = {"root": f"{folder}/*.tar", "test": f"{folder.parent}/test/*.tar", "size": 8, "stream": True, **options}
    dataset = WebDataset(WebDataset.Config(name="webdataset", **words))
    return store.prepare(dataset, dataset.config)


@pytest.fixture(scope="module")
def stream(shards, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return prepared(shards[0], buffer=20)["train"].images


def test_only_an_index_is_prepared(shards):
    streamed, stored = prepared(shards[0]), prepared(shards[0], stream=False)
    assert {name: split.path.stat().st_size for name, split in streamed.items()} == {
        "train": NUM * ENTRY.itemsize,
        "test": 3 * ENTRY.itemsize,
    }
    for name, split in stored.items():
        assert np.array_equal(streamed[name].images[:], split.images)
    assert streamed["train"].path != stored["train"].path
    assert prepared(shards[0], buffer=3)["train"].path == streamed["train"].path
    streamed["train"].verify()


ROWS = st.one_of(
    st.integers(-NUM, NUM - 1),
    st.slices(NUM),
    st.lists(st.integers(-NUM, NUM - 1), max_size=8).map(lambda rows: np.array(rows, int)),
    st.lists(st.integers(0, NUM - 1), min_size=4, max_size=4).map(lambda rows: np.reshape(rows, (2, 2))),
)


@given(rows=ROWS)
def test_reads_like_an_array(stream, shards, rows):
    images = shards[1]
    assert stream.shape == images.shape and len(stream) == NUM and stream.dtype == images.dtype and stream.ndim == 4
    read = stream[rows]
    assert read.dtype == np.uint8 and np.array_equal(read, images[rows])


@pytest.mark.parametrize("row", [NUM, -NUM - 1, [0, NUM]])
def test_no_such_row(stream, row):
    with pytest.raises(IndexError):
        stream[row]


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), buffer=st.integers(1, 30), seed=st.integers()
)
def test_an_epoch_is_every_image_once_and_a_stretch_of_it_lies_in_few_shards(sizes, buffer, seed):
    shard = np.repeat(np.arange(len(sizes)), sizes)
    entries = np.zeros(len(shard), ENTRY)
    entries["shard"] = shard
    stream = Stream(entries, [f"{i}.tar" for i in range(len(sizes))], SHAPE, 100, buffer)
    seeds = np.random.SeedSequence(abs(seed))
    order = stream.order(np.random.default_rng(seeds))
    assert sorted(order) == list(range(len(shard)))
    # Sorted back within its windows, the order is that of whole shards, one after another.
    windows = [order[start : start + buffer] for start in range(0, len(order), buffer)]
    found = [shard[row] for window in windows for row in window]
    runs = [len({*found[start : start + buffer]}) for start in range(0, len(found), buffer)]
    ends = np.cumsum([size for size in sizes if size])
    assert sum(runs) <= len(ends) + len(windows) - 1
    assert np.array_equal(order, stream.order(np.random.default_rng(seeds)))


def test_epochs_differ(stream):
    orders = [stream.order(np.random.default_rng([0, epoch])) for epoch in range(4)]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(orders, 2))
    assert len({stream.entries["shard"][order[0]] for order in orders}) > 1  # the shards' own order, too


@given(
    share=st.integers(1, 5),
    parts=st.integers(1, 2),
    world=st.sampled_from([1, 2, 3]),
    start=st.integers(0, 30),
    buffer=st.sampled_from([1, 20, 500]),
)
def test_training_reads_the_images_of_its_step_whatever_the_processes(
    stream, shards, share, parts, world, start, buffer
):
    images, batch_size = shards[1], share * parts * world
    stream = Stream(stream.entries, stream.urls, SHAPE, 100, buffer)
    alone = Feed(stream, batch_size, 5, device=torch.device("cpu"))
    made = []
    for rank in range(world):
        feed = Feed(stream, batch_size, 5, device=torch.device("cpu"), parts=parts, rank=rank, world=world)
        batches = feed.batches(start)
        made.append([next(batches) for _ in range(3 * parts)])
        batches.close()
    for step in range(3):
        together = torch.stack([torch.stack(one[step * parts : (step + 1) * parts]) for one in made], 1)
        assert np.array_equal(together.flatten(0, 2), images[alone.indices(start + step).ravel()])


@given(ahead=st.integers(1, 3000), rows=ROWS, share=st.integers(1, 7))
def test_little_is_held_ahead_and_nothing_else_changes(stream, shards, ahead, rows, share):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genzoo.data.stream.AHEAD", ahead)
        assert np.array_equal(stream[rows], shards[1][rows])
        held = []
        read = stream._read
        patch.setattr(stream, "_read", lambda rows: held.append(stream.entries["num_bytes"][rows].sum()) or read(rows))
        parts = [np.arange(start, min(start + share, NUM)) for start in range(0, NUM, share)]
        for part, images in zip(parts, stream.batches(iter(parts), 4), strict=True):
            assert np.array_equal(images, shards[1][part])
        assert max(held) < 2 * ahead + stream.entries["num_bytes"].max()


def test_neighbours_are_read_in_one_piece(stream, monkeypatch):
    pieces = []
    read = stream._files.cat_ranges

    def counted(paths, starts, ends, **options):
        pieces.append(len(paths))
        return read(paths, starts, ends, **options)

    monkeypatch.setattr(stream._files, "cat_ranges", counted)
    stream[:]
    stream[[0, 52, 11, 12]]
    assert pieces == [4, 3]  # shards; three places in three shards


def test_corrupt_images_end_training_or_are_left_out_of_the_index(tmp_path):
    images = write_shards(tmp_path / "train", [4, 4], broken=[1, 6])
    write_shards(tmp_path / "test", [2])
    feed = Feed(prepared(tmp_path / "train")["train"].images, 8, 0, device=torch.device("cpu"))
    with pytest.raises(CorruptFile, match=r"train/00[01]\.tar: the image at byte \d+ is not an image"):
        next(feed.batches(0))
    split = prepared(tmp_path / "train", skip_corrupt=True)["train"]
    assert np.array_equal(split.images[:], images[[0, 2, 3, 4, 5, 7]])
    skipped = split.card["splits"]["train"]["skipped"]
    assert [place.rpartition("/")[2] for place in skipped] == ["000.tar: 00001.png", "001.tar: 00006.png"]


@pytest.mark.parametrize("skip_corrupt", [False, True])
def test_indexing_goes_on_anywhere(tmp_path, skip_corrupt):
    write_shards(tmp_path / "train", [4, 4], broken=[1])
    dataset = WebDataset(
        WebDataset.Config(name="webdataset", root=f"{tmp_path}/train/*.tar", stream=True, skip_corrupt=skip_corrupt)
    )
    dataset.locate()
    whole = np.concatenate(list(dataset.read("train")))
    for start in range(len(whole)):
        assert np.array_equal(np.concatenate(list(dataset.read("train", start=start))), whole[start:])


def test_shards_that_cannot_be_streamed(tmp_path, shards):
    write_shards(tmp_path / "test", [2])
    (tmp_path / "train").mkdir()
    with tarfile.open(tmp_path / "train/0.tar", "w:gz") as archive:
        archive.add(shards[0] / "000.tar", "x.png")
    with pytest.raises(UserError, match=r"0\.tar is damaged or cannot be read: .* uncompressed shards"):
        prepared(tmp_path / "train")


def test_a_shard_that_goes_away_while_training(tmp_path):
    write_shards(tmp_path / "train", [4])
    write_shards(tmp_path / "test", [2])
    images = prepared(tmp_path / "train")["train"].images
    (tmp_path / "train/000.tar").unlink()
    with pytest.raises(UserError, match=r"train/000\.tar .* cannot be read"):
        images[:]
