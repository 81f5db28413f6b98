"""What a run's evaluation and `genzoo fid` share: from a stream of images to features, and from features to scores."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from genzoo.config import Config, build
from genzoo.errors import UserError
from genzoo.evaluation.extractor import exact, make_extractor
from genzoo.evaluation.protocol import protocol_of
from genzoo.evaluation.work import Work
from genzoo.extractors import label_of
from genzoo.frechet import Statistics
from genzoo.parts import Features, Metric
from genzoo.registry import METRICS

T = TypeVar("T")
Stream = Iterator[tuple[slice | Tensor, dict[str, Tensor]]]  # which of the images, and these: part -> b c h w


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


@dataclass
class Measure:
    """A metric with its extractor, or the reason why that cannot be had. key: the same for the same features."""

    config: Config
    metric: Metric
    extractor: Features | None
    absent: str = ""
    key: str = field(init=False)
    features: str = field(init=False)  # what the scores call the extractor

    def __post_init__(self) -> None:
        self.key, self.features = self.config.features.model_dump_json(), label_of(self.config.features)

    def needs_features(self, side: str) -> bool:
        """Whether the metric asks for all the features of that side, "real" or "fake", not for their statistics."""
        return side not in getattr(self.metric, "by_statistics", ())

    def impossible(self, num_real: int, num_fake: int) -> str:
        """Why these numbers of images cannot give the metric at all, or ""."""
        n, least = min(num_real, num_fake), getattr(self.metric, "least", 2)
        return f"{self.config.name} needs {least} images on each side, there are {n}" if n < least else ""

    def few(self, num_real: int, num_fake: int) -> str:
        """Why these numbers of images make the metric a biased one, or ""."""
        few = getattr(self.metric, "few", None)
        return few(self.extractor.dim, num_real, num_fake) if few else ""

    def protocol(self, seed: int) -> dict:
        """What its scores state of how they were made."""
        return protocol_of(self.extractor, seed)

    def scores(self, real: Side, fake: Side, seed: int, entry: dict) -> list[dict]:
        """The finished entries of metrics.json, one for each number that the metric makes."""
        made = self.metric.score(real, fake, seed)
        return [{**entry, "metric": name, **value} for name, value in made.items()]


def make_metric(config: Config) -> Metric:
    """UserError where it needs what an evaluation does not give it."""
    metric = build(METRICS, config)
    if metric.needs not in ("features", "model") or (metric.needs == "features") != hasattr(config, "features"):
        raise UserError(
            f'metrics/{config.name} cannot be scored: a metric may need "features", of the extractor that its Config '
            f'names as `features: Extractor`, or the "model"; this one needs {metric.needs!r}'
        )
    return metric


def measures(configs: Iterable[Config], device: torch.device | str) -> list[Measure]:
    """The metrics of features, built, those on the same features with one extractor."""
    made: list[Measure] = []
    extractors: dict[str, tuple[Features | None, str]] = {}
    for config in configs:
        metric = make_metric(config)
        if metric.needs != "features":
            continue
        key = config.features.model_dump_json()
        if key not in extractors:
            try:
                extractors[key] = make_extractor(config.features, device), ""
            except UserError as error:
                extractors[key] = None, str(error)
        made.append(Measure(config, metric, *extractors[key]))
    return made


class Rows:
    """All the features of n images, n dim."""

    def __init__(self, num: int, dim: int):
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
                with exact():
                    features = extractor(images.to(work.device))
                gathered[key, part].add(index, features)
        done += len(parts["y"])
        work.progress(what, min(done * work.processes.num, num), num)
    sides: dict[str, dict[str, Side]] = {key: {} for key in extractors}
    for key, part in work.processes.of_main([*gathered]):  # the main one has a first batch; another may have had none
        sides[key][part] = (gathered.pop((key, part), None) or kept(num, extractors[key][1])).side(work)
    return sides
