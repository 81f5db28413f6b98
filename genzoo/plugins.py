"""Parts from outside: local files, named by a recipe or `--plugin`. (Installed packages: see the registry.)"""

import ast
import importlib.util
import sys
import traceback
from hashlib import sha256
from importlib.machinery import PathFinder
from pathlib import Path

from genzoo.errors import UserError, reason
from genzoo.registry import KINDS, Entry, outside


def load_file(path: str | Path) -> None:
    """Execute a plugin file (or a folder with an `__init__.py`) once, so that its parts are registered.

    A file may say which genzoo it was written for: `REQUIRES_GENZOO = ">=0.1,<0.2"`. UserError when it is missing,
    asks for another genzoo, fails while it runs, or registers nothing; then nothing of it stays registered.
    """
    path = Path(path).resolve()
    file = path / "__init__.py" if path.is_dir() else path
    if not file.is_file():
        why = " (a folder needs an __init__.py)" if path.is_dir() else ""
        raise UserError(
            f"plugin {path}: no such file{why}; put it back, or correct --plugin or `plugins:` in the recipe"
        )
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
        for module_name in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
            del sys.modules[module_name]
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
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
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
