"""Every file of a run folder, damaged, gone or of another kind; and two that want the same folder."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import genzoo
from genzoo.errors import UserError
from genzoo.recipe import read
from genzoo.registry import KINDS
from genzoo.run import run
from genzoo.run_folder import RunFolder
from genzoo.run_scores import evaluate_run
from genzoo.sampling import drawn

WORDS = [
    "train.steps=2", "train.batch_size=4", "train.log_every=1", "train.checkpoint_every=1", "train.panel_every=0",
    "train.precision=fp32", "train.keep=2", "evaluation.num_samples=4", "evaluation.num_reference=4", "report=false",
    "evaluation.allow_few=true", "evaluation.metrics=[fd]", "samplers=[{name: gmm, num_components: 2}]",
    "model.encoder.base_dim=2", "model.encoder.embed_dim=8", "model.latent.dim=3", "model.head.decoder.base_dim=2",
]  # fmt: skip
DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "null": lambda path: path.write_bytes(b"null"),
    "list": lambda path: path.write_bytes(b"[1, 2]"),
    "object": lambda path: path.write_bytes(b"{}"),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00\x1b]0;x\x07" * 9),
    "gone": lambda path: path.unlink(),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}
FILES = ["recipe.yaml", "lock.json", "precision.json", "metrics.json", "train.jsonl", "samplers/gmm.safetensors",
         "checkpoints/step-00000002/manifest.json", "checkpoints/step-00000002/state.json",
         "checkpoints/step-00000002/model.safetensors"]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(read("vae_digits", WORDS), folder)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "damage",
    [
        name if name in ("empty", "null", "folder", "device") else pytest.param(name, marks=pytest.mark.long)
        for name in DAMAGE
    ],
)
def test_damage_ends_in_a_sentence_or_is_made_good(file, damage, copy, call, tmp_path):
    """Where a command goes on, it has said what it does without; where it stops, it names the path."""
    DAMAGE[damage](copy / file)
    recipe = copy / "recipe.yaml" if file != "recipe.yaml" else "vae_digits"
    words = WORDS if recipe == "vae_digits" else ()
    for command in (
        ["sample", copy, "--num", "1", "--out", tmp_path / "png"],
        ["eval", copy, "evaluation.metrics=[]"],
        ["run", recipe, *words, "evaluation.metrics=[]", "train.steps=3", "--out", copy, "--resume"],
    ):
        code, _, err = call(*command)
        assert code in (0, 2), err
        assert code == 0 or str(copy) in err
        assert "\x1b" not in err
    if damage not in ("folder", "device", "pipe") and file != "recipe.yaml":
        assert code == 0, err  # in the end the run has gone on
        assert genzoo.load(copy) is not None and json.loads((copy / "metrics.json").read_text())["train"]["steps"] == 3


@pytest.mark.parametrize("damage", ["empty", "gone", "half", "null"])
def test_the_recipe_of_the_checkpoint_stands_in(copy, damage, caplog):
    want = RunFolder(copy).recipe()
    DAMAGE[damage](copy / "recipe.yaml")
    if damage == "half":
        (copy / "recipe.yaml").write_text("name: [")
    assert RunFolder(copy).recipe() == want
    assert "the recipe that the newest checkpoint carries is taken" in caplog.text
    other = read("vae_digits", [*WORDS, "model.latent.dim=4"])
    with pytest.raises(UserError, match="the recipe is not the one"):
        run(other, copy, resume=True)


@pytest.mark.parametrize("where", [-1, 20, 200])
def test_a_flipped_bit_of_a_sampler_is_seen_and_mended(copy, where, caplog):
    file = copy / "samplers" / "gmm.safetensors"
    before, content = {name: tensor.clone() for name, tensor in load_file(file).items()}, bytearray(file.read_bytes())
    content[where] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="has not been fitted yet: `genzoo eval"):
        drawn(copy, 2)
    evaluate_run(copy)
    after = load_file(file)
    assert after.keys() == before.keys() and all(after[name].equal(before[name]) for name in before)
    drawn(copy, 2)


@pytest.mark.parametrize("line", ["null", "{}", "foreign", '{"step": "x"}', "[3]", '{"step": 1, "loss'])
def test_foreign_lines_of_the_log_are_passed_over(copy, line, caplog):
    file = copy / "train.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([line, lines[0], line, lines[1], line]) + "\n")
    run(read(copy / "recipe.yaml", ["train.steps=3"]), copy, resume=True)
    assert [json.loads(text)["step"] for text in file.read_text().splitlines()] == [1, 2, 3]
    assert "3 line(s) that training did not write" in caplog.text


def test_strange_things_among_the_checkpoints_stop_nothing(copy):
    places = copy / "checkpoints"
    (places / "notes.txt").write_text("mine")
    (places / "step-00000009").write_text("a file")
    (places / "step-best").mkdir()
    (places / ".partial-step-00000003").write_text("a file")
    (places / "step-00000007").symlink_to(places / "step-00000002")
    run(read(copy / "recipe.yaml", ["train.steps=3"]), copy, resume=True)
    assert (places / "notes.txt").read_text() == "mine"
    assert RunFolder(copy).step() == 3


def test_a_run_whose_checkpoints_are_gone_says_that_it_begins_again(copy, caplog):
    shutil.rmtree(copy / "checkpoints")
    run(read(copy / "recipe.yaml"), copy, resume=True)
    assert "has no checkpoint, though step 2 was reached: it begins again" in caplog.text


def test_a_lock_that_says_nothing_of_the_data_is_said(copy, caplog):
    (copy / "lock.json").write_text("{}")
    run(read(copy / "recipe.yaml", ["train.steps=3"]), copy, resume=True)
    assert "does not say which images the run was begun with" in caplog.text
    assert len(json.loads((copy / "lock.json").read_text())["data"]["train"]["sha256"]) == 64


@pytest.mark.parametrize("resume", [False, True])
def test_another_run_that_came_first_is_left_alone(finished, tmp_path, monkeypatch, resume):
    """A run that still prepares, and a second one into the same folder that starts and ends meanwhile."""
    import genzoo.run as runs

    folder, prepare_splits = tmp_path / "run", runs.prepare_splits

    def meanwhile(*arguments):
        shutil.copytree(finished, folder)
        return prepare_splits(*arguments)

    monkeypatch.setattr(runs, "prepare_splits", meanwhile)
    other = read("vae_digits", [*WORDS, "seed=5", "model.latent.dim=4"])
    with pytest.raises(UserError, match="the recipe is not the one" if resume else "exists: --resume"):
        run(other, folder, resume=resume)
    for file in ("recipe.yaml", "lock.json", "metrics.json", "train.jsonl"):
        assert (folder / file).read_bytes() == (finished / file).read_bytes()
    monkeypatch.undo()
    assert genzoo.load(folder).latent_shape == (3,)


def test_the_name_of_another_folder_is_proposed(finished, call):
    code, _, err = call("run", "vae_digits", "--out", finished)
    assert code == 2 and f"--out {finished}-2" in err


def test_loading_looks_again_when_training_removes_the_checkpoint(copy, monkeypatch):
    from genzoo.training import checkpoint

    newer, read_tensors = copy / "checkpoints" / "step-00000002", checkpoint.read_tensors
    shutil.move(newer, copy / "later")

    def removed(path, group):
        if (copy / "later").exists():
            shutil.move(copy / "later", newer)
            shutil.rmtree(path)
        return read_tensors(path, group)

    monkeypatch.setattr(checkpoint, "read_tensors", removed)
    RunFolder(copy).write_recipe(RunFolder(copy).recipe(["samplers=[prior]"]))
    _, said = drawn(copy, 2)
    assert said["checkpoint_step"] == 2 and not (copy / "checkpoints" / "step-00000001").exists()


def test_a_run_that_needs_no_fit_is_drawn_from_the_step_that_is_loaded(copy):
    RunFolder(copy).write_recipe(RunFolder(copy).recipe(["samplers=[prior]"]))
    shutil.rmtree(copy / "checkpoints" / "step-00000002")
    assert drawn(copy, 2)[1]["checkpoint_step"] == 1


@pytest.fixture
def owned():
    """Every built-in of every kind under a name with an owner, as a plugin registers it."""
    added = []

    def add(kind, name):
        part = KINDS[kind].get(name)
        KINDS[kind].register(f"acme/{name}")(type(part.__name__, (part,), {"__module__": "acme"}))
        added.append((kind, f"acme/{name}"))
        return f"acme/{name}"

    yield add
    for kind, name in added:
        KINDS[kind].forget({name})


def test_parts_of_every_kind_may_have_an_owner(owned, tmp_path, call, caplog):
    names = {kind: owned(kind, name) for kind, name in (
        ("encoders", "resnet"), ("latents", "gaussian"), ("decoders", "resnet"), ("heads", "split"),
        ("objectives", "elbo"), ("samplers", "gmm"), ("datasets", "digits"), ("features", "efficientnet_lite0"),
        ("priors", "mog"), ("terms", "total_variation"), ("metrics", "kid"),
    )}  # fmt: skip
    words = [*WORDS[:10], "evaluation.allow_few=true", f"data={{name: {names['datasets']}, size: 32}}",
             f"model.encoder={{name: {names['encoders']}, base_dim: 2, embed_dim: 8}}",
             f"model.latent={{name: {names['latents']}, dim: 3}}",
             f"model.head={{name: {names['heads']}, decoder: {{name: {names['decoders']}, base_dim: 2}}}}",
             f"objective={names['objectives']}", f"samplers=[{{name: {names['samplers']}, num_components: 2}}, prior]",
             f"evaluation.metrics=[{{name: fd, features: {names['features']}}}, {names['metrics']}]",
             f"model.prior={names['priors']}", f"terms=[{names['terms']}]", "report=true"]  # fmt: skip
    folder = tmp_path / "run"
    code, _, err = call("run", "svae_digits", *words, "--out", folder)
    assert code == 0, err
    assert (folder / "samplers" / "acme" / "gmm.safetensors").is_file()
    np.savez(tmp_path / "z.npz", z=np.zeros((2, 3), np.float32))
    for command in (
        ["run", folder / "recipe.yaml", "train.steps=3", "--out", folder, "--resume"],
        ["eval", folder],
        ["sample", folder, "--num", "1", "--out", tmp_path / "o", "--sampler", "acme/gmm"],
        ["fid", f"{folder}:acme/gmm", "digits:test", "--metric", "fd", "--num", "4", "--allow-few"],
        [
            "fid",
            f"{folder}:acme/gmm",
            "digits:test",
            "--metric",
            "acme/kid",
            "--num",
            "4",
            "--features",
            "acme/efficientnet_lite0",
        ],
        ["stats", "digits:test", "--features", "acme/efficientnet_lite0", "--num", "4", "--out", tmp_path / "s.npz"],
        ["neighbors", f"{folder}:acme/gmm", "acme/digits:test", "--num", "4", "--out", tmp_path / "n.png"],
        ["data", "prepare", "acme/digits", "size=32"],
        ["data", "ls"],
        ["report", folder],
        ["panels", folder],
        ["compare", folder, finished_twin(folder), "--html", tmp_path / "c.html"],
        ["export", folder, "--to", "hf", "--out", tmp_path / "hub"],
        ["decode", tmp_path / "hub", tmp_path / "z.npz", "--out", tmp_path / "images"],
        ["show", "samplers/acme/gmm"],
        ["list", "metrics", "acme/*"],
    ):
        code, _, err = call(*command)
        assert code == 0, (command, err)


def finished_twin(folder):
    return shutil.copytree(folder, folder.with_name("twin"))


def test_a_run_on_other_data_is_given_a_name_of_its_own(finished, call):
    code, _, err = call("run", "vae_digits", "data.name=faces", "--out", finished)
    assert code == 2 and f"that one is on digits, this one on faces: --out {finished}_faces" in err


def test_data_that_moved_is_found_again_with_what_is_said(tmp_path, call, caplog):
    for k in range(40):
        place = tmp_path / "here" / "photos" / f"{k}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place)
    recipe = tmp_path / "here" / "mine.yaml"
    recipe.write_text("name: mine\ndata:\n  name: folder\n  size: 32\n  root: photos\nmodel: {head: single}\n")
    words = [word for word in WORDS if not word.startswith(("model.head", "samplers"))]
    code, _, err = call("run", recipe, *words, "--out", tmp_path / "run")
    photos = tmp_path / "here" / "photos"
    assert code == 2 and f"there is no folder or zip file {tmp_path / 'photos'}" in err
    assert f"mine.yaml:5: data.root: photos is looked for from the working directory, {tmp_path}" in caplog.text
    assert f"beside the recipe it is: data.root={photos}" in caplog.text
    assert call("run", recipe, *words, f"data.root={photos}", "--out", tmp_path / "run")[0] == 0
    moved = photos.rename(tmp_path / "moved")
    resume = ["run", tmp_path / "run" / "recipe.yaml", "train.steps=3", "--out", tmp_path / "run", "--resume"]
    for command in (["eval", tmp_path / "run"], resume):
        code, _, err = call(*command)
        assert code == 2 and "data.root=PATH says where the data is, or has moved to" in err
    for command in (resume, ["eval", tmp_path / "run"]):
        code, _, err = call(*command, f"data.root={moved}")
        assert code == 0, err


def test_strings_of_a_strangers_scores_reach_no_terminal(finished, tmp_path, call):
    a, b = (shutil.copytree(finished, tmp_path / name) for name in "ab")
    metrics = json.loads((a / "metrics.json").read_text())
    for entry in metrics["scores"]:
        entry["generator"] = "\x1b]0;title\x07\u202e"
    (a / "metrics.json").write_text(json.dumps(metrics))
    code, out, err = call("compare", a, b)
    assert code == 0 and "\\x1b]0;title" in out and not {"\x1b", "\x07", "\u202e"} & set(out + err)
