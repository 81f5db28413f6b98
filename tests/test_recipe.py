"""Reading recipes: places of mistakes, edits from the command line, and a fuzz that never yields a traceback."""

from __future__ import annotations

from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from genzoo.errors import UserError
from genzoo.recipe import Recipe, read
from genzoo.recipe_file import load, shipped

TEXT = """\
name: mine
data: {name: digits, size: 32}
model:
  encoder: resnet
  head:
    name: split
    decoder:
      name: resnet
      base_dim: 16
train:
  steps: 10
samplers:
  - prior
  - name: gmm
    num_components: 5
"""


@pytest.fixture
def recipe(tmp_path):
    def write(text=TEXT):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def refused(path, *overrides) -> str:
    with pytest.raises(UserError) as error:
        read(path, overrides)
    return str(error.value).replace(str(path), "mine.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("base_dim: 16", "base_dmi: 16", "mine.yaml:9: model.head.decoder.base_dmi: unknown option; did you mean 'base_dim'"),
        ("base_dim: 16", "base_dim: many", "mine.yaml:9: model.head.decoder.base_dim: expected int >= 1, <= 4096, not 'many'"),
        ("steps: 10", "steps: 0", "mine.yaml:11: train.steps: Input should be greater than or equal to 1 (given: 0)"),
        ("steps: 10", "steps: true", "mine.yaml:11: train.steps: expected int >= 1, not true"),
        ("steps: 10", "steps: '10'", "mine.yaml:11: train.steps: expected int >= 1, not '10'"),
        ("steps: 10", "channels_last: yes", "mine.yaml:11: train.channels_last: expected bool, not 'yes'"),
        ("steps: 10", "optimizer: {betas: [0.5, '1']}", "mine.yaml:11: train.optimizer.betas.1: expected float, not '1'"),
        ("steps: 10", "stpes: 10", "mine.yaml:11: train.stpes: unknown option; did you mean 'steps'"),
        ("steps: 10", "steps: 10\n  steps: 20", "mine.yaml:12: not valid YAML: 'steps' is given twice"),
        ("name: split", "name: spilt", "mine.yaml:6: model.head.name: no heads part is called 'spilt'; did you mean 'split'"),
        ("encoder: resnet", "encoder: resnett", "mine.yaml:4: model.encoder.name: no encoders part is called 'resnett'"),
        ("encoder: resnet", "encoder: [1, 2]", "mine.yaml:4: model.encoder: expected {name: ..., options}"),
        ("num_components: 5", "num_components: .nan", "mine.yaml:15: samplers.1.num_components: "),
        ("- prior", "- gmm", "mine.yaml:12: samplers: every sampler once"),
        ("name: mine", "name: ../mine", "mine.yaml:1: name: String should match pattern"),
        ("name: mine\n", "", "mine.yaml:1: name: Field required"),
        ("name: mine", "name: [", "mine.yaml:3: not valid YAML: "),
        ("name: mine", "name: mine\nmodle: 1", "mine.yaml:2: modle: unknown option; did you mean 'model'"),
        ("    name: split\n", "    name: split\n    trunk: pair\n", "mine.yaml:5: model.head: trunk: pair needs `decoders"),
    ],
)  # fmt: skip
def test_mistakes_name_file_line_key_and_remedy(recipe, old, new, message):
    assert old in TEXT
    assert refused(recipe(TEXT.replace(old, new, 1))).startswith(message)


def test_all_mistakes_are_told_at_once(recipe):
    message = refused(recipe(TEXT.replace("steps: 10", "stpes: 10").replace("base_dim: 16", "base_dim: -1")))
    assert len(message.splitlines()) == 2


def test_overrides(recipe):
    made = read(
        recipe(),
        [
            "train.steps=20",
            "model.encoder.base_dim=8",
            "samplers.1.num_components=7",
            "samplers.0.name=prior",
            "seed=3",
        ],
    )
    assert made.train.steps == 20 and made.seed == 3
    assert made.model.encoder.base_dim == 8 and made.model.encoder.name == "resnet"
    assert made.samplers[1].num_components == 7
    assert read(recipe(), ["samplers=[prior]"]).samplers[0].name == "prior"


