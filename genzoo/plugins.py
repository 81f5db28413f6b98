"""What plugins bring, and what is wrong with them. (Local files: plugin_files; those of a recipe: owners.)"""

import ast
import importlib.util
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Literal

from genzoo.errors import UserError, reason, suggestion
from genzoo.installed import entry_points
from genzoo.plugin_files import load_file, parts_of
from genzoo.registry import KINDS, Entry


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
            close = suggestion(kind, KINDS)
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
    from genzoo.config import config_of

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


def describe(entry: Entry) -> str:
    """First line of a part's docstring, read from its source: nothing is imported. Empty when it cannot be found."""
    if isinstance(entry.target, type):
        return (entry.target.__doc__ or "").strip().partition("\n")[0]
    module, _, attribute = entry.target.partition(":")
    try:
        tree = ast.parse(_source(module).read_bytes())
    except (OSError, SyntaxError, ValueError, ImportError):  # listing shows the name; using it says what is wrong
        return ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == attribute:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def _source(module: str) -> Path:
    """The file of a module, found without importing its packages."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    for step in rest:
        if spec is None:
            break
        spec = PathFinder.find_spec(f"{spec.name}.{step}", spec.submodule_search_locations)
    if spec is None or spec.origin is None:
        raise ImportError(f"no module {module}")
    return Path(spec.origin)
