"""The recipe's `evaluation`: which scores, of how many images. Cheap to import."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator

from genzoo.config import Config, OneOf, Strict, located, part
from genzoo.errors import nearest
from genzoo.registry import FEATURES


class FD(Config):
    """Frechet distance on any features."""

    features: part(FEATURES) = Field("efficientnet_lite0", description="the feature extractor")


class FID(Config):
    """Frechet distance on clean-fid's Inception features, the only ones that may be called FID."""

    features: part(FEATURES) = Field("inception", description="Inception; its options alone may change")

    @field_validator("features")
    @classmethod
    def _only_inception(cls, features: Config) -> Config:
        if features.name != "inception":
            raise ValueError(f"fid is defined on inception features; write {{name: fd, features: {features.name}}}")
        return features


class KID(Config):
    """Kernel distance: unbiased also for few images, with a standard error."""

    features: part(FEATURES) = Field("efficientnet_lite0", description="the feature extractor")
    num_subsets: int = Field(100, ge=1, description="subsets that the distance is averaged over")
    subset_size: int = Field(1000, ge=2, description="images of each side in a subset, at most")


class PrecisionRecall(Config):
    """Share of samples near the reference images, and of reference images near the samples."""

    features: part(FEATURES) = Field("efficientnet_lite0", description="the feature extractor")
    k: int = Field(3, ge=1, description="neighbours that a ball reaches to")


class DensityCoverage(Config):
    """Precision and recall made robust against outliers."""

    features: part(FEATURES) = Field("efficientnet_lite0", description="the feature extractor")
    k: int = Field(5, ge=1, description="neighbours that a ball reaches to")


METRICS: dict[str, type[Config]] = {
    "fd": FD,
    "fid": FID,
    "kid": KID,
    "precision_recall": PrecisionRecall,
    "density_coverage": DensityCoverage,
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
        message = f"no metric is called '{name}'{nearest(name, METRICS)} (metrics: {', '.join(METRICS)})"
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
    batch_size: int = Field(100, ge=1, description="images decoded at once; no effect on the scores")
    seed: int | None = Field(None, ge=0, description="of the samples; null: the run's")
    allow_few: bool = Field(
        False, description="score fewer images than the features have dimensions (a biased number, marked as such)"
    )
    strict: bool = Field(False, description="a score that cannot be made ends the run instead of being skipped")
