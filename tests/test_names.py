"""The machinery knows no family: a latent, prior, objective or term is named in its own file and in the table alone."""

import ast
import re
from pathlib import Path

import pytest

import genzoo
from genzoo.registry import LATENTS, OBJECTIVES, PRIORS, TERMS

PACKAGE = Path(genzoo.__file__).parent
OWN = {
    name: f"{registry.kind}/{name}.py"
    for registry in (LATENTS, PRIORS, OBJECTIVES, TERMS)
    for name, entry in registry.entries.items()
    if entry.owner == "genzoo"
}
# The recipe's defaults, the partners that the conformance kit and a new package give a part, and the table itself.
DEFAULTS = {"recipe.py": {"elbo"}, "model.py": {"gaussian"}, "testing/partners.py": {"gaussian"}}
DEFAULTS |= {"testing/metrics.py": {"elbo", "ae", "deterministic", "vq"}}
DEFAULTS |= {"scaffold/__init__.py": {"gaussian", "elbo"}}
TABLE = {"registry.py"}
FILES = sorted(file for suffix in ("py", "html", "js") for file in PACKAGE.rglob(f"*.{suffix}"))


def said(path: Path) -> list[str]:
    """A program's strings and the modules it imports, but for its docstrings; of any other file the whole text."""
    if path.suffix != ".py":
        return [path.read_text(encoding="utf-8")]
    texts, comments = [], set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr):
            comments.add(id(node.value))  # a string that stands for itself
        elif isinstance(node, ast.ImportFrom):
            texts.append((node.module or "").replace(".", " "))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in comments:
            texts.append(node.value)
    return texts


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_family_is_named_elsewhere(path):
    place = path.relative_to(PACKAGE).as_posix()
    if place in TABLE:
        return
    words = {word for text in said(path) for word in re.findall(r"[a-z][a-z_0-9]*", text)}
    allowed = {name for name, own in OWN.items() if own == place} | DEFAULTS.get(place, set())
    assert not (words & OWN.keys()) - allowed


def test_the_names_are_looked_for_where_they_are():
    for name, own in OWN.items():
        assert (PACKAGE / own).is_file(), name
    assert OWN.keys() <= {
        word for text in said(PACKAGE / "registry.py") for word in re.findall(r"[a-z][a-z_0-9]*", text)
    }
