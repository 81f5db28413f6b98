"""Parts from outside: local files, named by a recipe or `--plugin`. (Installed packages: see the registry.)"""

from __future__ import annotations

import ast
import importlib.util
import sys
import traceback
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from genzoo.config import Config, config_of
from genzoo.errors import UserError, nearest, reason
from genzoo.registry import KINDS, Entry, entry_points, outside, owner_of


def load_file(path: str | Path) -> None:
    """Execute a plugin file (or a folder with an `__init__.py`) once, so that its parts are registered.

    A file may say which genzoo it was written for: `REQUIRES_GENZOO = ">=0.1,<0.2"`. UserError when it is missing,
    asks for another genzoo, fails while it runs, or registers nothing; then nothing of it stays registered.
    """
    path = Path(path).resolve()
    file = path / "__init__.py" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"plugin {path}: no such file{' (a folder needs an __init__.py)' if path.is_dir() else ''}")
    name = f"genzoo_plugin_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=[str(path)] if path.is_dir() else None
    )
    if spec is None or spec.loader is None:
        raise UserError(f"plugin {path}: not a Python file (its name must end in .py)")
    if (versions := _required(file)) and (problem := outside(versions)):
        raise UserError(f"plugin {path}: {problem} (its REQUIRES_GENZOO)")
    module = importlib.util.module_from_spec(spec)
    before = {registry: set(registry.entries) for registry in KINDS.values()}
    for registry in KINDS.values():
        registry.loading = str(path)
    sys.modules[name] = module  # before execution, so that pydantic can resolve the module's annotations
    try:
        spec.loader.exec_module(module)
        if not any(set(registry.entries) - names for registry, names in before.items()):
            example = '`@genzoo.DECODERS.register("mine")`'
            raise UserError(f"plugin {path} registers nothing: put e.g. {example} above the class")
    except BaseException as error:
        sys.modules.pop(name, None)
        for registry, names in before.items():
            registry.forget(set(registry.entries) - names)
        if isinstance(error, UserError | KeyboardInterrupt):
            raise
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else _line_in(path, error)
        raise UserError(f"plugin {path}{line}: cannot be loaded: {reason(error)}{_sibling(file, error)}") from error
    finally:
        for registry in KINDS.values():
            registry.loading = ""


def _required(file: Path) -> str:
    """The value of REQUIRES_GENZOO, read without executing the file."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # executing it says what is wrong, with the line
        return ""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == "REQUIRES_GENZOO":
                    return str(node.value.value)
    return ""


def _line_in(path: Path, error: BaseException) -> str:
    """The plugin's own line that an error came from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(path))]
    return f", line {frames[-1].lineno}" if frames else ""


def _sibling(file: Path, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and (file.parent / f"{error.name}.py").is_file():
        return f"; {error.name}.py is beside it: name the folder as the plugin and use `from .{error.name} import ...`"
    return ""


def parts_of(path: str | Path) -> list[str]:
    """kind/name of every part that a loaded plugin file or folder has registered."""
    owner = str(Path(path).resolve())
    return [
        f"{kind}/{name}"
        for kind, registry in KINDS.items()
        for name, entry in registry.entries.items()
        if entry.owner == owner
    ]


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
        package, owner = owner_of(point)
        version = owner.removeprefix(f"{package} ")
        plugin = packages.setdefault(owner, Plugin(package or owner, version, "package"))
        kind = point.group.removeprefix("genzoo.")
        known = f"no kind '{kind}'{nearest(kind, KINDS)}; correct the entry point's group (kinds: {', '.join(KINDS)})"
        plugin.parts[f"{kind}/{point.name}"] = problem_of(kind, point.name) if kind in KINDS else known
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
    for kind, registry in KINDS.items() if isinstance(tree, Config) else ():
        entry = registry.entries.get(tree.name)
        if entry and entry.owner != "genzoo" and config_of(registry, tree.name) is type(tree):
            found[f"{kind}/{tree.name}"] = entry.owner
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
