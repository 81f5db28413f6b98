"""Checks of datasets and feature extractors."""

import inspect
import json
from hashlib import sha256

import numpy as np
import torch
from torch import nn

from genzoo.data.store import Layout
from genzoo.errors import UserError
from genzoo.parts import Dataset, Shape
from genzoo.testing.subject import DoesNotApply, Mismatch, Subject, close

MAX_CHUNK_BYTES = 64 * 2**20
NUM_IMAGES = 100  # of each split that are looked at: a data set may begin with blank ones


def describes_itself(subject: Subject) -> None:
    """Config alone gives the image shape and the splits, train first"""
    dataset = subject.build()
    if len(dataset.image_shape) != 3 or not 1 <= dataset.image_shape[0] <= 4:
        raise Mismatch("image_shape (channels, height, width) with 1 to 4 channels", f"{dataset.image_shape}")
    if not dataset.splits or dataset.splits[0] != "train":
        raise Mismatch("splits that start with 'train'", f"{dataset.splits}")


def _located(subject: Subject):
    dataset = subject.build()
    try:
        return dataset, dataset.locate()
    except UserError as error:
        raise DoesNotApply(f"the data is not here: {error}".partition("\n")[0]) from error


def identifies_its_source(subject: Subject) -> None:
    """locate: identifies the source in JSON, the same each time"""
    dataset, source = _located(subject)
    if not isinstance(source, dict) or not source:
        raise Mismatch("a dict that identifies the source", f"{source!r}")
    if json.loads(json.dumps(source)) != json.loads(json.dumps(dataset.locate())):
        raise Mismatch("the same identification each time: it keys the prepared store", "another one")


def reads(subject: Subject) -> None:
    """read: small uint8 arrays n h w c of the declared size (ENTRY where it streams), using the range up to 255"""
    dataset, _ = _located(subject)
    channels, height, width = dataset.image_shape
    streams = getattr(dataset, "streams", False)
    layout = Layout.of({"image_shape": dataset.image_shape, "streams": streams})
    for split in dataset.splits:
        num, largest = 0, 0
        for chunk in dataset.read(split):
            _expect(chunk, layout.dtype, layout.shape)
            if chunk.nbytes > MAX_CHUNK_BYTES:
                raise Mismatch(
                    "arrays of a few MB: a whole data set may not fit in memory", f"{chunk.nbytes / 2**20:.0f} MB"
                )
            images = _pixels(dataset, split, chunk[: NUM_IMAGES - num])
            _expect(images, np.dtype(np.uint8), (height, width, channels))
            num, largest = num + len(images), max(largest, images.max(initial=0))
            if num == NUM_IMAGES:
                break
        if not num:
            raise Mismatch(f"images in the split '{split}'", "none")
        if largest <= 1:
            raise Mismatch(
                "values up to 255", "0 and 1 alone: images in [0, 1] must be scaled before they become uint8"
            )


def _expect(some: object, dtype: np.dtype, shape: Shape) -> None:
    if not (isinstance(some, np.ndarray) and some.ndim and some.dtype == dtype and some.shape[1:] == shape):
        what = f"{some.dtype} {some.shape}" if isinstance(some, np.ndarray) else type(some).__name__
        name = "genzoo.data.stream.ENTRY" if dtype.names else dtype
        raise Mismatch(f"{name} ({', '.join(map(str, ['n', *shape]))})", what)


def _pixels(dataset: Dataset, split: str, chunk: np.ndarray) -> np.ndarray:
    """The images of what `read` gave: of a dataset that streams, it gave their places."""
    return dataset.opened(split, chunk)[:] if getattr(dataset, "streams", False) else chunk


def _digests(dataset: Dataset, split: str, num: int = NUM_IMAGES, **start: int) -> list[bytes]:
    """Of the first `num` images of what `read` gives."""
    digests: list[bytes] = []
    for chunk in dataset.read(split, **start):
        images = _pixels(dataset, split, chunk[: num - len(digests)])
        digests += [sha256(image.tobytes()).digest() for image in images]
        if len(digests) == num:
            break
    return digests


