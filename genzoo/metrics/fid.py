"""Frechet Inception Distance."""

from typing import ClassVar

from pydantic import Field, field_validator

from genzoo.config import Config
from genzoo.extractors import Extractor
from genzoo.metrics.fd import BOOTSTRAP, distance, too_few
from genzoo.parts import Side


class FID:
    """Frechet distance on clean-fid's Inception features, the only ones that may be called FID."""

    class Config(Config):
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

    needs: ClassVar[str] = "features"
    lower: ClassVar[dict[str, bool]] = {"fid": True}
    few = staticmethod(too_few)

    def __init__(self, config: Config):
        self.bootstrap = config.bootstrap
        self.by_statistics = ("real",) if config.bootstrap else ("real", "fake")

    def score(self, real: Side, fake: Side, seed: int) -> dict[str, dict]:
        return {"fid": distance(real, fake, self.bootstrap, seed)}
