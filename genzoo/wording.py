"""What messages and help say of options: types in a recipe's words, pydantic's errors, and what could be less."""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from genzoo.annotations import OneOf, annotation_of
from genzoo.errors import quoted

BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}


def words(annotation: Any) -> str:
    """A type as a recipe's author would say it: `int >= 1 | null`, `shared | pair`, `list of decoders part`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " | ".join(map(words, arguments))
    if origin is Annotated:
        for mark in arguments[1:]:
            if isinstance(mark, OneOf):
                return f"{mark.kind} part"
        bounds = ", ".join(f"{sign} {value}" for mark in arguments[1:] for sign, value in _bounds(mark))
        bounds = f"({bounds})" if bounds.startswith("length") else bounds  # of the list, not of what is in it
        inner = words(arguments[0])
        if bounds and " | null" in inner:
            return inner.replace(" | null", f" {bounds} | null")
        return f"{inner} {bounds}".strip()
    if origin in (list, tuple):
        return f"list of {words(arguments[0])}" if arguments else "list"
    if annotation is type(None):
        return "null"
    return getattr(annotation, "__name__", str(annotation))


def _bounds(mark: Any) -> list[tuple[str, Any]]:
    if isinstance(mark, FieldInfo):
        return [bound for inner in mark.metadata for bound in _bounds(inner)]
    return [(sign, value) for name, sign in BOUNDS.items() if (value := getattr(mark, name, None)) is not None]


def alternatives(annotation: Any) -> bool:
    """Whether an option takes values of several types, null aside."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return alternatives(arguments[0])
    return origin in (Union, UnionType) and sum(inner is not type(None) for inner in arguments) > 1


def told(
    model: type[BaseModel], lines: list[Any], values: dict[str, Any], close: dict[Any, str]
) -> Iterator[InitErrorDetails]:
    """pydantic's errors in a recipe's words; of the alternatives that an option has, one error for all."""
    seen: set[Any] = set()
    for line in lines:
        key, rest = (line["loc"] or (None,))[0], line["loc"][1:]
        field = model.model_fields.get(key)
        if line["type"] == "extra_forbidden" and not rest:
            text = f"unknown option{close.get(key, '')} (options: {', '.join(model.model_fields)})"
        elif field is None or key not in values or line["type"] in ("genzoo", "part", "value_error", "missing"):
            text = line["msg"] if line["type"] in ("genzoo", "part") else None
        elif alternatives(annotation_of(field)) and rest and not isinstance(rest[0], int):
            if key in seen:
                continue
            seen.add(key)
            line = {**line, "loc": (key,), "input": values[key], "type": "genzoo"}
            text = f"expected {words(annotation_of(field))}, not {_given(values[key])}"
        elif line["type"] in NUMBERS:
            wanted = words(annotation_of(field)) if not rest else NUMBERS[line["type"]]
            text, line = f"expected {wanted}, not {_given(line['input'])}", {**line, "type": "genzoo"}
        else:
            text = None
        kind = line["type"] if text is None else "genzoo" if line["type"] == "extra_forbidden" else line["type"]
        yield InitErrorDetails(
            type=kind if text is None else PydanticCustomError(kind, "{message}", {"message": text}),
            loc=line["loc"],
            input=line["input"],
            ctx=line.get("ctx", {}),
        )


NUMBERS = {"int_type": "int", "int_from_float": "int", "float_type": "float", "bool_type": "bool"}


def _given(value: Any) -> str:
    return (
        {True: "true", False: "false", None: "null"}[value]
        if value is None or isinstance(value, bool)
        else quoted(value)
    )


def growth(config: BaseModel) -> tuple[float, str]:
    """How far, in times, the option that lies furthest above its default does so, and which it is; 1 and "": none."""
    found = [(1.0, "")]
    for option, field in type(config).model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        found.append((_size(getattr(config, option)) / max(_size(default), 1), option))
    return max(found, key=lambda each: each[0])


def smaller(config: BaseModel, given: str) -> str:
    """The remedy where a part is too large: less of that option, else of what the part is given."""
    _, option = growth(config)
    if not option:
        return f"it is built for {given}: make that smaller"
    default = type(config).model_fields[option].get_default(call_default_factory=True)
    return f"lower {option} ({quoted(getattr(config, option))}; default {quoted(default)})"


def _size(value: Any) -> float:
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return value if isinstance(value, int | float) else 0
