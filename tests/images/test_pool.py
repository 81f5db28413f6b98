"""Files decoded in threads and in worker processes: the same images, the same messages, nothing left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genzoo.errors import UserError
from genzoo.images import pool
from genzoo.images.decode import stored_of
from genzoo.images.pool import MIN_FILES, each, worker_processes
from genzoo.images.tree import SUFFIXES, Tree
from genzoo.sides.tree import from_tree


@pytest.fixture(autouse=True)
def few_files_are_many(monkeypatch):
    monkeypatch.setattr(pool, "MIN_FILES", 1)
    monkeypatch.setattr(pool, "MAX_CHUNK_FILES", 3)


def write(folder, num, seed=0, modes=("RGB",), suffix="png"):
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for k in range(num):
        pixels = rng.integers(0, 256, (*rng.integers(1, 40, 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(modes[k % len(modes)]).save(folder / f"{k:04d}.{suffix}")
    return folder


def zipped(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return path


@settings(max_examples=4)
@given(
    num=st.integers(1, 14),
    seed=st.integers(0, 2**16),
    modes=st.lists(st.sampled_from(["RGB", "L", "P", "1", "RGBA"]), min_size=1, max_size=3),
    suffix=st.sampled_from(["png", "tif"]),
    packed=st.booleans(),
)
def test_the_images_and_their_order_are_those_of_threads(tmp_path_factory, num, seed, modes, suffix, packed):
    root = tmp_path_factory.mktemp("side")
    path = write(root / "a", num, seed, modes, suffix)
    path = zipped(path, root / "a.zip") if packed else path
    tree = Tree(path, SUFFIXES)
    made = []
    for workers in (0, 1, 2):
        with worker_processes(workers):
            side = from_tree("a", tree)
            made.append((side.digest, side.found, list(side.read(np.arange(num)))))
    expected = [stored_of(tree, name) for name in tree.names]
    for digest, found, images in made:
        assert (digest, found) == made[0][:2]
        assert all(np.array_equal(one, other) for one, other in zip(images, expected, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_a_corrupt_file_is_told_by_its_name(tmp_path, workers, packed):
    folder = write(tmp_path / "a", 12)
    data = (folder / "0007.png").read_bytes()
    (folder / "0007.png").write_bytes(data[: len(data) // 2])
    path = zipped(folder, tmp_path / "a.zip") if packed else folder
    with worker_processes(workers), pytest.raises(UserError, match=r"a(\.zip: |/)0007\.png cannot be decoded"):
        list(from_tree("a", Tree(path, SUFFIXES)).read(np.arange(12)))
    (folder / "0007.png").write_bytes(b"no image")
    with (
        worker_processes(workers),
        pytest.raises(UserError, match=r"1 of 12 files .*/a/0007\.png: no image of the formats PNG, "),
    ):
        from_tree("a", Tree(folder, SUFFIXES))


@pytest.mark.parametrize("name, value", [("MIN_FILES", 13), ("MAX_MEAN_BYTES", 2)])
def test_few_files_and_large_images_start_no_process(tmp_path, monkeypatch, name, value):
    monkeypatch.setattr(pool, name, value)
    monkeypatch.setattr(pool, "ProcessPoolExecutor", None)
    tree = Tree(write(tmp_path / "a", 12), SUFFIXES)
    with worker_processes(2):
        assert len(list(each(partial(stored_of, tree), tree.names, lambda name: 3, in_processes=True))) == 12


def test_a_large_image_is_a_task_of_its_own():
    names = [str(k) for k in range(7)]
    sizes = [1, 1, 5 << 20, 1, 1, 1, 1]
    assert list(pool._chunks(names, lambda name: sizes[int(name)])) == [
        (["0", "1"], 2),
        (["2"], 5 << 20),
        (["3", "4", "5"], 3),
        (["6"], 1),
    ]


def test_a_worker_that_dies_ends_in_one_message(tmp_path):
    tree = Tree(write(tmp_path / "a", 12), SUFFIXES)
    with worker_processes(2):
        images = each(partial(stored_of, tree), 100 * tree.names, lambda name: 0, in_processes=True)
        next(images)
        worker = multiprocessing.active_children()[0]
        worker.kill()
        with pytest.raises(UserError, match=r"was killed or ran out of memory: .* --workers 0"):
            list(images)
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_command_leaves_no_process(tmp_path, sent, code):
    one = write(tmp_path / "a", 1) / "0000.png"
    for k in range(1, 2 * MIN_FILES):
        os.link(one, one.with_name(f"{k:04d}.png"))
    command = [
        sys.executable,
        "-m",
        "genzoo",
        "fid",
        tmp_path / "a",
        tmp_path / "a",
        "--metric",
        "fd",
        "--workers",
        "2",
    ]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    workers = []
    while len(workers) < 2 and started.poll() is None:  # two, and a process of Python's that keeps account of them
        time.sleep(0.01)
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        workers = [pid for pid in children if ignores_interrupts(pid)]
    if sent == signal.SIGINT:
        os.killpg(started.pid, sent)  # Ctrl-C
    else:
        started.kill()
    err = started.communicate(timeout=60)[1]
    assert started.returncode == code and "Traceback" not in err
    late = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < late:
        time.sleep(0.05)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def ignores_interrupts(pid):
    """Whether that worker has begun."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    return "spawn_main" in command and bool(ignored & 1 << signal.SIGINT - 1)


@pytest.mark.skipif(not hasattr(threading, "_shutdown_locks_lock"), reason="of Python before 3.13")
def test_what_is_abandoned_waits_for_no_thread():
    """The garbage collection may end it while its thread holds the lock that every thread ends with."""
    results = each(lambda number: number, range(1000), lambda number: 1)
    assert next(results) == 0
    closing = threading.Thread(target=results.close, daemon=True)
    with threading._shutdown_locks_lock:
        closing.start()
        closing.join(20)
        assert not closing.is_alive()
