"""genzoo: a pluggable zoo of generative image models."""

from typing import TYPE_CHECKING

from genzoo.registry import (
    DATASETS,
    DECODERS,
    ENCODERS,
    FEATURES,
    HEADS,
    LATENTS,
    METRICS,
    OBJECTIVES,
    PRIORS,
    SAMPLERS,
    TERMS,
)

__version__ = "0.1.0"
__all__ = ["DATASETS", "DECODERS", "ENCODERS", "FEATURES", "HEADS", "LATENTS", "METRICS", "OBJECTIVES", "PRIORS"]
__all__ += ["SAMPLERS", "TERMS", "Composition", "Config", "fid", "load"]

if TYPE_CHECKING:
    from genzoo.config import Config
    from genzoo.loading import load
    from genzoo.parts import Composition
    from genzoo.scoring import fid


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str):
    # Importing genzoo stays instant: pydantic and torch are loaded by whoever asks for what needs them.
    if name == "Config":
        from genzoo.config import Config

        return Config
    if name == "Composition":
        from genzoo.parts import Composition

        return Composition
    if name == "load":
        from genzoo.loading import load

        return load
    if name == "fid":
        from genzoo.scoring import fid

        return fid
    raise AttributeError(f"module 'genzoo' has no attribute '{name}'")
