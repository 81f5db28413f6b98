"""Runs from recipe to numbers: every shipped recipe, the run folder, resuming, scoring again, sampling, mistakes."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import genzoo
from genzoo.errors import UserError
from genzoo.explore.session import session
from genzoo.recipe import read
from genzoo.recipe_file import shipped
from genzoo.run_scores import evaluate_run
from genzoo.sampling import drawn

QUICK = [
    "train.steps=2", "train.batch_size=4", "train.log_every=1", "train.checkpoint_every=1", "train.panel_every=1",
    "train.precision=fp32", "evaluation.num_samples=4", "evaluation.num_reference=4", "evaluation.allow_few=true",
    "evaluation.metrics=[fd]",
]  # fmt: skip
SMALL = [
    "model.encoder.base_dim=2", "model.encoder.embed_dim=8", "model.latent.dim=3", "model.head.decoder.base_dim=2",
]  # fmt: skip
DATA = {True: ["data.name=digits"], False: ["data.name=faces", "data.num_train=24", "data.num_test=6"]}


def data_for(name):
    return DATA["digits" in name or "mnist" in name]


OTHERS = [name for name in shipped() if read(name).model.latent.name != "gaussian"]


@pytest.mark.parametrize("name", OTHERS)
def test_shipped_recipes_of_other_latents_run(name, call, tmp_path):
    """Two steps of each with shrunk widths, to scores of all its samplers; the latent as it ships."""
    made = read(name)
    widths = [word for word in SMALL if "latent" not in word]
    small = {
        "num_components": 2,
        "steps": 2,
        "batch_size": 8,
        "num_layers": 1,
        "num_solver_steps": 2,
    }  # those that a sampler has
    few = [
        f"samplers.{i}.{key}={value}"
        for i, sampler in enumerate(made.samplers)
        for key, value in small.items()
        if key in type(sampler).model_fields
    ]
    code, _, err = call("run", name, *QUICK, *widths, *data_for(name), *few, "--out", tmp_path / "run")
    assert code == 0, err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    generators = {entry["generator"] for entry in metrics["scores"]}
    assert generators == {"reconstruction", *(sampler.name for sampler in made.samplers)}
    assert all(np.isfinite(entry["value"]) for entry in metrics["scores"])
    assert (metrics["split"] is not None) == (made.model.head.name == "split")


@pytest.mark.parametrize("name", [name for name in shipped() if name not in OTHERS])
def test_shipped_recipes_run(name, call, tmp_path):
    """Two steps of each with shrunk widths, on data that needs no download, to a complete run folder."""
    code, out, err = call(
        "run", name, *QUICK, *SMALL, *data_for(name), "samplers.1.num_components=2", "--out", tmp_path / "run"
    )
    assert code == 0, err
    assert f"{name}: " in out
    folder = tmp_path / "run"
    metrics = json.loads((folder / "metrics.json").read_text())
    generators = {entry["generator"] for entry in metrics["scores"]}
    assert generators == {"reconstruction", "prior", "gmm"}
    parts = {entry["part"] for entry in metrics["scores"]}
    assert parts == ({"y", "y1", "y2", "mix"} if name.startswith("svae") else {"y"})
    assert all(np.isfinite(entry["value"]) and entry["few"] for entry in metrics["scores"])
    assert metrics["latent"]["num_latents"] == 3
    assert (metrics["split"] is not None) == name.startswith("svae")
    assert metrics["train"]["steps"] == 2 and metrics["train"]["reconstruction_mse"] > 0
    assert [json.loads(line)["step"] for line in (folder / "train.jsonl").read_text().splitlines()] == [1, 2]
    assert read(folder / "recipe.yaml").name == name
    lock = json.loads((folder / "lock.json").read_text())
    assert lock["versions"]["torch"] == importlib.metadata.version("torch")
    assert len(lock["data"]["train"]["sha256"]) == 64
    assert {path.name for path in (folder / "panels").iterdir()} >= {
        "reconstruction.png", "prior.png", "gmm.png", "prior_grid.png", "step-00000002_sample.png"
    }  # fmt: skip
    assert (folder / "checkpoints" / "step-00000002" / "model.safetensors").is_file()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run that several tests look at; they copy what they change."""
    from genzoo.run import run

    folder = tmp_path_factory.mktemp("finished") / "run"
    words = [*QUICK, *SMALL, "samplers.1.num_components=2"]
    run(read("svae_digits", words), folder)
    return folder