def test_a_list_of_names_keeps_the_options_of_those_it_had(recipe):
    words = ["samplers=[{name: prior}, {name: gmm, num_components: 3}]", "samplers=[gmm, two_stage, prior]"]
    made = read(recipe(), words)
    assert [one.name for one in made.samplers] == ["gmm", "two_stage", "prior"]
    assert made.samplers[0].num_components == 3
    assert read(recipe(), [words[0], "samplers=[{name: gmm}]"]).samplers[0].num_components == 100
    twice = "evaluation.metrics=[{name: fd, features: efficientnet_lite0}, {name: fd, bootstrap: 5}]"
    made = read(recipe(), [twice, "evaluation.metrics=[fd]"])  # which one is meant?
    assert made.evaluation.metrics[0].bootstrap is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.stps=3", "command line: train.stps=3: train.stps: unknown option; did you mean 'steps'"),
        ("train.steps=many", "command line: train.steps=many: train.steps: expected int >= 1, not 'many'"),
        ("train.steps='3'", "command line: train.steps='3': train.steps: expected int >= 1, not '3'"),
        ("trian.steps=3", "command line: trian.steps=3: trian: unknown option; did you mean 'train'"),
        ("model.decoder.name=conv", "command line: model.decoder.name=conv: model.decoder: unknown option"),
        ("train.steps", "'train.steps' is not KEY=VALUE"),
        (".=3", "'.=3' is not KEY=VALUE"),
        ("samplers.9.name=gmm", "command line: samplers.9.name: no entry 9 in a list of 2"),
        ("train.0=1", "command line: train.0: 0 is a list index, but there is no list"),
        ("train.steps=[", "command line: train.steps=[: the value is not valid YAML"),
        ("train.steps.more=1", "command line: train.steps.more: steps is 10, which has no options"),
    ],
)
def test_override_mistakes(recipe, word, message):
    assert refused(recipe(), word).startswith(message)


def test_naming_another_part_starts_from_its_defaults(recipe):
    """Whatever the order of the words: the part first, then its options."""
    made = read(recipe(), ["model.head.decoder.hidden_dims=[7]", "model.head.decoder.name=mlp"])
    assert made.model.head.decoder.model_dump() == {"name": "mlp", "hidden_dims": [7], "spectral_norm": False}
    whole = ["model.head.decoder.name=conv", "model.head={name: single, decoder: {name: mlp, hidden_dims: [7]}}"]
    for words in (whole, whole[::-1]):
        assert read(recipe(), words).model.head.decoder.name == "conv"
    assert read(recipe(), ["model.head.decoder.name=resnet"]).model.head.decoder.base_dim == 16  # the same part
    assert read(recipe(), ["train.optimizer.name=adamw", "train.optimizer.lr=0.5"]).train.optimizer.lr == 0.5


def test_options_are_said_to_be_dropped_only_where_they_are_lost(recipe, caplog):
    def said(*words):
        caplog.clear()
        read("svae_digits", words)
        return caplog.text

    caplog.set_level("INFO", "genzoo")
    assert not said("data.name=mnist"), "its size is the same by default"
    assert not said("data.name=faces", "data.size=64")
    assert "data.name=faces: options of digits are dropped: size" in said("data.name=faces")
    with pytest.raises(UserError, match="nope: unknown option"):
        said("model.encoder.name=vit", "model.encoder.nope=1")
    assert "options of resnet are dropped: base_dim, embed_dim" in caplog.text


def test_options_alone_are_those_of_the_part_by_default(tmp_path):
    (tmp_path / "a.yaml").write_text("name: a\n")
    made = read(tmp_path / "a.yaml", ["objective.beta=2", "model.head.decoder.base_dim=2", "model.encoder.base_dim=4"])
    assert (made.objective.name, made.objective.beta) == ("elbo", 2)
    assert (made.model.head.decoder.name, made.model.head.decoder.base_dim) == ("resnet", 2)
    assert (made.model.encoder.name, made.model.encoder.base_dim) == ("resnet", 4)
    mixed = read(tmp_path / "a.yaml", ["model.head.name=mixture", "model.head.decoder.base_dim=2"])
    assert (mixed.model.head.decoder.name, mixed.model.head.decoder.base_dim) == ("resnet", 2)


@pytest.mark.parametrize("name", ["a", "08", "1e3", "5e12345", "off", "12", "null"])
def test_resolved_recipe_reads_back_the_same(recipe, tmp_path, name):
    made = read(recipe(), [f"name='{name}'"])
    again = tmp_path / "again.yaml"
    again.write_text(made.to_yaml())
    assert read(again) == made


