"""Imports go one way, and what must be instant imports nothing slow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import genzoo

PACKAGE = Path(genzoo.__file__).parent
ZOO = {
    *("encoders", "latents", "priors", "decoders", "heads", "objectives", "terms", "samplers", "data", "features"),
    "metrics",
}
# A module may import from its own layer's folder and from the layers below it, never upwards.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"trained"},
    {"given"},
    {"scoring"},
    {"sides", "study"},
    {"run", "testing", "schema", "export"},
    {"run_scores"},
    {"reports", "explore"},
    {"sampling", "stage_two"},
    {"loading", "fitted"},
    {"preparation", "run_folder", "hub_folder"},
    {"recipe"},
    {"tracing"},
    {"model", "training", "evaluation", "pretrained"},
    ZOO,
    {"codes"},
    {"layers", "densities", "backbones", "extractors", "frechet", "neighbors"},
    {"launch", "progress", "interpolation"},
    {"plugins"},
    {"edits"},
    {"plugin_files", "recipe_file", "scaffold"},
    {"config", "cache"},
    {"images", "annotations", "budget"},
    {"files", "allocator"},
    {"registry"},
    {"installed"},
    {"contracts"},
    {"parts"},
    {"errors"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            if node.module == "genzoo":
                yield from (f"genzoo.{alias.name}" for alias in node.names if alias.name != "__version__")
            else:
                yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(path):
        if not module.startswith("genzoo."):
            continue
        other = room(module)
        assert other in RANK, f"{module}: give it a layer"
        if other == own:
            continue
        assert RANK[other] > RANK[own], f"{path.relative_to(PACKAGE)} imports {module}"
        if own in ("training", "evaluation"):
            assert other not in ZOO, f"{own} is machinery and must not know {module}"
    if own == "images":
        assert not {"torch", "torchvision"} & {module.partition(".")[0] for module in imports(path)}


@pytest.mark.parametrize("words", [["--help"], ["list"], ["list", "decoders"], ["recipes", "ls"], ["run", "--help"]])
def test_instant_commands_import_nothing_slow(words):
    code = (
        "import sys; sys.argv[1:] = sys.argv[1:]\n"
        "from genzoo.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "slow = {'torch', 'numpy', 'timm', 'torchvision', 'scipy', 'sklearn', 'accelerate'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_validation_imports_no_timm():
    code = (
        "import sys\n"
        "from genzoo.recipe import read\n"
        "read('svae_digits'); read('svae_celeba')\n"
        "slow = {'timm', 'torchvision', 'sklearn', 'accelerate'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_images_are_decoded_without_torch():
    """A worker process that decodes starts in a third of a second."""
    names = [path.stem for path in sorted((PACKAGE / "images").glob("*.py")) if path.stem != "__init__"]
    code = "import sys\n" + "".join(f"import genzoo.images.{name}\n" for name in names)
    code += "assert not {'torch', 'torchvision', 'pydantic'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
