import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from genzoo.cache import cache_dir
from genzoo.config import Config
from genzoo.data import prepared, store, writing
from genzoo.errors import UserError
from genzoo.progress import silent


def pictures(split, num):
    """num small pictures that are all different."""
    seed = {"train": 0, "test": 1}[split]
    return np.random.default_rng(seed).integers(0, 256, (num, 4, 5, 3), np.uint8)


class Numbers:
    """A dataset of noise that can be told to fail."""

    class Config(Config):
        num: int = 50
        fail_after: int | None = None

    image_shape = (3, 4, 5)
    splits = ("train", "test")

    def __init__(self, config):
        self.config = config
        self.started: list[tuple[str, int]] = []

    def locate(self):
        return {"source": "noise", "num_images": {"train": self.config.num, "test": 7}}

    def read(self, split, start=0):
        self.started.append((split, start))
        images = pictures(split, self.config.num if split == "train" else 7)
        for first in range(start, len(images), 10):
            if self.config.fail_after is not None and first >= self.config.fail_after:
                raise RuntimeError("the source broke")
            yield images[first : first + 10]


def prepare(dataset=None, progress=silent, **options):
    config = Numbers.Config(name="numbers", **options)
    return store.prepare(dataset or Numbers(config), config, progress)


def folders(cache):
    return sorted(path.name for path in (cache / "datasets").glob("*") if path.is_dir())


def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GENZOO_CACHE", "~/somewhere")
    assert cache_dir() == (type(tmp_path).home() / "somewhere")
    monkeypatch.delenv("GENZOO_CACHE")
    assert cache_dir().name == "genzoo"


def test_prepared_images_are_those_that_were_read():
    seen = []
    splits = prepare(progress=lambda *args: seen.append(args))
    assert list(splits) == ["train", "test"]
    for name, num in (("train", 50), ("test", 7)):
        split = splits[name]
        assert isinstance(split.images, np.memmap) and split.images.dtype == np.uint8 and len(split) == num
        np.testing.assert_array_equal(split.images, pictures(name, num))
        assert split.sha256 == hashlib.sha256(pictures(name, num).tobytes()).hexdigest()
        split.verify()
        with pytest.raises(ValueError, match="read-only"):
            split.images[0] = 0
    assert seen[0] == ("train", 10, 50) and seen[-1] == ("test", 7, 7)
    card = splits["train"].card
    assert card["source"]["source"] == "noise" and card["image_shape"] == [3, 4, 5] and card["config"]["num"] == 50
    assert card["splits"]["test"] == {"num_images": 7, "sha256": splits["test"].sha256}


def test_second_call_reads_nothing_and_other_options_are_another_folder(cache):
    prepare()
    dataset = Numbers(Numbers.Config(name="numbers"))
    prepare(dataset)
    assert dataset.started == []
    prepare(num=20)
    assert len(folders(cache)) == 2


def test_a_failing_read_leaves_nothing(cache):
    with pytest.raises(RuntimeError, match="the source broke"):
        prepare(fail_after=20)
    assert folders(cache) == []


def test_interruption_goes_on_where_it_was(cache, monkeypatch):
    monkeypatch.setattr(writing, "MARK_BYTES", 1)

    def interrupt(split, done, total):
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(progress=interrupt)
    (partial,) = folders(cache)
    assert partial.endswith(".partial") and store.listing()[0].card is None
    dataset = Numbers(Numbers.Config(name="numbers"))
    splits = prepare(dataset)
    assert dataset.started[0] == ("train", 20)  # the last mark before the interruption
    np.testing.assert_array_equal(splits["train"].images, pictures("train", 50))
    splits["train"].verify()


def test_a_damaged_partial_is_not_gone_on_with(cache, monkeypatch):
    monkeypatch.setattr(writing, "MARK_BYTES", 1)

    def interrupt(split, done, total):
        if split == "test":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(progress=interrupt)
    (partial,) = (cache / "datasets").glob("*.partial")
    mark = json.loads((partial / "train.mark").read_text())
    (partial / "train.mark").write_text(json.dumps({"num_images": 20, "sha256": mark["sha256"]}))
    dataset = Numbers(Numbers.Config(name="numbers"))
    np.testing.assert_array_equal(prepare(dataset)["train"].images, pictures("train", 50))
    assert dataset.started == [("train", 0), ("test", 0)]