def test_words_of_yaml_1_1_are_words(recipe):
    made = read(recipe(TEXT.replace("steps: 10", "steps: 1e1\n  compile: off\n  optimizer: {lr: 1e-4}")))
    assert (made.train.steps, made.train.compile, made.train.optimizer.lr) == (10, "off", 1e-4)


def test_plugins_are_found_relative_to_the_recipe(recipe, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import genzoo\n"
        "from genzoo.decoders.mlp import MLPDecoder\n"
        "@genzoo.DECODERS.register('test_recipe/mine')\n"
        "class Mine(MLPDecoder):\n"
        "    class Config(genzoo.Config):\n"
        "        hidden_dims: list[int] = [3]\n"
    )
    text = TEXT.replace("      name: resnet\n      base_dim: 16", "      name: test_recipe/mine")
    made = read(recipe(text + "plugins: [mine.py]\n"), execute=True)
    assert made.model.head.decoder.hidden_dims == [3]
    assert made.plugins == [str(tmp_path / "mine.py")]


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes(name):
    path = shipped()[name]
    assert path.read_text().startswith(f"# genzoo run recipes/{name}.yaml\n# ")
    made = read(name)
    assert made.name == name
    assert isinstance(made, Recipe)


@pytest.mark.parametrize("name", [name for name in shipped() if name.startswith("svae_")])
def test_twins_differ_in_the_head_alone(name):
    one, two = read(name).model_dump(), read(name.removeprefix("s")).model_dump()
    assert two.pop("name") == one.pop("name").removeprefix("s")
    heads = [made["model"].pop("head") for made in (one, two)]
    assert one == two
    assert heads[0]["decoder"] == heads[1]["decoder"] and heads[1]["name"] == "single"


def test_published_settings():
    for name, dim, beta in (("celeba", 150, 3), ("cifar10", 200, 3), ("mnist", 32, 8)):
        made = read(f"svae_{name}")
        assert (made.model.latent.dim, made.objective.beta, made.train.optimizer.lr) == (dim, beta, 1e-4)
        assert (made.train.batch_size, made.objective.gamma, made.model.batch_norm_momentum) == (100, "balanced", 0.001)
        assert made.model.head.trunk == "shared" and made.model.encoder.base_dim == 64


def outcome(path, overrides=()):
    """A recipe, or one message; anything else fails the test."""
    try:
        return read(path, overrides)
    except UserError as error:
        assert str(error)
        return None


@given(text=st.text(max_size=60) | st.text("{}[]:,-&*!|>%@`'\"#?\n\t abc019~", max_size=60))
def test_fuzz_of_text(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    outcome(path)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["resnet", "split"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "size", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(tree, place=()):
    yield place
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*place, key))


FULL = yaml.safe_load(TEXT) | {
    "objective": {"name": "elbo", "beta": 1.0},
    "evaluation": {"num_samples": 5, "metrics": [{"name": "fd"}]},
    "train": {"steps": 10, "optimizer": {"name": "adam"}, "schedule": {"name": "cosine"}, "precision": "auto"},
}


@given(place=st.sampled_from([place for place in places(FULL) if place]), value=values)
def test_fuzz_of_one_value(tmp_path_factory, place, value):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    tree = yaml.safe_load(yaml.safe_dump(FULL))
    node = tree
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    path.write_text(yaml.safe_dump(tree))
    outcome(path)


@given(
    key=st.text("abc.0159 ", max_size=8) | st.sampled_from(["train", "train.steps", "samplers.0", "model.head.name"]),
    value=st.text(max_size=8),
)
def test_fuzz_of_overrides(tmp_path_factory, key, value):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(TEXT)
    outcome(path, [f"{key}={value}"])


BOMB = "a: &a [1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in pairwise("abcdefghi")
)


@pytest.mark.parametrize("text", ["a: &a [*a]", "[" * 5000, "a: " + "{b: " * 5000, BOMB, "\x00", "- 1", ""])
def test_hostile_yaml_ends_in_a_message(recipe, text):
    assert "mine.yaml" in refused(recipe(text))


def test_binary_and_missing_files(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00abc")
    assert "cannot be read" in refused(tmp_path / "binary.yaml")
    assert "is a folder" in refused(tmp_path)
    with pytest.raises(UserError, match="did you mean 'svae_digits'"):
        read("svae_digit")
    assert load(shipped()["svae_digits"])[0]["name"] == "svae_digits"
