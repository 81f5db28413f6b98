"""The field of an option that holds a feature extractor: a registered name, its options, or timm:NAME@SIZE."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from genzoo.config import Config, part
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


_TIMM = {"type": "string", "pattern": r"^timm:[^:@]+(@\d+)?$"}
Extractor = Annotated[
    part(FEATURES), BeforeValidator(written_out), WithJsonSchema({"anyOf": [{"genzoo_kind": "features"}, _TIMM]})
]
EXTRACTOR = Field("efficientnet_lite0", description="the feature extractor, or timm:NAME")