def test_kill_leaves_a_partial_that_the_next_process_finishes(cache, tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time
        import numpy as np
        from genzoo.config import Config
        from genzoo.data import prepared, store, writing
        writing.MARK_BYTES = 1

        class Slow:
            Config = Config
            image_shape, splits = (1, 8, 8), ("train",)
            def locate(self): return {"source": "slow"}
            def read(self, split, start=0):
                for number in range(start, 40):
                    time.sleep(float(sys.argv[1]))
                    yield np.full((1, 8, 8, 1), number, np.uint8)

        first = []
        splits = store.prepare(Slow(), Config(name="slow"), lambda split, done, total: first.append(done))
        print(first[0], splits["train"].images[:, 0, 0, 0].tolist() == list(range(40)))
    """)
    )
    victim = subprocess.Popen([sys.executable, str(script), "0.05"])
    mark = None
    while mark is None or not mark.exists():
        time.sleep(0.02)
        mark = next((cache / "datasets").glob("*.partial/*.mark"), None) if cache.exists() else None
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    first, same = subprocess.check_output([sys.executable, str(script), "0"], text=True).split()
    assert int(first) > 1 and same == "True"


def test_two_processes_at_once_prepare_once(cache, tmp_path):
    script = tmp_path / "both.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time
        import numpy as np
        from genzoo.config import Config
        from genzoo.data import prepared, store

        class Slow:
            Config = Config
            image_shape, splits = (1, 8, 8), ("train",)
            def locate(self): return {"source": "slow"}
            def read(self, split):
                open(sys.argv[1], "a").write("read ")
                time.sleep(0.5)
                yield np.zeros((1, 8, 8, 1), np.uint8)

        print(len(store.prepare(Slow(), Config(name="slow"))["train"]))
    """)
    )
    log = tmp_path / "log"
    both = [subprocess.Popen([sys.executable, str(script), str(log)], stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate()[0].split() for process in both] == [[b"1"], [b"1"]]
    assert log.read_text() == "read "


@pytest.mark.parametrize("damage", ["truncate", "card", "missing"])
def test_a_damaged_store_is_prepared_anew(cache, damage):
    path = prepare()["test"].images.filename
    folder = os.path.dirname(path)
    if damage == "truncate":
        os.truncate(path, 10)
    elif damage == "card":
        Path(folder, "card.json").write_text('{"image_shape": 3}')
    else:
        os.remove(path)
    np.testing.assert_array_equal(prepare()["test"].images, pictures("test", 7))


def test_verify_notices_a_changed_byte():
    split = prepare()["train"]
    with open(split.images.filename, "r+b") as file:
        file.seek(100)
        file.write(b"\xff\x00\xff")
    with pytest.raises(UserError, match="changed or damaged"):
        split.verify()


def overwrite(split, keep_time):
    """Zeros in place of the pixels, with the file's old times or not."""
    path = split.path
    before = path.stat()
    with path.open("r+b") as file:
        file.write(bytes(100))
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("keep_time", [True, False])
def test_data_that_changed_is_noticed_before_it_is_used(monkeypatch, caplog, quick, keep_time):
    monkeypatch.setattr(prepared, "QUICK_SECONDS", 2.0 if quick else 0.0)
    caplog.set_level("INFO", "genzoo")
    overwrite(prepare()["test"], keep_time)
    if keep_time and not quick:  # nothing shows it: that it was not looked at is said
        prepare()
        assert "were not compared with their checksums" in caplog.text and "data prepare" in caplog.text
    else:
        with pytest.raises(UserError, match=r"test\.u8 was changed or damaged .* delete .* and run again"):
            prepare()


def test_a_copied_cache_is_compared_once(cache, monkeypatch, tmp_path):
    folder = prepare()["train"].path.parent
    folder.rename(tmp_path / "old")  # not removed: its inodes would be given out again
    shutil.copytree(tmp_path / "old", folder)
    compared = []
    monkeypatch.setattr(prepared.Split, "verify", lambda split: compared.append(split.path.name))
    monkeypatch.setattr(prepared, "QUICK_SECONDS", 0.0)
    prepare()
    prepare()
    assert sorted(compared) == ["test.u8", "train.u8"]


def test_a_prepared_file_cut_short_under_a_run_is_an_error_and_not_its_end(tmp_path):
    script = tmp_path / "cut.py"
    script.write_text(
        textwrap.dedent("""
        import os, sys
        import numpy as np, torch
        from genzoo.data.prepared import Mapped
        from genzoo.errors import UserError
        from genzoo.training.feed import Feed

        np.zeros((4000, 8, 8, 3), np.uint8).tofile("x.u8")
        images = Mapped("x.u8", np.uint8, "r", shape=(4000, 8, 8, 3))
        batches = Feed(images, 100, 0, device=torch.device("cpu")).batches(0)
        next(batches)
        os.truncate("x.u8", 5000)
        for read in (lambda: next(batches), lambda: images[3000:3010].sum(), lambda: images[3999], lambda: images[[3999]]):
            try:
                read()
            except UserError as error:
                print("x.u8 was cut short" in str(error))
        """)
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["True"] * 4), done.stderr


def test_what_was_passed_over_is_said_and_kept(caplog):
    class Choosy(Numbers):
        def read(self, split, start=0):
            yield from super().read(split, start) if self.config.num else ()
            self.notes = {split: {"passed_over": {"of kind .jfif": 15, "hidden": 2}}}

    config = Numbers.Config(name="numbers")
    card = store.prepare(Choosy(config), config)["train"].card
    assert card["splits"]["train"]["passed_over"] == {"of kind .jfif": 15, "hidden": 2}
    assert "50 images; passed over: 15 of kind .jfif, 2 hidden" in caplog.text
    config = Numbers.Config(name="numbers", num=0)
    with pytest.raises(UserError, match=r"there are no images; passed over: 15 of kind \.jfif, 2 hidden"):
        store.prepare(Choosy(config), config)


def test_full_disk_is_one_sentence_and_leaves_nothing(cache):
    def full(split, done, total):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"the disk is full.*GENZOO_CACHE"):
        prepare(progress=full)
    assert folders(cache) == []


