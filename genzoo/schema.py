"""One JSON Schema for recipes, with the options of every installed part in it: editors complete and check by it."""

import logging
from typing import Any

from pydantic import BaseModel

from genzoo.config import Config, config_of
from genzoo.errors import UserError
from genzoo.recipe import Recipe
from genzoo.registry import KINDS

log = logging.getLogger("genzoo")


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a recipe. Imports every registered part; one that fails is left out, with a warning."""
    definitions: dict[str, Any] = {}
    tree = _schema(Recipe, "recipe", definitions)
    for kind, registry in KINDS.items():
        configs = {}
        for name in registry.entries:
            try:
                configs[name] = config_of(registry, name)
            except UserError as error:
                log.warning("left out: %s", error)
        definitions[kind] = _choice(kind, configs, definitions)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "genzoo recipe"}
    return {**head, **tree, "$defs": dict(sorted(definitions.items()))}


def _choice(kind: str, configs: dict[str, type[Config]], definitions: dict[str, Any]) -> dict[str, Any]:
    """A name alone, or `{name: ..., options}` with the options of the part that is named."""
    for name, config in configs.items():
        options = _schema(config, f"{kind}.{name}", definitions)
        options["properties"] = {**options["properties"], "name": {"const": name}}
        options["required"] = ["name", *options.get("required", ())]
        definitions[f"{kind}.{name}"] = options
    return {"anyOf": [{"enum": list(configs)}, *({"$ref": _ref(f"{kind}.{name}")} for name in configs)]}


def _schema(model: type[BaseModel], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of one model; what it refers to goes to `definitions` under names that no other model uses."""
    tree = model.model_json_schema(ref_template=_ref(f"{prefix}.{{model}}"))
    for name, definition in tree.pop("$defs", {}).items():
        definitions[f"{prefix}.{name}"] = _linked(definition)
    return _linked(tree)


def _linked(node: Any) -> Any:
    """The marks of fields that hold a part, turned into references; the titles that pydantic makes up, dropped."""
    if isinstance(node, dict):
        made_up = {key for key in ("genzoo_kind", "title") if isinstance(node.get(key), str)}
        linked = {key: _linked(value) for key, value in node.items() if key not in made_up}
        return linked | ({"$ref": _ref(node["genzoo_kind"])} if "genzoo_kind" in node else {})
    return [_linked(item) for item in node] if isinstance(node, list) else node


def _ref(name: str) -> str:
    return "#/$defs/" + name.replace("~", "~0").replace("/", "~1")
