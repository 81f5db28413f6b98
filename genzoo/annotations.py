"""What the annotation of an option says: in words, and which values fit it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, PlainValidator, WrapValidator
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class OneOf:
    """Mark on a field type that holds one of several named Configs; help and genzoo.schema read it."""

    kind: str

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        return {"genzoo_kind": self.kind}


def annotation_of(field: FieldInfo) -> Any:
    """The annotation as it was written: pydantic moves its outermost marks to the field."""
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def holds_part(annotation: Any) -> bool:
    """Whether an option holds a part, or several."""
    return any(isinstance(inner, OneOf) or holds_part(inner) for inner in get_args(annotation))


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
        bounds = [f"{sign} {value}" for mark in arguments[1:] for sign, value in _bounds(mark)]
        inner = words(arguments[0])
        if bounds and " | null" in inner:
            return inner.replace(" | null", f" {', '.join(bounds)} | null")
        return " ".join([inner, ", ".join(bounds)]).strip()
    if origin in (list, tuple):
        return f"list of {words(arguments[0])}" if arguments else "list"
    if annotation is type(None):
        return "null"
    return getattr(annotation, "__name__", str(annotation))


def _bounds(mark: Any) -> list[tuple[str, Any]]:
    if isinstance(mark, FieldInfo):
        return [bound for inner in mark.metadata for bound in _bounds(inner)]
    return [(sign, value) for name, sign in BOUNDS.items() if (value := getattr(mark, name, None)) is not None]


def misfits(annotation: Any, value: Any, place: tuple) -> list[tuple[tuple, str, Any]]:
    """(place, message, value) of whatever pydantic would turn into a number or boolean: '3' into 3, 1 into true.

    pydantic's own strict mode would refuse a list for a tuple, too, and words for a path.
    """
    types = list(_alternatives(annotation))
    if isinstance(value, list | tuple):
        found = (
            [
                error
                for i, (item, inner) in enumerate(zip(value, _items(kind), strict=False))
                for error in misfits(inner, item, (*place, i))
            ]
            for kind in types
            if get_origin(kind) in (list, tuple)
        )
        return min(found, key=len, default=[])
    converted = any(_bare(inner) in (bool, int, float) for inner in types)
    if not isinstance(value, str | int | float) or not converted or any(_takes(inner, value) for inner in types):
        return []
    given = str(value).lower() if isinstance(value, bool) else repr(value)
    return [(place, f"expected {words(annotation)}, not {given}", value)]


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The types that a field may hold, one by one; those that a validator parses keep their marks."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        for inner in arguments:
            yield from _alternatives(inner)
    elif origin is Annotated and not any(
        isinstance(mark, BeforeValidator | PlainValidator | WrapValidator) for mark in arguments[1:]
    ):
        yield from _alternatives(arguments[0])
    else:
        yield annotation


def _items(annotation: Any) -> Iterable[Any]:
    """The type of each item of a `list[...]` or `tuple[...]`."""
    arguments = get_args(annotation)
    return arguments if get_origin(annotation) is tuple and arguments[-1:] != (...,) else repeat(arguments[0])


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _takes(annotation: Any, value: Any) -> bool:
    """Whether one of the `_alternatives` takes a value that is no list as it is; types of other libraries take all."""
    if get_origin(annotation) is Annotated and not isinstance(value, bool):
        return True
    inner = _bare(annotation)
    if get_origin(inner) is Literal:
        return any(type(value) is type(one) and value == one for one in get_args(inner))
    if inner in (bool, str, type(None)):
        return isinstance(value, inner)
    if inner in (int, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return get_origin(inner) not in (list, tuple)