def fixed_order(subject: Subject) -> None:
    """read: the same images in the same order each time, other ones in other splits"""
    dataset, _ = _located(subject)
    first: dict[str, list[bytes]] = {}
    for split in dataset.splits:
        a, b = (_digests(dataset, split) for _ in range(2))
        if a != b:
            raise Mismatch(f"the same images in the same order each time ('{split}')", "others")
        for known, images in first.items():
            if a == images:
                raise Mismatch(f"other images in '{split}' than in '{known}'", "the same")
        first[split] = a


def goes_on(subject: Subject) -> None:
    """read with `start` (optional): leaves out so many images at the front"""
    dataset, _ = _located(subject)
    if "start" not in inspect.signature(dataset.read).parameters:
        raise DoesNotApply("its `read` has no `start`: an interrupted preparation begins again")
    for split in dataset.splits:
        images = _digests(dataset, split)
        for start in (1, len(images) // 2):
            if _digests(dataset, split, NUM_IMAGES - start, start=start) != images[start:]:
                raise Mismatch(f"read('{split}', start={start}) to begin with image {start}", "other images")


def _features(subject: Subject) -> nn.Module:
    try:
        subject.registry.get(subject.name).fetch(subject.config)
    except UserError as error:
        raise DoesNotApply(f"the weights are not here: {error}".partition("\n")[0]) from error
    return subject.build()


def _images(channels: int, height: int, width: int, num: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, channels, height, width), generator=generator, dtype=torch.uint8)


def extracts(subject: Subject) -> None:
    """Features: float32 b dim, finite, for any size and 1, 3 or 4 channels"""
    features = _features(subject)
    for image in ((1, 32, 32), (3, 32, 32), (4, 20, 40), (3, 300, 260)):
        made = features(_images(*image))
        if tuple(made.shape) != (3, features.dim) or made.dtype != torch.float32 or not torch.isfinite(made).all():
            raise Mismatch(f"finite float32 (3, {features.dim}) of {image} images", f"{made.dtype} {tuple(made.shape)}")


def frozen(subject: Subject) -> None:
    """Frozen: eval mode, no trainable weights, the same images give the same features, alone or in a batch"""
    features, images = _features(subject), _images(3, 32, 32)
    if any(module.training for module in features.modules()) or any(p.requires_grad for p in features.parameters()):
        raise Mismatch("eval mode and weights without gradients", "train mode or trainable weights")
    whole = features(images)
    if not torch.equal(whole, features(images)) or not close(whole[1:2], features(images[1:2])):
        raise Mismatch("the same features each time, alone or in a batch", "others")


def joins_sizes(subject: Subject) -> None:
    """resized, of_resized (optional): the features of images of several sizes that share a batch"""
    features = _features(subject)
    if not hasattr(features, "resized") or not hasattr(features, "of_resized"):
        raise DoesNotApply("it has no `resized` and `of_resized`: images of one size at a time share a batch")
    sides = _images(3, 32, 32), _images(1, 20, 40)
    resized = [features.resized(images) for images in sides]
    alike = resized[0].shape[1:] == resized[1].shape[1:]
    made = torch.cat([features.of_resized(x) for x in ([torch.cat(resized)] if alike else resized)])
    if not close(made, torch.cat([features(images) for images in sides])):
        raise Mismatch("of_resized(resized(images)) equal to the features of the images", "others")


def states_its_protocol(subject: Subject) -> None:
    """Protocol: what a number made with these features must state, in JSON"""
    features = _features(subject)
    if not isinstance(features.protocol, dict) or not features.protocol:
        raise Mismatch("a dict with the weights' sha256, the input size and the resize", f"{features.protocol!r}")
    json.dumps(features.protocol)


DATASETS = (describes_itself, identifies_its_source, reads, fixed_order, goes_on)
FEATURES = (extracts, frozen, joins_sizes, states_its_protocol)
