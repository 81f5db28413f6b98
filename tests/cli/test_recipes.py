"""`genzoo recipes`: ls, cp, validate, diff, schema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from genzoo.config import build
from genzoo.model import Model
from genzoo.recipe import Recipe, read
from genzoo.recipe_file import load, shipped
from genzoo.registry import OBJECTIVES
from genzoo.schema import schema
from genzoo.tracing.measures import measure, saved_bytes
from genzoo.training.step import Step


@pytest.fixture(scope="module")
def validator():
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_fit_the_schema(name, validator):
    validator.validate(load(shipped()[name])[0])
    validator.validate(yaml.safe_load(read(name).to_yaml()))


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        ({"modle": {}}, []),
        ({"seed": "one"}, ["seed"]),
        ({"data": "digitz"}, ["data"]),
        ({"data": {"name": "digits", "sise": 32}}, ["data"]),
        ({"data": {"size": 32}}, ["data"]),
        ({"model": {"head": {"name": "split", "decoder": {"name": "conv", "base_dim": 0}}}}, ["model", "head"]),
        ({"model": {"encoder": {"name": "mlp", "base_dim": 3}}}, ["model", "encoder"]),
        ({"samplers": [{"name": "gmm", "num_components": "many"}]}, ["samplers", 0]),
        ({"evaluation": {"metrics": ["fdd"]}}, ["evaluation", "metrics", 0]),
        ({"train": {"optimizer": {"rate": 1}}}, ["train", "optimizer"]),
    ],
)
def test_the_schema_refuses_what_the_recipe_refuses(edit, place, validator):
    errors = list(validator.iter_errors({"name": "x", **edit}))
    assert [list(error.absolute_path) for error in errors] == [place]


MLP = {"name": "mlp"}
TIMES = [(60, True), (0, False), ("bad", False), ("60", False), ("2h30m", True), (" 1.5h 2s", True), ("0h", False)]


@pytest.mark.parametrize(
    ("edit", "accepted"),
    [
        ({"seed": 3}, True),
        ({"seed": "3"}, False),
        ({"seed": True}, False),
        ({"train": {"steps": "100"}}, False),
        ({"train": {"optimizer": {"lr": 1}}}, True),
        ({"train": {"optimizer": {"lr": "1e-3"}}}, False),
        ({"train": {"optimizer": {"betas": [0.5, 1]}}}, True),
        ({"train": {"optimizer": {"betas": [0.5, "0.9"]}}}, False),
        ({"train": {"clip_grad_norm": None}}, True),
        ({"train": {"channels_last": 1}}, False),
        ({"evaluation": {"allow_few": True}}, True),
        ({"evaluation": {"allow_few": "yes"}}, False),
        ({"evaluation": {"allow_few": 1}}, False),
        ({"model": {"encoder": MLP | {"hidden_dims": [8]}}}, True),
        ({"model": {"encoder": MLP | {"hidden_dims": [True]}}}, False),
        ({"evaluation": {"metrics": [{"name": "fd", "features": "timm:resnet18"}]}}, True),
        ({"evaluation": {"metrics": [{"name": "fd", "features": "timm:resnet18@64"}]}}, True),
        ({"evaluation": {"metrics": [{"name": "fd", "features": {"name": "timm", "model": "resnet18"}}]}}, True),
        ({"evaluation": {"metrics": [{"name": "fd", "features": "timm:"}]}}, False),
        *(({"train": {"max_time": time}}, accepted) for time, accepted in TIMES),
    ],
)
def test_the_schema_and_the_recipe_agree_on_types(edit, accepted, validator):
    tree = {"name": "x", **edit}
    assert validator.is_valid(tree) == accepted
    if accepted:
        Recipe.model_validate(tree)
    else:
        with pytest.raises(ValidationError):
            Recipe.model_validate(tree)


def test_the_schema_takes_names_alone_and_nested_parts(validator):
    validator.validate({"name": "x", "data": "digits", "samplers": ["prior"], "evaluation": {"metrics": ["fid"]}})
    head = {"name": "split", "trunk": "pair", "decoders": ["mlp", {"name": "conv", "base_dim": 3}]}
    validator.validate({"name": "x", "model": {"head": head}})


def test_the_schema_has_the_options_of_plugins(call, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import genzoo\nfrom pydantic import Field\n@genzoo.DECODERS.register('schema_mine')\nclass Mine:\n"
        "    class Config(genzoo.Config):\n        width: int = Field(3, description='in pixels')\n"
    )
    try:
        code, out, _ = call("recipes", "schema", "--plugin", plugin)
        definitions = json.loads(out)["$defs"]
        assert code == 0 and "schema_mine" in definitions["decoders"]["anyOf"][0]["enum"]
        assert definitions["decoders.schema_mine"]["properties"]["width"]["description"] == "in pixels"
    finally:
        from genzoo.registry import DECODERS

        DECODERS.forget({"schema_mine"})


def test_ls_and_cp(call, tmp_path):
    code, out, _ = call("recipes", "ls", "--json")
    assert code == 0 and {row["name"] for row in json.loads(out)} == set(shipped())
    assert all(row["description"] for row in json.loads(out))
    code, out, _ = call("recipes", "cp", "svae_digits", "mine.yaml")
    assert code == 0
    text = (tmp_path / "mine.yaml").read_text()
    assert text.startswith("# genzoo run mine.yaml\n")
    assert read(tmp_path / "mine.yaml") == read("svae_digits")
    code, _, err = call("recipes", "cp", "svae_digits", "mine.yaml")
    assert code == 2 and "mine.yaml exists" in err
    code, _, err = call("recipes", "cp", "svae_digitz")
    assert code == 2 and "did you mean 'svae_digits'" in err
    code, _, err = call("recipes", "cp", "svae_digits", "no/where.yaml")
    assert code == 2 and "there is no folder no" in err
    assert call("recipes", "cp", "svae_digits")[0] == 0 and (tmp_path / "svae_digits.yaml").is_file()


def test_cp_refuses_to_part_a_recipe_from_its_plugins(call, tmp_path):
    (tmp_path / "mine.yaml").write_text("name: x\nplugins: [mine.py]\n")
    (tmp_path / "other").mkdir()
    code, _, err = call("recipes", "cp", tmp_path / "mine.yaml", "other")
    assert code == 2 and "names plugins relative to itself" in err


def test_diff(call, tmp_path):
    code, out, _ = call("recipes", "diff", "svae_digits", "svae_digits")
    assert (code, out) == (0, "")
    call("recipes", "cp", "svae_digits", "mine.yaml")
    text = (tmp_path / "mine.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(
        text.replace("steps: 1000", "steps: 9000").replace("gaussian, dim: 16}", "gaussian, dim: 17}")
    )
    code, out, _ = call("recipes", "diff", "svae_digits", "mine.yaml")
    assert code == 1
    assert out.splitlines() == ["model.latent.dim: 16 -> 17", "train.steps: 1000 -> 9000"]
    code, out, _ = call("recipes", "diff", "svae_digits", "vae_digits", "--json")
    rows = {row["field"]: (row["a"], row["b"]) for row in json.loads(out)}
    assert rows["model.head.name"] == ("split", "single") and rows["model.head.trunk"] == ("shared", None)


def test_of_a_part_in_the_place_of_another_only_what_was_chosen_is_told(call):
    """`--json` has all; an option that both parts have is compared, at its default or not."""
    edited = read("svae_digits", ["model.head={name: mixture, num_components: 3, trunk: shared}", "model.latent.dim=8"])
    Path("mine.yaml").write_text(edited.to_yaml())
    for a, b in (("svae_digits", "mine.yaml"), ("mine.yaml", "svae_digits")):
        code, out, _ = call("recipes", "diff", a, b)
        assert code == 1 and {line.partition(":")[0] for line in out.splitlines()} == {
            "model.latent.dim", "model.head.name", "model.head.decoder.base_dim"
        }  # fmt: skip
        _, out, _ = call("recipes", "diff", a, b, "--json")
        assert {"model.head.num_components", "model.head.sigma_bias"} <= {row["field"] for row in json.loads(out)}


def test_diff_of_runs_shows_versions_and_data(call, tmp_path):
    for name, version in (("a", "2.6"), ("b", "2.7")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text(read("vae_digits").to_yaml())
        lock = {"versions": {"torch": version}, "plugins": {}, "data": {}, "device": "cpu", "command": [name]}
        (tmp_path / name / "lock.json").write_text(json.dumps(lock))
    code, out, _ = call("recipes", "diff", "a", "b")
    assert (code, out) == (1, 'lock.versions.torch: "2.6" -> "2.7"\n')


def test_validate_reads_no_data_and_counts(call, monkeypatch):
    from genzoo.data.celeba import CelebA

    def never(*_):
        raise AssertionError("validate looked for data")

    monkeypatch.setattr(CelebA, "locate", never)
    monkeypatch.setattr(CelebA, "read", never)
    code, out, _ = call("recipes", "validate", "svae_celeba", "--json")
    made = json.loads(out)
    assert code == 0 and made["num_parameters"] == 28_981_683
    shapes = {stage["part"]: (stage["depth"], tuple(stage["shape"])) for stage in made["stages"]}
    assert shapes == {
        "datasets/celeba": (0, (3, 64, 64)),
        "encoders/resnet": (0, (512,)),
        "latents/gaussian": (0, (150,)),
        "decoders/resnet": (1, (7, 64, 64)),
        "heads/split": (0, (3, 64, 64)),
    }
    assert made["memory"]["weights_gradients_and_optimizer_bytes"] == 16 * 28_981_683
    code, out, _ = call("recipes", "validate", "svae_celeba")
    assert "28,981,683" in out and "MiB of activations an image" in out


def test_activation_memory_is_what_autograd_keeps():
    """The meta device's count equals the count of the real forward pass, to the byte."""
    recipe = read("svae_digits")
    images = (1, 32, 32)
    step = Step(Model(recipe.model, images), build(OBJECTIVES, recipe.objective, image_shape=images))
    kept = (saved_bytes(step, 4, images) - saved_bytes(step, 2, images)) // 2
    assert measure(recipe.model, images, recipe.objective).activation_bytes == kept > 100_000


def test_validate_takes_seconds():
    code = (
        "import resource, sys; sys.argv = ['genzoo', 'recipes', 'validate', 'svae_celeba']\n"
        "from genzoo.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(used.ru_utime + used.ru_stime, file=sys.stderr)"
    )
    seconds = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds.append(float(done.stderr.split()[-1]))
        if seconds[-1] < 8:
            break
    assert min(seconds) < 8  # 5 s on an idle machine; cores shared with other work take longer


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["kl_celeba", "vqgan_celeba"])
def test_a_recipe_with_frozen_networks_is_checked_in_silence(name, call):
    code, out, err = call("recipes", "validate", name)
    assert code == 0 and "trainable parameters" in out and err == ""
