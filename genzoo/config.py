"""The base of every part's options, and the pydantic field that holds "one part of that kind"."""

import inspect
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, SerializeAsAny, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from genzoo.annotations import OneOf, exact
from genzoo.contracts import lacking
from genzoo.errors import TooLarge, UserError, reason, suggestion
from genzoo.registry import Registry


class Strict(BaseModel, extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False):
    """A frozen settings node; an unknown key is an error that names the nearest known one, a wrong type is one too."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return exact(handler(source))

    @model_validator(mode="wrap")
    @classmethod
    def _explained(cls, values: Any, handler: Any) -> Any:
        if isinstance(values, dict):
            values = {key: _named(cls.model_fields.get(key), value) for key, value in values.items()}
        try:
            return handler(values)
        except ValidationError as error:
            if not isinstance(values, dict):
                raise
            from genzoo.wording import told

            lines = error.errors(include_url=False)
            unknown = [line["loc"][0] for line in lines if line["type"] == "extra_forbidden" and len(line["loc"]) == 1]
            close = {key: suggestion(str(key), cls.model_fields) for key in unknown[:20]}  # more are never shown
            raise ValidationError.from_exception_data(cls.__name__, list(told(cls, lines, values, close))) from None


def _named(field: FieldInfo | None, value: Any) -> Any:
    """Options of a part that is not named are the default part's: `objective: {beta: 2}`."""
    if field is None or not isinstance(value, dict) or "name" in value:
        return value
    default = {"name": field.default} if isinstance(field.default, str) else field.default
    is_part = any(isinstance(mark, OneOf) for mark in field.metadata)
    return {**default, **value} if is_part and isinstance(default, dict) else value


class Config(Strict):
    """Options of a part; the part's own class holds its subclass as `Part.Config`."""

    kind: ClassVar[str] = ""  # of the part whose Config it is, known once that has been looked up
    name: str = ""


def located(model: type, errors: list[tuple[Any, str, Any]]) -> ValidationError:
    """A ValidationError with one line for each (key, message, input): pydantic adds the path from the root.

    A tuple of keys says where in the value of the first one.
    """
    return ValidationError.from_exception_data(
        model.__name__,
        [
            InitErrorDetails(
                type=PydanticCustomError("genzoo", "{message}", {"message": text}),
                loc=key if isinstance(key, tuple) else (key,),
                input=value,
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
            known = ", ".join(registry.entries)
            raise PydanticCustomError(
                "part", "{message}", {"message": f"expected {{name: ..., options}} with one of: {known}"}
            )
        config = None
        try:
            config = config_of(registry, value["name"])
            return config.model_validate(value)
        except UserError as error:
            raise located(Config, [("name", str(error), value["name"])]) from error
        except ValidationError as error:
            for line in error.errors():
                option = line["loc"][0] if line["loc"] else None
                if option in config.model_fields and option not in value and line["type"] != "missing":
                    fault = f"the default of {registry.kind}/{value['name']} for this option is wrong: {line['msg']}"
                    raise located(Config, [(option, f"{fault} ({place_of(config)})", line["input"])]) from error
            raise
        except Exception as error:  # a plugin's own validators may fail in any way
            place = f" ({place_of(config)})" if config else ""
            fault = f"the Config of {registry.kind}/{value['name']} fails: {reason(error)}{place}"
            raise located(Config, [("name", fault, value["name"])]) from error

    return Annotated[SerializeAsAny[Config], BeforeValidator(parse), OneOf(registry.kind)]


def parse(field: Any, value: Any, place: str) -> Any:
    """One setting outside a recipe, checked by its field type; UserError begins with `place`."""
    try:
        return TypeAdapter(field).validate_python(value)
    except ValidationError as error:
        lines = (".".join(map(str, [place, *line["loc"]])) + f": {line['msg']}" for line in error.errors())
        raise UserError("\n".join(lines).replace("Value error, ", "")) from None


def config_of(registry: Registry, name: str) -> type[Config]:
    """The Config of a registered part; UserError when there is no such part or it has none."""
    part = registry.get(name)
    config = getattr(part, "Config", None)
    if not (isinstance(config, type) and issubclass(config, Config)):
        raise UserError(
            f"{registry.kind}/{name} ({registry.entries[name].owner}): the class {part.__name__} needs its options "
            f"as a nested `class Config(genzoo.Config)` ({place_of(part)})"
        )
    if config is Config:  # of a part without options: one of its own, so that it can know its kind
        config = part.Config = type("Config", (Config,), {"__module__": part.__module__})
    config.kind = registry.kind
    return config


def parts_in(tree: Any) -> Iterator[Config]:
    """The options of every part in a recipe, or any tree of settings."""
    if isinstance(tree, list | tuple):
        for item in tree:
            yield from parts_in(item)
    elif isinstance(tree, BaseModel):
        if vars(type(tree)).get("kind"):  # not what it inherits: a metric's options are no part's
            yield tree
        for name in type(tree).model_fields:
            yield from parts_in(getattr(tree, name))


def leaves(tree: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """`outer.inner` -> value of everything in dicts and lists inside each other."""
    if isinstance(tree, dict | list) and tree:
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, f"{place}.{key}" if place else str(key))
    else:
        yield place, tree


def place_of(target: Any) -> str:
    """`file:line` of a class, for messages to whoever wrote it."""
    try:
        return f"{inspect.getsourcefile(target)}:{inspect.getsourcelines(target)[1]}"
    except (OSError, TypeError):  # typed into a notebook or an interpreter
        return f"{target.__module__}.{target.__qualname__}"


def build(registry: Registry, config: Config, *args: Any, **wiring: Any) -> Any:
    """Make the part a config names; a size it cannot handle becomes a UserError that names the part.

    What is made knows what it is: `kind_name`, such as decoders/resnet.
    """
    place = f"{registry.kind}/{config.name}"
    given = ", ".join(f"{key}={value}" for key, value in wiring.items() if isinstance(value, (tuple, int)))
    part = registry.get(config.name)
    try:
        inspect.signature(part).bind(config, *args, **wiring)
    except TypeError as error:
        expected = ", ".join(["config", *wiring])
        raise UserError(f"{place}: its __init__ must take ({expected}): {error} ({place_of(part)})") from None
    budget = nullcontext()
    if "torch" in sys.modules:  # what has not imported it builds no tensors
        from genzoo.budget import within_memory

        budget = within_memory()
    try:
        with budget:
            built = part(config, *args, **wiring)
    except UserError:
        raise
    except TooLarge as error:
        from genzoo.wording import smaller

        raise UserError(f"{place}: {error}; {smaller(config, given)}") from error
    except Exception as error:  # a plugin's constructor may fail in any way
        message = error if isinstance(error, ValueError) else reason(error)
        raise UserError(f"{place} cannot be built for {given or 'this recipe'}: {message}") from error
    if problem := lacking(registry.kind, built):
        raise UserError(f"{place}: {problem} ({place_of(part)})")
    vars(built)["kind_name"] = place  # not by assignment, which a part may refuse
    return built
