"""Parts from outside: local files, named by a recipe or `--plugin`. (Installed packages: see the registry.)"""

from __future__ import annotations

import ast
import importlib.util
import sys
from hashlib import sha256
from importlib.machinery import PathFinder
from pathlib import Path

from genzoo.errors import UserError
from genzoo.registry import KINDS, Entry


def load_file(path: str | Path) -> None:
    """Execute a plugin file (or a folder with an `__init__.py`) once, so that its parts are registered.

    UserError when it is missing, fails while it runs, or registers nothing.
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
    module = importlib.util.module_from_spec(spec)
    before = [set(registry.entries) for registry in KINDS.values()]
    for registry in KINDS.values():
        registry.loading = str(path)
    sys.modules[name] = module  # before execution, so that pydantic can resolve the module's annotations
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        for registry, names in zip(KINDS.values(), before, strict=True):
            registry.forget(set(registry.entries) - names)
        if isinstance(error, UserError | KeyboardInterrupt):
            raise
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(f"plugin {path} fails while it is loaded{line}: {type(error).__name__}: {error}") from error
    finally:
        for registry in KINDS.values():
            registry.loading = ""
    if before == [set(registry.entries) for registry in KINDS.values()]:
        raise UserError(
            f"plugin {path} registers nothing: put e.g. `@genzoo.DECODERS.register('name')` above the class"
        )


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
