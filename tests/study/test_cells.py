"""A study file is checked as strictly as a recipe, and says which cells there are."""

import json
from pathlib import Path

import pytest

from genzoo.errors import UserError
from genzoo.recipe import read as read_recipe
from genzoo.study.cells import expand, word
from genzoo.study.study import read

STUDY = """\
name: mine
seeds: [0, 1]
edits: {train.steps: 50}
groups:
  digits:
    arms:
      split: svae_digits
      plain: {recipe: vae_digits, edits: {train.steps: 60}}
    matrix:
      model.latent.dim: [4, 8]
      decoder:
        small: {model.head.decoder: {name: conv, base_dim: 4}}
        mlp: {model.head.decoder.name: mlp}
  faces:
    recipe: vae_faces
    edits: {train.steps: 70}
    seeds: [7]
tables:
  - title: all
    where: {metric: fd, arm: split}
    rows: [arm, model.latent.dim]
    columns: [decoder]
"""


def cells_of(tmp_path, text):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    study, path, origins = read(file)
    return expand(study, path, origins)


def test_cells_are_every_combination_once_and_the_first_seed_comes_first(tmp_path):
    cells = cells_of(tmp_path, STUDY)
    assert len(cells) == len({cell.name for cell in cells}) == 2 * 2 * 2 * 2 + 1
    assert [cell.dims["seed"] for cell in cells] == ["0"] * 8 + ["1"] * 8 + ["7"]
    assert len({cell.asked for cell in cells}) == len(cells)
    one = next(cell for cell in cells if cell.name == "digits/plain_model.latent.dim=8_decoder=small_seed=1")
    recipe = read_recipe(one.recipe, one.words)
    assert (recipe.name, recipe.seed, recipe.train.steps, recipe.model.latent.dim) == ("vae_digits", 1, 60, 8)
    assert recipe.model.head.decoder.base_dim == 4
    faces = cells[-1]
    assert faces.dims == {"group": "faces", "arm": "vae_faces", "seed": "7"}
    assert read_recipe(faces.recipe, faces.words).train.steps == 70


def test_what_is_asked_changes_with_the_study_alone(tmp_path):
    before = [cell.asked for cell in cells_of(tmp_path, STUDY)]
    assert before == [cell.asked for cell in cells_of(tmp_path, "# a comment\n" + STUDY)]
    assert before == [
        cell.asked for cell in cells_of(tmp_path, STUDY.replace("train.steps: 50", "train.steps: 50, data.root: here"))
    ]
    after = [cell.asked for cell in cells_of(tmp_path, STUDY.replace("train.steps: 50", "train.steps: 51"))]
    changed = [a != b for a, b in zip(before, after, strict=True)]
    assert changed == ["split" in cell.name for cell in cells_of(tmp_path, STUDY)]  # the others say their own


@pytest.mark.parametrize("value", ["conv", "acme/mine", "true", "null", "1e-3", "a b", 3, 1e-05, None, True, [1, "x"], {"name": "x"}])  # fmt: skip
def test_words_are_read_as_the_value_they_were(value):
    from genzoo.edits import apply

    tree = {}
    apply(tree, {}, [word("key", value)])
    assert tree == {"key": value}


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("seeds: [0, 1]", "sedes: [0, 1]", 2, "did you mean 'seeds'"),
        ("seeds: [0, 1]", "seeds: [0, 0]", 2, "every seed once"),
        ("seeds: [0, 1]", "seeds: [a]", 2, "seeds.0"),
        ("split: svae_digits", "split: svae_digit", 7, "did you mean 'svae_digits'"),
        ("{recipe: vae_digits, edits", "{recipe: vae_digits, edit", 8, "did you mean 'edits'"),
        ("model.latent.dim: [4, 8]", "model.latent.dim: []", 10, "expected KEY: [values]"),
        ("model.latent.dim: [4, 8]", "part: [4, 8]", 10, "tables use it for something else"),
        ("model.latent.dim: [4, 8]", "model.latent.dim: [4, 4]", 10, "every value once"),
        ("model.latent.dim: [4, 8]", "model.latent: [{dim: 4}]", 10, "trees need names"),
        ("[arm, model.latent.dim]", "[arm, model.latent.dims]", 21, "did you mean 'model.latent.dim'"),
        ("arm: split}", "arm: splitt}", 20, "did you mean 'split'"),
        ("    recipe: vae_faces\n", "", 14, "which recipe"),
    ],
)
def test_mistakes_are_told_with_file_and_line(tmp_path, old, new, line, said):
    assert old in STUDY
    with pytest.raises(UserError) as error:
        cells_of(tmp_path, STUDY.replace(old, new))
    assert f"study.yaml:{line}" in str(error.value) and said in str(error.value)


def test_an_edit_that_no_recipe_takes_is_told_where_the_study_says_it(call, tmp_path):
    (tmp_path / "s.yaml").write_text(STUDY.replace("train.steps: 60", "train.stepps: 60"))
    code, _, err = call("study", "s.yaml", "--plan")
    assert code == 2 and "s.yaml:8: train.stepps=60" in err and "did you mean 'steps'" in err
    (tmp_path / "s.yaml").write_text(STUDY.replace("dim: [4, 8]", "dim: [4, -8]"))
    code, _, err = call("study", "s.yaml", "--plan")
    assert code == 2 and err.count("\n") == 1 and "s.yaml:10: model.latent.dim=-8" in err
    code, _, err = call("study", "t.yaml", "--plan")
    assert code == 2 and "did you mean 's.yaml'" in err


def test_the_plan_says_what_there_is_to_do(call, tmp_path):
    (tmp_path / "s.yaml").write_text(STUDY)
    code, out, _ = call("study", "s.yaml", "--plan", "--json")
    rows = json.loads(out)
    assert code == 0 and len(rows) == 17 and {row["state"] for row in rows} == {"to do"}
    assert {row["steps"] for row in rows} == {50, 60, 70}
    shards = [json.loads(call("study", "s.yaml", "--plan", "--json", "--shard", f"{n}/3")[1]) for n in (1, 2, 3)]
    names = [[row["cell"] for row in shard] for shard in shards]
    assert sorted(name for shard in names for name in shard) == sorted(row["cell"] for row in rows)
    code, out, _ = call("study", "s.yaml", "--plan", "--only", "digits/split*dim=4*seed=0")
    assert code == 0 and "2 cells: 2 to do" in out and "not known before a cell has ended" in out
    for words, said in [(("--shard", "0/3"), "1/2 and 2/2"), (("--only", "x"), "no cell has such a name"), (("--root", "x"), "DATA=DIR")]:  # fmt: skip
        code, _, err = call("study", "s.yaml", "--plan", *words)
        assert code == 2 and said in err


@pytest.mark.parametrize("name", ["flagship", "zoo"])
def test_the_committed_studies_can_be_made(name):
    from genzoo.study.work import Place, check

    file = Path(__file__).parents[2] / "benchmarks" / f"{name}.yaml"
    study, path, origins = read(file)
    check(expand(study, path, origins), Place(path, Path("runs"), Path("facts")), execute=False)
