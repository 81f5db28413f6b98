"""From a stream of images to their features, or to the mean and covariance of these."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from genzoo.budget import refuse
from genzoo.evaluation.extractor import is_released
from genzoo.evaluation.images import Images
from genzoo.evaluation.statistics import Known, cache_path, cached, write_statistics
from genzoo.evaluation.work import ON_CPU, Work
from genzoo.frechet import Statistics
from genzoo.numerics import full_float32
from genzoo.parts import Features

log = logging.getLogger("genzoo")

T = TypeVar("T")
Stream = Iterator[tuple[slice | Tensor, dict[str, Tensor]]]  # which of the images, and these: part -> b c h w
CPU_BATCH = 32  # larger ones are no faster on a CPU, and leave its cache


class Side:
    """The features of one side, n dim float32, and what several metrics need of them, made once (parts.Side)."""

    def __init__(self, features: Tensor | None = None, statistics: Statistics | None = None):
        self.features = features
        self._statistics = statistics
        self._made: dict[tuple, Any] = {}

    @property
    def statistics(self) -> Statistics:
        if self._statistics is None:
            self._statistics = Statistics.of(self.features)
        return self._statistics

    def once(self, make: Callable[..., T], *options: object) -> T:
        """make(features, *options), kept."""
        if (make, options) not in self._made:
            self._made[make, options] = make(self.features, *options)
        return self._made[make, options]


class Rows:
    """All the features of n images, n dim."""

    def __init__(self, num: int, dim: int):
        refuse(4 * num * dim, f"{dim:,} features of {num:,} images", "score fewer (evaluation.num_samples, --num)")
        self._rows = torch.zeros(num, dim)

    def add(self, index: slice | Tensor, features: Tensor) -> None:
        self._rows[index] = features.cpu()

    def side(self, work: Work) -> Side:
        return Side(work.processes.sum(self._rows))


class Moments:
    """Their mean and covariance alone."""

    def __init__(self, num: int, dim: int):
        self._statistics = Statistics(dim)

    def add(self, index: slice | Tensor, features: Tensor) -> None:
        self._statistics.add(features)

    def side(self, work: Work) -> Side:
        return Side(statistics=self._statistics.total(work.processes))


def extract(
    stream: Stream,
    num: int,
    extractors: Mapping[str, tuple[Callable[[Tensor], Tensor], int]],
    kept: type[Rows | Moments],
    work: Work,
    what: str,
) -> dict[str, dict[str, Side]]:
    """extractor -> part -> side, from this process's share of `num` images. Images are kept no longer than a batch.

    extractors: key -> what makes features of images, and their dimensions. kept: of the features. what: is done, for
    the progress.
    """
    gathered: dict[tuple[str, str], Rows | Moments] = {}
    done = 0
    for index, parts in stream:
        for key, (extractor, dim) in extractors.items():
            for part, images in parts.items():
                if (key, part) not in gathered:
                    gathered[key, part] = kept(num, dim)
                with full_float32(convolutions=True):  # statistics in the cache may come from a CPU
                    features = extractor(images.to(work.device))
                gathered[key, part].add(index, features)
        done += len(parts["y"])
        work.progress(what, min(done * work.processes.num, num), num)
    sides: dict[str, dict[str, Side]] = {key: {} for key in extractors}
    for key, part in work.processes.of_main([*gathered]):  # the main one has a first batch; another may have had none
        sides[key][part] = (gathered.pop((key, part), None) or kept(num, extractors[key][1])).side(work)
    return sides


def side_of(side: Images | Known, features: Features, whole: bool, work: Work) -> Side:
    """One side's features (whole), or their statistics alone, from the user's cache where they are known already."""
    if isinstance(side, Known):
        return Side(statistics=side.statistics)
    if whole:
        return _extracted(side, features, Rows, work)
    keep = is_released(features.protocol["name"])
    found = cached(side.digest, features.protocol) if keep else None
    if work.processes.all(found is not None):
        return Side(statistics=found)
    thin = side.num < features.dim  # fewer rows than a covariance has: kept, they are its thin factor
    made = _extracted(side, features, Rows if thin else Moments, work)
    if keep and work.processes.rank == 0:
        path = cache_path(side.digest, features.protocol)
        try:
            write_statistics(path, made.statistics, features.protocol)
        except OSError as error:  # a cache that others share may be read-only
            log.warning("%s cannot be written (%s): these statistics will be made again", path.parent, error.strerror)
    return Side(statistics=made.statistics)


def statistics_of(images: Images, features: Features, work: Work = ON_CPU) -> Statistics:
    """Mean and covariance of the images' features."""
    return side_of(images, features, False, work).statistics


def _extracted(images: Images, features: Features, kept: type[Rows | Moments], work: Work) -> Side:
    """This process's share goes through the extractor, resized before it is batched where that is possible."""
    size = min(work.batch_size, CPU_BATCH) if torch.device(work.device).type == "cpu" else work.batch_size
    in_two_steps = hasattr(features, "resized") and hasattr(features, "of_resized")
    resized, of_resized = (features.resized, features.of_resized) if in_two_steps else (lambda images: images, features)
    share = work.processes.share(images.num)
    batches = images.batches(size, share, lambda batch: resized(batch.to(work.device)))
    stream = ((index, {"y": batch}) for index, batch in batches)
    extractors = {"": (of_resized, features.dim)}
    return extract(stream, images.num, extractors, kept, work, images.name)[""]["y"]
