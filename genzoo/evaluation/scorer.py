"""From features to scores: what a run's evaluation and `genzoo fid` share."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from genzoo.config import Config, build
from genzoo.errors import UserError
from genzoo.evaluation.extraction import Side
from genzoo.evaluation.extractor import make_extractor
from genzoo.evaluation.protocol import protocol_of
from genzoo.extractors import label_of
from genzoo.parts import Features, Metric
from genzoo.progress import said_when_long
from genzoo.registry import METRICS


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
        with said_when_long(f"metrics/{self.config.name}", self.config.model_dump()):
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


def model_metrics(configs: Iterable[Config]) -> list[tuple[Config, Metric]]:
    """Those that need the model, built."""
    built = [(config, make_metric(config)) for config in configs]
    return [(config, metric) for config, metric in built if metric.needs == "model"]
