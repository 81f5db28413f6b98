import itertools
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genzoo.errors import UserError
from genzoo.training.feed import Feed
from genzoo.training.step import Step

CPU = torch.device("cpu")


def numbered(n):
    """Images whose first two bytes are their index."""
    images = np.zeros((n, 2, 2, 1), np.uint8)
    images[:, 0, :, 0] = np.stack([np.arange(n) % 256, np.arange(n) // 256], 1)
    return images


@given(
    n=st.integers(1, 50),
    share=st.integers(1, 7),
    parts=st.integers(1, 3),
    world=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_stream_is_whole_epochs_whatever_the_processes(n, share, parts, world, seed):
    batch_size = share * parts * world
    steps = 3 * n // batch_size + 1
    images = numbered(n)
    ranks = [Feed(images, batch_size, seed, device=CPU, parts=parts, rank=rank, world=world) for rank in range(world)]
    split = [np.stack([feed.indices(step) for feed in ranks], 1).ravel() for step in range(steps)]
    alone = Feed(images, batch_size, seed, device=CPU)
    assert all(np.array_equal(alone.indices(step).ravel(), split[step]) for step in range(steps))
    stream = np.concatenate(split)
    epochs = [stream[start : start + n] for start in range(0, len(stream) - n + 1, n)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)


def test_epochs_and_seeds_differ():
    orders = [Feed(numbered(100), 100, seed, device=CPU).indices(epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(orders, 2))


def test_batches_start_anywhere_and_hold_the_images(tmp_path):
    images = numbered(300)
    stored = np.memmap(tmp_path / "images", np.uint8, "w+", shape=images.shape)
    stored[:] = images
    feed = Feed(np.memmap(tmp_path / "images", np.uint8, "r", shape=images.shape), 70, 5, device=CPU, parts=2)
    late = list(itertools.islice(feed.batches(9), 4))
    early = list(itertools.islice(feed.batches(0), 22))[18:]
    assert all(
        a.equal(b) and a.dtype == torch.uint8 and a.shape == (35, 2, 2, 1) for a, b in zip(late, early, strict=True)
    )
    numbers = late[0][:, 0, 0, 0].int() + 256 * late[0][:, 0, 1, 0].int()
    assert numbers.tolist() == feed.indices(9)[0].tolist()


def test_one_batch_in_memory_may_span_epochs():
    assert np.bincount(Feed(numbered(3), 8, 0, device=CPU).indices(0).ravel()).tolist() in (
        [3, 3, 2],
        [3, 2, 3],
        [2, 3, 3],
    )


def test_other_arrays_are_refused():
    step = Step(torch.nn.Identity(), torch.nn.Identity())
    for images in (np.zeros((4, 2, 2), np.uint8), np.zeros((4, 2, 2, 1), np.float32)):
        with pytest.raises(UserError, match="uint8 images, n h w c"):
            step.refuse(images)
    with pytest.raises(UserError, match="no rows"):
        Feed(np.zeros((0, 2, 2, 1), np.uint8), 2, 0, device=CPU)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int16, np.int32])
def test_rows_of_any_type_and_shape(dtype):
    rows = np.arange(60).reshape(10, 6).astype(dtype)
    feed = Feed(rows, 4, 1, device=CPU)
    with closing(feed.batches(0)) as batches:
        batch = next(batches).numpy()
    assert batch.dtype == dtype and np.array_equal(batch, rows[feed.indices(0)[0]])


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(UserError, match=r"batch_size 100 .* 3 processes x 1 .* use 99"):
        Feed(numbered(4), 100, 0, device=CPU, world=3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("resident", [True, False])
def test_same_batches_on_a_gpu(resident, monkeypatch):
    if not resident:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    images = numbered(300)
    feeds = [Feed(images, 70, 5, device=torch.device(device), parts=2) for device in ("cpu", "cuda")]
    pairs = itertools.islice(zip(*(feed.batches(3) for feed in feeds), strict=True), 20)
    assert all(b.is_cuda and a.equal(b.cpu()) for a, b in pairs)


def test_no_copy_is_left_running_from_memory_that_is_not_pinned(monkeypatch):
    """On MPS such memory was used anew before the copy had ended."""
    waited = []
    monkeypatch.setattr(torch.Tensor, "to", lambda x, device, non_blocking: waited.append(not non_blocking) or x)
    with closing(Feed(numbered(30), 7, 5, device=torch.device("mps")).batches(0)) as batches:
        next(batches)
    assert waited == [True]
