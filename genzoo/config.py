"""The base of every part's options, and the pydantic field that holds "one part of that kind"."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, SerializeAsAny, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from genzoo.errors import UserError, nearest
from genzoo.registry import Registry


class Strict(BaseModel, extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False):
    """A frozen settings node; an unknown key is an error that names the nearest known one."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            unknown = [key for key in values if key not in cls.model_fields]
            if unknown:
                options = ", ".join(cls.model_fields)
                raise located(cls, [
                    (key, f"unknown option{nearest(str(key), cls.model_fields)} (options: {options})", values[key])
                    for key in unknown
                ])  # fmt: skip
        return values


class Config(Strict):
    """Options of a part; the part's own class holds its subclass as `Part.Config`."""

    name: str = ""


def located(model: type, errors: list[tuple[Any, str, Any]]) -> ValidationError:
    """A ValidationError with one line for each (key, message, input): pydantic adds the path from the root."""
    return ValidationError.from_exception_data(
        model.__name__,
        [
            InitErrorDetails(
                type=PydanticCustomError("genzoo", "{message}", {"message": text}), loc=(key,), input=value
            )
            for key, text, value in errors
        ],
    )


def part(registry: Registry) -> Any:
    """Field type for `{name: ..., options}` (or just the name), checked by the named part's own Config."""

    def parse(value: Any) -> Any:
        if isinstance(value, Config):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise ValueError(f"expected {{name: ..., options}} with one of: {', '.join(registry.entries)}")
        try:
            config = registry.get(value["name"]).Config
        except UserError as error:
            raise located(Config, [("name", str(error), value["name"])]) from error
        return config.model_validate(value)

    return Annotated[SerializeAsAny[Config], BeforeValidator(parse)]


def build(registry: Registry, config: Config, *args: Any, **wiring: Any) -> Any:
    """Make the part a config names; a size it cannot handle becomes a UserError that names the part."""
    try:
        return registry.get(config.name)(config, *args, **wiring)
    except UserError:
        raise
    except Exception as error:  # a plugin's constructor may fail in any way
        place = f"{registry.kind}/{config.name}"
        given = ", ".join(f"{key}={value}" for key, value in wiring.items() if isinstance(value, (tuple, int)))
        raise UserError(f"{place} cannot be built for {given or 'this recipe'}: {error}") from error


def options(config: type[Strict]) -> list[dict[str, Any]]:
    """The options of a part as rows of option, type, default and description, taken from its Config."""
    rows = []
    for option, field in config.model_fields.items():
        if option != "name":
            default = "required" if field.is_required() else field.get_default(call_default_factory=True)
            default = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
            row = {"option": option, "type": _words(field.annotation), "default": default}
            rows.append(row | {"description": field.description or ""})
    return rows


def _words(annotation: Any) -> str:
    """A type as a recipe's author would say it: `int | null`, `shared | pair`, `list of part`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " | ".join(map(_words, arguments))
    if origin is Annotated:
        return _words(arguments[0])
    if origin in (list, tuple):
        return f"list of {_words(arguments[0])}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return "part" if issubclass(annotation, Config) else "options"
    return getattr(annotation, "__name__", str(annotation))
