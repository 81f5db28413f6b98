"""What is said of plugins without importing them. (Local files: genzoo.plugin_files; packages: the registry.)"""

import ast
import importlib.util
from importlib.machinery import PathFinder
from pathlib import Path

from genzoo.registry import Entry


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
