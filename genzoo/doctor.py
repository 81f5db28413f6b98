"""What plugins bring, what is wrong with them, and which of them a run depends on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from genzoo.config import config_of
from genzoo.errors import UserError, nearest, reason
from genzoo.plugin_files import load_file, parts_of
from genzoo.registry import KINDS, entry_points, imported


@dataclass
class Plugin:
    """A package or file that registers parts."""

    name: str
    version: str
    source: Literal["package", "file"]
    parts: dict[str, str] = field(default_factory=dict)  # kind/name -> why it cannot be used, empty when it can
    problem: str = ""  # why the whole plugin cannot be used

    @property
    def sound(self) -> bool:
        return not self.problem and not any(self.parts.values())


def survey(files: tuple[str, ...] = ()) -> list[Plugin]:
    """Every installed package that names genzoo parts, and the given plugin files, each part imported and checked."""
    packages: dict[str, Plugin] = {}
    for point in entry_points():
        plugin = packages.setdefault(point.owner, Plugin(point.package, point.version, "package"))
        kind = point.kind
        if kind not in KINDS:
            close = nearest(kind, KINDS)
            problem = f"no kind '{kind}'{close}; correct the entry point's group (kinds: {', '.join(KINDS)})"
        elif KINDS[kind].entries[point.name].owner == "genzoo":
            problem = f"the name is genzoo's own; rename it, such as OWNER/{point.name}"
        else:
            problem = problem_of(kind, point.name)
        plugin.parts[f"{kind}/{point.name}"] = problem
    local: list[Plugin] = []
    for file in files:
        path = str(Path(file).resolve())
        plugin = Plugin(path, "", "file")
        try:
            load_file(path)
        except UserError as error:
            plugin.problem = str(error)
        plugin.parts |= {place: problem_of(*place.split("/", 1)) for place in parts_of(path)}
        local.append(plugin)
    return [*packages.values(), *local]


def problem_of(kind: str, name: str) -> str:
    """Why a registered part cannot be used by a recipe; empty when it can. Imports it."""
    try:
        config = config_of(KINDS[kind], name)
        required = {option for option, field in config.model_fields.items() if field.is_required()}
        if not required:
            config.model_validate({"name": name})
    except UserError as error:
        return str(error)
    except Exception as error:  # a plugin's own validators may fail in any way
        return f"{kind}/{name}: its Config does not accept its own defaults: {reason(error)}"
    return ""


def used(tree: Any) -> dict[str, str]:
    """kind/name -> owner of every part in a recipe (any tree of settings) that does not come with genzoo."""
    if isinstance(tree, list | tuple):
        return {place: owner for item in tree for place, owner in used(item).items()}
    if not isinstance(tree, BaseModel):
        return {}
    found = used([getattr(tree, name) for name in type(tree).model_fields])
    for part, place in imported().items():  # what a recipe names has been imported; nothing else needs to be importable
        kind, _, name = place.partition("/")
        owner = KINDS[kind].entries[name].owner
        if getattr(part, "Config", None) is type(tree) and name == tree.name and owner != "genzoo":
            found[place] = owner
    return found


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
