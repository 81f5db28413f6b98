"""The options of a part, as help and the catalogue show them."""

from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from genzoo.annotations import annotation_of
from genzoo.config import Config, Strict
from genzoo.wording import words


def options(config: type[Strict]) -> list[dict[str, Any]]:
    """The options of a part as rows of option, type (with its bounds), default and description, from its Config.

    Options inside options come as `outer.inner`; those of a nested part are its own: `genzoo show KIND/NAME`.
    """
    rows = []
    for option, field in fields(config):
        default = (
            "required" if field.is_required() else to_jsonable_python(field.get_default(call_default_factory=True))
        )
        row = {"option": option, "type": words(annotation_of(field)), "default": default}
        rows.append(row | {"description": field.description or ""})
    return rows


def fields(config: type[Strict], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The options of a part by name, with those inside options as `outer.inner`."""
    for option, field in config.model_fields.items():
        if option == "name" and issubclass(config, Config):
            continue
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Strict) and not issubclass(inner, Config):
            yield from fields(inner, f"{prefix}{option}.")
        else:
            yield f"{prefix}{option}", field
