"""Whose the parts of a recipe are that do not come with genzoo."""

from typing import Any

from genzoo.config import parts_in
from genzoo.registry import KINDS


def used(tree: Any) -> dict[str, str]:
    """kind/name -> owner of every part in a recipe (any tree of settings) that does not come with genzoo."""
    places = {(config.kind, config.name): KINDS[config.kind].entries[config.name].owner for config in parts_in(tree)}
    return {f"{kind}/{name}": owner for (kind, name), owner in places.items() if owner != "genzoo"}


def origins(parts: dict[str, str]) -> str:
    """Where the parts of a run came from (what `used` found when it was started), for who cannot load it now."""
    lines = []
    for place, owner in parts.items():
        kind, _, name = place.partition("/")
        entry = KINDS[kind].entries.get(name) if kind in KINDS else None
        if entry and entry.owner == owner:
            continue
        if owner == "__main__":
            remedy = "a notebook or script: run its `register` first, or move the class to a file named in `plugins:`"
        else:
            remedy = f"{owner}; here it comes from {entry.owner}" if entry else f"{owner}, which is not here"
        lines.append(f"the run's {place} came from {remedy}")
    return "".join(f"\n{line}" for line in lines)