def test_load_gives_the_trained_model(finished):
    model = genzoo.load(finished)
    assert not model.training
    again = genzoo.load(str(finished))
    x = torch.rand(2, *model.image_shape)
    posterior = model.encode(x)
    assert torch.equal(posterior.mean, again.encode(x).mean)
    assert model.decode(posterior.mean).parts.keys() == {"sigma", "y1", "y2"}


def test_a_run_never_writes_into_another(finished, call):
    before = (finished / "metrics.json").read_text()
    code, _, err = call("run", "svae_digits", *QUICK, "--out", finished)
    assert code == 2 and "exists: --resume goes on with that run, --out DIR starts another elsewhere" in err
    code, _, err = call("run", "svae_digits", *QUICK, "--out", finished, "--resume")
    assert code == 2 and "the recipe is not the one" in err and "model.encoder.base_dim: 2 -> 16" in err
    assert (finished / "metrics.json").read_text() == before


def test_two_processes_never_share_a_run(tmp_path, call):
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"):
        code, _, err = call("run", "svae_digits", *QUICK, *SMALL, "--out", tmp_path, "--resume")
    assert code == 2 and "another process is writing" in err
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("steps", [2, 3])
def test_scores_outlast_a_scoring_that_fails_while_they_hold(finished, tmp_path, monkeypatch, steps):
    from genzoo.run import run

    def fails(*_, **__):
        raise KeyboardInterrupt

    folder = shutil.copytree(finished, tmp_path / "run")
    before = json.loads((folder / "metrics.json").read_text())
    monkeypatch.setattr("genzoo.run_scores.evaluate", fails)
    with pytest.raises(KeyboardInterrupt):
        run(read(folder / "recipe.yaml", [f"train.steps={steps}"]), folder, resume=True)
    after = json.loads((folder / "metrics.json").read_text())
    assert after["train"]["steps"] == steps
    assert after.get("scores") == (before["scores"] if steps == 2 else None)


def test_pictures_that_fail_cost_a_run_no_score(finished, tmp_path, monkeypatch, call, caplog):
    def fails(*_, **__):
        raise ValueError("no picture of this")

    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "metrics.json").unlink()
    monkeypatch.setattr("genzoo.evaluation.drawing.panel", fails)
    monkeypatch.setattr("genzoo.reports.pictures.draw", fails)
    assert call("eval", folder)[0] == 0
    assert "not all pictures are drawn: ValueError: no picture of this" in caplog.text
    assert json.loads((folder / "metrics.json").read_text())["scores"]
    assert "no picture of this" in (folder / "report.html").read_text()