def test_too_little_space_is_noticed_before_reading(cache, monkeypatch):
    usage = type(writing.shutil.disk_usage("/"))
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 3419))
    dataset = Numbers(Numbers.Config(name="numbers"))
    with pytest.raises(UserError, match=r"takes 3,420 bytes .* where 3,419 bytes are free"):
        prepare(dataset)  # 57 images of 60 bytes
    assert dataset.started == [] and folders(cache) == []
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 3420))
    prepare(dataset)


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written.*GENZOO_CACHE"):
        prepare()


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((1, 4, 5, 3), np.float32),
        np.zeros((1, 3, 4, 5), np.uint8),
        np.zeros((4, 5, 3), np.uint8),
        [[1]],
    ],
)
def test_arrays_that_are_not_images_are_refused(cache, bad):
    class Bad(Numbers):
        def read(self, split):
            yield bad

    with pytest.raises(UserError, match=r"Bad, split 'train': read\(\) must give uint8"):
        prepare(Bad(Numbers.Config()))
    assert folders(cache) == []


def test_a_split_without_images_is_refused(cache):
    with pytest.raises(UserError, match="there are no images"):
        prepare(num=0)
    assert folders(cache) == []


def test_listing_gives_paths_and_sizes(cache):
    assert store.listing() == []
    prepare()
    (only,) = store.listing()
    assert only.path.parent == cache / "datasets" and only.card["dataset"] == "numbers"
    assert only.num_bytes == 57 * 60 + (only.path / "card.json").stat().st_size


def test_listing_leaves_out_what_vanishes_meanwhile(cache, monkeypatch):
    prepare()
    gone = cache / "datasets" / "a.partial"
    gone.mkdir()
    is_open = store._open

    def finished_meanwhile(folder, *arguments):
        if folder == gone:
            gone.rmdir()
        return is_open(folder, *arguments)

    monkeypatch.setattr(store, "_open", finished_meanwhile)
    (only,) = store.listing()
    assert only.path != gone and only.num_bytes > 0


def test_memory_stays_bounded(less_than):
    class Large:
        image_shape, splits = (3, 64, 64), ("train",)

        def locate(self):
            return {"source": "large"}

        def read(self, split):
            for value in range(100):
                yield np.full((100, 64, 64, 3), value, np.uint8)  # 1.2 MB of the 123 MB

    with less_than(8):
        assert len(store.prepare(Large(), Config(name="large"))["train"]) == 10_000
