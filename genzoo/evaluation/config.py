"""The recipe's `evaluation`: which scores, of how many images. Cheap to import."""

from pydantic import Field, field_validator

from genzoo.config import Config, Strict, part
from genzoo.errors import UserError
from genzoo.extractors import label_of
from genzoo.registry import FEATURES, METRICS


class EvaluationConfig(Strict):
    """The recipe's `evaluation`."""

    num_samples: int = Field(10000, ge=2, description="images of each generator")
    reference: str = Field("test", description="split that samples are compared with")
    num_reference: int | None = Field(
        10000, ge=2, description="reference images at most, spread evenly over the split; null: all"
    )
    metrics: list[part(METRICS)] = Field(
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
        features = [getattr(metric, "features", None) for metric in metrics]
        places = [one.name + (f" on {label_of(on)}" if on else "") for one, on in zip(metrics, features, strict=True)]
        if twice := next((place for place in places if places.count(place) > 1), None):
            raise ValueError(f"{twice} is listed twice, and tables could not tell the two apart; leave one out")
        return metrics


def missing(config: EvaluationConfig) -> list[tuple[str, str]]:
    """Fetch what the metrics need, before a run starts: (metric, reason) for each that cannot be had.

    UserError instead when `config.strict` is set.
    """
    found = []
    for metric in config.metrics:
        features = getattr(metric, "features", None)
        try:
            if features:
                FEATURES.get(features.name).fetch(features)
        except UserError as error:
            if config.strict:
                raise UserError(f"{metric.name} cannot be scored: {error}") from error
            found.append((metric.name, str(error)))
    return found
