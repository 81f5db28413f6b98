"""`genzoo new`: what it writes works at once, for every kind, and it never writes over anything."""

from __future__ import annotations

import tomllib

import pytest

from genzoo.contracts import PROTOCOLS
from genzoo.owners import used
from genzoo.preparation import build_parts
from genzoo.recipe import read
from genzoo.registry import KINDS
from genzoo.testing import conformance

SINGULAR = {kind: kind.removesuffix("s") for kind in KINDS} | {"features": "features"}
QUICK = [
    "train.steps=2", "train.batch_size=4", "train.precision=fp32", "evaluation.num_samples=4",
    "evaluation.num_reference=4",
]  # fmt: skip


@pytest.fixture
def new(call, install, tmp_path, monkeypatch):
    """Write a package with `genzoo new` and make it known as pip would; returns its folder."""

    def write(kind: str, name: str):
        code, _, err = call("new", kind, name)
        assert code == 0, err
        folder = tmp_path / "here" / name.replace("/", "-")
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        ((group, points),) = project["entry-points"].items()
        lines = "".join(f"{point} = {target}\n" for point, target in points.items())
        install(project["name"], f"[{group}]\n{lines}", project["version"], project["dependencies"][0])
        monkeypatch.syspath_prepend(folder)
        return folder

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_part_keeps_its_contract_and_trains(kind, new, call):
    folder = new(SINGULAR[kind], "fresh")
    conformance(
        f"{kind}/fresh", {"decoder": {"name": "conv", "base_dim": 4}} if kind == "heads" else None, backend="eager"
    )
    assert f"`{PROTOCOLS[kind].__name__}` in" in (folder / "README.md").read_text()
    recipe = folder / "recipes" / "fresh_digits.yaml"
    resolved = read(recipe)
    build_parts(resolved)
    assert used(resolved) == {f"{kind}/fresh": "genzoo-fresh 0.1.0"}
    assert kind == "datasets" or resolved.data.name == "digits"
    code, _, err = call("run", recipe, *QUICK)
    assert code == 0, err
    assert (folder.parent / "runs" / "fresh_digits" / "metrics.json").is_file()


def test_a_part_of_a_package_that_is_not_installed_says_how(call):
    assert call("new", "latent", "fresh")[0] == 0
    code, _, err = call("check", "fresh/genzoo_fresh/latent.py")
    assert code == 2 and "registers nothing" in err and "pip install -e" in err and "fresh\n" in err


def test_a_new_dataset_keeps_its_contract_at_its_largest_size(new):
    new("dataset", "fresh")
    conformance("datasets/fresh", {"size": 128})


def test_its_own_test_is_the_conformance_kit_and_the_recipe(new):
    folder = new("decoder", "acme/fresh")
    text = (folder / "tests" / "test_acme_fresh.py").read_text()
    names: dict = {"__file__": str(folder / "tests" / "test_acme_fresh.py")}
    exec(compile(text, names["__file__"], "exec"), names)
    names["test_keeps_the_contract"]()
    names["test_recipe_fits_together"]()
    assert "acme/fresh" in KINDS["decoders"].entries
    assert not [path for path in folder.rglob("*") if "$" in path.name or (path.is_file() and "$" in path.read_text())]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["decodr", "mine"], "no kind 'decodr'; did you mean 'decoders'"),
        (["decoder", "My Decoder"], "'My Decoder' is no name for a part"),
        (["decoder", "../mine"], "is no name for a part"),
        (["decoder", "1st"], "is no name for a part"),
        (
            ["decoder", "resnet"],
            "decoders/resnet exists already (from genzoo); choose another name, such as acme/resnet",
        ),
        (["decoder", "taken"], "taken exists: remove it, or choose another folder with --out"),
        (["decoder", "mine", "--out", "taken"], "taken exists"),
    ],
)
def test_it_refuses(words, message, call, tmp_path):
    here = tmp_path / "here"
    (here / "taken").mkdir()
    (here / "taken" / "notes.txt").write_text("mine")
    code, _, err = call("new", *words)
    assert code == 2 and message in err
    assert [path.relative_to(here).as_posix() for path in here.rglob("*")] == ["taken", "taken/notes.txt"]


def test_a_failure_half_way_leaves_nothing(call, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    code, _, err = call("new", "decoder", "mine")
    assert code != 0 and "the disk is full" in err and "mine" in err
    assert list((tmp_path / "here").iterdir()) == []
