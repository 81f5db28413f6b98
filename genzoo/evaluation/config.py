"""The recipe's `evaluation`: which scores, of how many images. Cheap to import."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny, WithJsonSchema, field_validator

from genzoo.config import Config, OneOf, Strict, located, part
from genzoo.errors import suggestion
from genzoo.registry import FEATURES


def written_out(value: Any) -> Any:
    """`timm:NAME` and `timm:NAME@SIZE`, written out; anything else as it is."""
    if not isinstance(value, str) or ":" not in value:
        return value
    match = re.fullmatch(r"timm:([^:@]+)(?:@(\d+))?", value)
    if not match:
        raise ValueError(f"'{value}' is no extractor: a registered name, timm:NAME or timm:NAME@SIZE")
    model, size = match.groups()
    return {"name": "timm", "model": model} | ({"size": int(size)} if size else {})


def label_of(features: Config) -> str:
    """What a score calls its extractor: its name, with the options that are not its defaults; of a file, its name."""
    options = features.model_dump(exclude_defaults=True, exclude={"name"})
    name = features.name + (f":{options.pop('model')}" if features.name == "timm" and "model" in options else "")
    words = (f"{key}={value.name if isinstance(value, Path) else value}" for key, value in options.items())
    return name + (f"({', '.join(words)})" if options else "")


def key_of(metric: Config) -> str:
    """The same for metrics on the same features."""
    return metric.features.model_dump_json()


_TIMM = {"type": "string", "pattern": r"^timm:[^:@]+(@\d+)?$"}
Extractor = Annotated[
    part(FEATURES), BeforeValidator(written_out), WithJsonSchema({"anyOf": [{"genzoo_kind": "features"}, _TIMM]})
]


BOOTSTRAP = Field(None, ge=2, description="resamplings of the samples for an error bar, such as 20; null: none")


class FD(Config):
    """Frechet distance on any features."""

    features: Extractor = Field("efficientnet_lite0", description="the feature extractor, or timm:NAME")
    bootstrap: int | None = BOOTSTRAP


class FID(Config):
    """Frechet distance on clean-fid's Inception features, the only ones that may be called FID."""

    features: Extractor = Field("inception", description="Inception; its options alone may change")
    bootstrap: int | None = BOOTSTRAP

    @field_validator("features")
    @classmethod
    def _only_inception(cls, features: Config) -> Config:
        if features.name != "inception":
            raise ValueError(
                f"fid is defined on inception features; on {features.name} the metric is called fd "
                f"({{name: fd, features: {features.name}}}, or --metric fd)"
            )
        return features


class FDInfinity(Config):
    """Frechet distance extrapolated to infinitely many samples."""

    features: Extractor = Field("efficientnet_lite0", description="the feature extractor, or timm:NAME")
    num_points: int = Field(15, ge=2, description="numbers of samples that it is measured at")
    min_samples: int = Field(5000, ge=2, description="the smallest of them, at most half of the samples")


class KID(Config):
    """Kernel distance: unbiased also for few images, with a standard error."""

    features: Extractor = Field("efficientnet_lite0", description="the feature extractor, or timm:NAME")
    num_subsets: int = Field(100, ge=1, description="subsets that the distance is averaged over")
    subset_size: int = Field(1000, ge=2, description="images of each side in a subset, at most")


class PrecisionRecall(Config):
    """Share of samples near the reference images, and of reference images near the samples."""

    features: Extractor = Field("efficientnet_lite0", description="the feature extractor, or timm:NAME")
    k: int = Field(3, ge=1, description="neighbours that a ball reaches to")


class DensityCoverage(Config):
    """Precision and recall made robust against outliers."""

    features: Extractor = Field("efficientnet_lite0", description="the feature extractor, or timm:NAME")
    k: int = Field(5, ge=1, description="neighbours that a ball reaches to")


class Memorization(Config):
    """Share of samples that are copies of training images, and of those that are not closer than training images."""

    features: Extractor = Field("efficientnet_lite0", description="the feature extractor, or timm:NAME")
    split: str = Field("train", description="the split that the model was trained on")
    num_train: int | None = Field(None, ge=3, description="training images at most: copies of others go unseen")
    ratio: float = Field(
        1 / 3, gt=0, lt=1, description="a copy is nearer than so much of the second nearest's distance"
    )


METRICS: dict[str, type[Config]] = {
    "fd": FD,
    "fid": FID,
    "fd_infinity": FDInfinity,
    "kid": KID,
    "precision_recall": PrecisionRecall,
    "density_coverage": DensityCoverage,
    "memorization": Memorization,
}


def _metric(value: Any) -> Any:
    if isinstance(value, Config):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError(f"expected {{name: ..., options}} with one of: {', '.join(METRICS)}")
    name = value["name"]
    if name not in METRICS:
        message = f"no metric is called '{name}'{suggestion(name, METRICS)} (metrics: {', '.join(METRICS)})"
        raise located(Config, [("name", message, name)])
    return METRICS[name].model_validate(value)


Metric = Annotated[SerializeAsAny[Config], BeforeValidator(_metric), OneOf("metrics")]


class EvaluationConfig(Strict):
    """The recipe's `evaluation`."""

    num_samples: int = Field(10000, ge=2, description="images of each generator")
    reference: str = Field("test", description="split that samples are compared with")
    num_reference: int | None = Field(
        10000, ge=2, description="reference images at most, spread evenly over the split; null: all"
    )
    metrics: list[Metric] = Field(
        [{"name": "fd"}], description="scores to make; several on the same features share the images and the features"
    )
    batch_size: int = Field(100, ge=1, description="images encoded or decoded at once; no effect on the scores")
    seed: int | None = Field(None, ge=0, description="of the samples; null: the run's")
    allow_few: bool = Field(
        False, description="score fewer images than the features have dimensions (a biased number, marked as such)"
    )
    strict: bool = Field(False, description="a score that cannot be made ends the run instead of being skipped")

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, metrics: list[Config]) -> list[Config]:
        places = [f"{metric.name} on {label_of(metric.features)}" for metric in metrics]
        if twice := next((place for place in places if places.count(place) > 1), None):
            raise ValueError(f"{twice} is listed twice, and tables could not tell the two apart; leave one out")
        return metrics
