"""What the annotation of an option says: in words, and which values fit it."""

from dataclasses import dataclass
from typing import Annotated, Any, get_args

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
