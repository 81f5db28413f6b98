"""What the annotation of an option says: in words, and which values fit it."""

from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

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


def alternatives(annotation: Any) -> bool:
    """Whether an option takes values of several types, null aside."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return alternatives(arguments[0])
    return origin in (Union, UnionType) and sum(inner is not type(None) for inner in arguments) > 1


def exact(schema: Any) -> Any:
    """A pydantic schema whose numbers and booleans take no words, and booleans no numbers; 1e3 is an integer.

    pydantic's own strict mode would refuse a list for a tuple, too, and words for a path.
    """
    if isinstance(schema, dict) and schema.get("type") in ("int", "float", "bool"):
        if schema["type"] == "int" and not schema.get("strict"):
            inner = {**schema, "strict": True}
            schema.clear()
            schema |= {"type": "function-before", "function": {"type": "no-info", "function": _whole}, "schema": inner}
        else:
            schema["strict"] = True
    elif isinstance(schema, dict | list | tuple):
        for key, inner in schema.items() if isinstance(schema, dict) else enumerate(schema):
            if key not in ("default", "metadata", "expected"):
                exact(inner)
    return schema


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