def test_resume_trains_on(finished, tmp_path, call):
    folder = shutil.copytree(finished, tmp_path / "run")
    code, out, err = call("run", folder / "recipe.yaml", "train.steps=3", "--out", folder, "--resume", "--json")
    assert code == 0, err
    assert json.loads(out)["train"]["steps"] == 3
    steps = [json.loads(line)["step"] for line in (folder / "train.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    lock = json.loads((folder / "lock.json").read_text())
    assert lock["before"][0]["versions"] == lock["versions"] and len(lock["before"]) == 1


def folder_of_images(folder, seed):
    folder.mkdir()
    for k, image in enumerate(np.random.default_rng(seed).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(image).save(folder / f"{k}.png")


def test_other_images_are_no_resume_and_are_fitted_anew(tmp_path, call):
    for seed, name in enumerate("ab"):
        folder_of_images(tmp_path / name, seed)
    folder = tmp_path / "run"
    words = [*QUICK, *SMALL, "data.name=folder", "data.size=32", "samplers=[{name: gmm, num_components: 2}]"]
    code, _, err = call("run", "svae_digits", *words, f"data.root={tmp_path / 'a'}", "--out", folder)
    assert code == 0, err
    lock = (folder / "lock.json").read_bytes()
    more = ("train.steps=3", f"data.root={tmp_path / 'b'}", "--out", folder, "--resume")
    code, _, err = call("run", folder / "recipe.yaml", *more)
    assert code == 2 and "was begun with other training images" in err
    assert (folder / "lock.json").read_bytes() == lock
    fitted = folder / "samplers" / "gmm.safetensors"
    before = fitted.read_bytes()
    assert call("eval", folder)[0] == 0 and fitted.read_bytes() == before
    assert call("eval", folder, f"data.root={tmp_path / 'b'}")[0] == 0 and fitted.read_bytes() != before


def test_an_interrupted_continuation_is_not_scored_as_the_shorter_run(finished, tmp_path, monkeypatch):
    from genzoo.errors import Interrupted
    from genzoo.run import run as run_recipe

    folder = shutil.copytree(finished, tmp_path / "run")
    recipe = read(folder / "recipe.yaml", ["train.steps=9"])

    def interrupt(images, path, **options):
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("genzoo.run.panel", interrupt)
        with pytest.raises(Interrupted):
            run_recipe(recipe, folder, resume=True)
    metrics = evaluate_run(folder)
    assert metrics["train"]["interrupted"] and metrics["train"]["step"] == metrics["protocol"]["checkpoint_step"] < 9


def test_eval_scores_again_the_same(finished, tmp_path, call):
    folder = shutil.copytree(finished, tmp_path / "run")
    old = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").unlink()
    code, out, err = call("eval", folder, "--json")
    assert code == 0, err
    out_before, new = out, json.loads(out)
    assert all(  # also now that the reference's statistics come from the cache
        new[section] == old[section] for section in ("scores", "latent", "split")
    )
    code, _, err = call("eval", folder, "train.steps=9")
    assert code == 2 and "a trained run can only change" in err
    code, out, err = call("eval", folder, "evaluation.num_samples=3", "samplers=[prior]")
    assert code == 0, err
    again = json.loads((folder / "metrics.json").read_text())
    assert {entry["num_samples"] for entry in again["scores"]} == {3}
    assert {entry["generator"] for entry in again["scores"]} == {"reconstruction", "prior"}
    (kept,) = folder.glob("metrics-*.json")  # of the scores before; nothing else has changed what is scored
    assert json.loads(kept.read_text()) == json.loads(out_before)


def test_a_finished_run_needs_neither_objective_nor_terms(finished, tmp_path, call, monkeypatch):
    """They are charged in steps alone: weights that they ask for are not asked for again."""
    folder = tmp_path / "run"
    words = ["evaluation.metrics=[]", "samplers=[prior]", "report=false", "terms=[total_variation]"]
    assert call("run", "svae_digits", *QUICK, *SMALL, *words, "--out", folder)[0] == 0

    def refuse(*_, **__):
        raise UserError("built")

    for part in ("objectives.elbo.ELBO", "terms.total_variation.TotalVariation"):
        monkeypatch.setattr(f"genzoo.{part}.__init__", refuse)
    code, _, err = call("run", folder / "recipe.yaml", "--out", folder, "--resume")
    assert code == 2 and "built" in err, "training does need them"
    for used in (["eval", folder], ["report", folder], ["panels", folder], ["compare", folder, finished, "--html", "a.html"],
                 ["sample", folder, "--num", "1", "--out", "s"], ["reconstruct", folder, "digits:test", "--out", "r"],
                 ["eval", folder, "evaluation.metrics=[active_units]", "evaluation.strict=true"]):  # fmt: skip
        code, _, err = call(*used)
        assert ("built" in err) == (used[-1] == "evaluation.strict=true"), (used, err)
        assert code == 2 * ("built" in err), err
    assert session(folder).about()["samplers"] == ["prior"]


def test_what_was_fitted_stays_usable_when_other_samplers_are_scored(finished, tmp_path, call):
    folder = shutil.copytree(finished, tmp_path / "run")
    words = ["sample", folder, "--num", "3", "--sampler"]
    assert call(*words, "gmm", "--out", tmp_path / "before")[0] == 0
    code, _, err = call("eval", folder, "samplers=[{name: gmm, num_components: 1}]", "evaluation.metrics=[]")
    assert code == 0, err
    assert call("eval", folder, "samplers=[two_stage]", "samplers.0.steps=2", "evaluation.metrics=[]")[0] == 0
    for name in ("gmm", "prior", "two_stage"):  # the one that was fitted last, what needs no fit, the recipe's
        code, _, err = call(*words, name, "--out", tmp_path / name)
        assert code == 0, err
    code, _, err = call("fid", f"{folder}:gmm", "digits:test", "--num", "3", "--metric", "kid", "--features",
                        "efficientnet_lite0", "--json")  # fmt: skip
    assert code == 0, err
    for name, message in (("flow", "has no sampler 'flow'"), ("gmn", "has no sampler 'gmn'"), ("../x", "no sampler")):
        code, _, err = call(*words, name, "--out", tmp_path / "none")
        assert code == 2 and message in err and not (tmp_path / "none").exists()


def test_resume_of_a_finished_run_keeps_scores_of_other_settings(finished, tmp_path, call):
    folder = shutil.copytree(finished, tmp_path / "run")
    old = json.loads((folder / "metrics.json").read_text())
    for word, num_kept in (("report=false", 0), ("evaluation.num_samples=3", 1), ("evaluation.num_samples=3", 1)):
        code, _, err = call("run", folder / "recipe.yaml", word, "--out", folder, "--resume")
        assert code == 0, err
        assert len([*folder.glob("metrics-*.json")]) == num_kept
    kept = json.loads((folder / "metrics-1.json").read_text())
    values = [[entry["value"] for entry in record["scores"]] for record in (old, kept)]
    assert values[0] == values[1]
    assert {entry["num_samples"] for entry in json.loads((folder / "metrics.json").read_text())["scores"]} == {3}


def test_a_run_that_cannot_be_written_is_not_scored(finished, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match="cannot be written; score a copy of it"):
        evaluate_run(str(finished))


def test_a_score_that_cannot_be_had_is_skipped_and_said(tmp_path, call, caplog):
    metric = "{name: fid, features: {name: inception, weights: nowhere.pt}}"
    words = [*QUICK[:-1], *SMALL, f"evaluation.metrics=[{metric}]", "samplers=[prior]", "--out", tmp_path / "run"]
    code, _, err = call("run", "svae_digits", *words, "evaluation.strict=true")
    assert code == 2 and "nowhere.pt" in err and not (tmp_path / "run").exists()
    code, out, err = call("run", "svae_digits", *words)
    assert code == 0 and "skipped: " in out
    assert "fid will be skipped" in caplog.text and "nowhere.pt" in caplog.text
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())["scores"]
    assert all(entry["value"] is None and "nowhere.pt" in entry["skipped"] for entry in scores)


@pytest.mark.parametrize(("part", "mode"), [("y", "L"), ("y1", "L"), ("sigma", "L")])
def test_sample_writes_png_files(finished, tmp_path, call, part, mode):
    for name, seed in (("a", 1), ("b", 1)):
        code, _, err = call(
            "sample", finished, "--num", 3, "--out", tmp_path / name, "--sampler", "gmm", "--part", part, "--seed", seed
        )
        assert code == 0, err
    files = sorted((tmp_path / "a").iterdir())
    assert [file.name for file in files] == ["000000.png", "000001.png", "000002.png"]
    pixels = {name: [np.asarray(Image.open(file)) for file in sorted((tmp_path / name).iterdir())] for name in "ab"}
    assert Image.open(files[0]).mode == mode and pixels["a"][0].shape == (32, 32)
    assert all((a == b).all() for a, b in zip(pixels["a"], pixels["b"], strict=True))
    made = [drawn(str(finished), 3, sampler="gmm", part=part, seed=seed) for seed in (1, 2)]
    one, two = (torch.cat(list(images)) for images, _ in made)
    assert made[0][1]["part"] == part and made[0][1]["sampler_name"] == "gmm"
    assert not torch.equal(one, two)  # a model of two steps: the difference is less than a grey level


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "RUN", "--num", "1", "--out", "o", "--sampler", "flow"], "has no sampler 'flow' (its recipe names: prior, gmm)"),
        (["sample", "RUN", "--num", "1", "--out", "o", "--part", "y3"], "makes no part 'y3'"),
        (["sample", "RUN", "--num", "0", "--out", "o"], "--num"),
        (["sample", "nowhere", "--num", "1", "--out", "o"], "nowhere is not a run folder"),
        (["eval", "nowhere"], "nowhere is not a run folder"),
        (["sample", "RUN", "--num", "1", "--out", "RUN/lock.json/o"], "lock.json is no folder; choose another place"),
        (["check", "./nowhere.py"], "nowhere.py: no such file"),
        (["run", "svae_digit"], "did you mean 'svae_digits'"),
        (["run", "svae_digits", "model.encoder={name: conv, num_scales: 6}"], "32x32 cannot be halved 6 times (num_scales)"),
        (["run", "svae_digits", "data.size=36", "model.head.decoder.max_dim=0"], "model.head.decoder.max_dim"),
        (["run", "svae_digits", "train.stpes=1"], "did you mean 'steps'"),
        (["run", "svae_digits", "evaluation.reference=tset"], "has no split 'tset' (it has: train, test)"),
        (["run", "svae_digits", "train.optimizer.name=adamm"], "adamm"),
        (["run", "svae_digits", "data.name=folder", "data.root=nowhere"], "nowhere"),
        (["run", "svae_digits", "--plugin", "nowhere.py"], "plugin"),
        (["list", "decoderz"], "did you mean 'decoders'"),
        (["list", "decoders", "zzz*"], "nothing matches 'zzz*' in decoders"),
        (["show", "decoders/resnett"], "did you mean 'resnet'"),
        (["frobnicate"], "No such command"),
        (["run"], "Missing argument"),
    ],
)  # fmt: skip
def test_mistakes_end_with_one_message_and_leave_nothing(words, message, finished, call, tmp_path):
    code, out, err = call(*[word.replace("RUN", str(finished)) for word in words])
    assert code == 2 and message in err and not out
    assert not list(tmp_path.glob("*/*.png")) and not (tmp_path / "runs").exists()


def test_celeba_that_is_not_there_says_what_to_do(call):
    code, _, err = call("run", "svae_celeba")
    assert code == 2
    for words in ("img_align_celeba.zip", "list_eval_partition", "Kaggle", "data.name=faces"):
        assert words in err


def test_interrupt_saves_and_says_how_to_go_on(tmp_path):
    """SIGINT in a real process: exit code 130, a checkpoint, and a command that resumes."""
    words = [w for w in [*QUICK, *SMALL] if "steps" not in w and "every" not in w]
    words += ["train.steps=100000", "train.log_every=1", "samplers=[prior]"]
    command = [sys.executable, "-m", "genzoo", "run", "svae_digits", *words, "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / "run" / "train.jsonl"
        for _ in range(600):
            if log.is_file() and len(log.read_text().splitlines()) > 3:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "--resume" in err and "Traceback" not in err
    assert genzoo.load(tmp_path / "run").image_shape == (1, 32, 32)


def test_a_scoring_that_fails_changes_nothing(finished, tmp_path, call):
    folder = shutil.copytree(finished, tmp_path / "run")
    before = (folder / "recipe.yaml").read_bytes()
    code, _, err = call("eval", folder, "evaluation.metrics=[fid]", "evaluation.strict=true")
    assert code == 2 and "cannot be scored" in err
    assert (folder / "recipe.yaml").read_bytes() == before
    assert call("eval", folder)[0] == 0


def test_fewer_steps_than_are_done_are_no_resume(finished, call):
    code, _, err = call("run", finished / "recipe.yaml", "train.steps=1", "--out", finished, "--resume")
    assert code == 2 and "has done 2 steps already; train.steps=1 is fewer" in err


@pytest.mark.parametrize(
    "words", [("run", "svae_digits"), ("stats", "digits:test", "--features", "efficientnet_lite0")]
)
def test_a_place_that_cannot_be_written_is_found_at_once(words, call, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = call(*words, "--out", tmp_path / "file" / "a.npz")
    assert code == 2 and f"{tmp_path / 'file'} is no folder; choose another place with --out" in err


def test_statistics_that_cannot_be_kept_are_used_all_the_same(call, monkeypatch, caplog):
    def full(path, *rest):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("genzoo.evaluation.extraction.write_statistics", full)
    monkeypatch.setattr("genzoo.evaluation.extraction.cached", lambda *_: None)
    words = ("--num", 12, "--metric", "fd", "--allow-few", "--json")
    code, out, err = call("fid", "digits:train", "digits:test", *words)
    assert code == 0 and json.loads(out)["scores"][0]["value"] > 0
    assert "cannot be written (Permission denied): these statistics will be made again" in caplog.text + err


def test_an_interrupt_while_scoring_says_how_to_go_on(call, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("genzoo.run_scores.evaluate", interrupted)
    folder = tmp_path / "with space"
    code, _, err = call("run", "svae_digits", *QUICK, *SMALL, "--out", folder)
    assert code == 130 and "genzoo: interrupted" in err
    assert f"go on with: genzoo run '{folder}/recipe.yaml' --out '{folder}' --resume" in err


def test_what_costs_is_made_last(finished, call, monkeypatch):
    monkeypatch.setattr("genzoo.sides.run.drawn", lambda *_, **__: pytest.fail("sampled before the typo was seen"))
    code, _, err = call("fid", finished, "nowhere", "--metric", "fd")
    assert code == 2 and "there is no nowhere" in err
