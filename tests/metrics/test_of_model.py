"""Scores of the trained model itself: how they are asked for, recorded, skipped."""

import json

import pytest

TINY = ["train.steps=2", "train.batch_size=4", "train.precision=fp32", "evaluation.num_samples=8",
        "evaluation.num_reference=40", "report=false"]  # fmt: skip


@pytest.fixture
def scored(call, tmp_path):
    """scored(recipe, metrics, *words): the entries that are of the model, of a run of two steps."""

    def run(recipe, metrics, *words):
        code, out, err = call("run", recipe, *TINY, f"evaluation.metrics={metrics}", *words, "--out", tmp_path / "run")
        assert code == 0, err
        entries = json.loads((tmp_path / "run" / "metrics.json").read_text())["scores"]
        return [entry for entry in entries if entry["generator"] == "model"], out

    return run


def test_a_run_states_how_its_likelihood_was_made(scored, call, tmp_path):
    entries, out = scored("logistic_digits", "[{name: nll, num_draws: 4}, active_units]")
    nll, bits, units = entries
    assert [entry["metric"] for entry in entries] == ["nll", "bits_per_dim", "active_units"]
    assert nll["unit"] == "nats per image, mass of the 256 levels" and bits["unit"] == "bits per dimension"
    assert nll["num_draws"] == 4 and nll["num_reference"] == 40 and nll["reference"] == "test" and nll["seed"] == 0
    assert nll["standard_error"] > 0 and list(nll["found"]["by_draws"]) == ["1", "2", "4"]
    assert units["found"]["num_units"] == 16
    assert "nll" in out and "bits per dimension" in out

    code, _, err = call("eval", tmp_path / "run", "evaluation.metrics=[{name: nll, num_draws: 4}]", "--json")
    assert code == 0, err
    again = json.loads((tmp_path / "run" / "metrics.json").read_text())["scores"]
    assert [entry["metric"] for entry in again] == ["nll", "bits_per_dim"]
    assert again[0]["value"] == pytest.approx(nll["value"], rel=1e-5)  # the objective's state is the checkpoint's


def test_eval_has_the_scale_that_was_trained(scored, call, tmp_path):
    """gamma belongs to the objective: without its state the density would be of variance 1."""
    words = "objective={name: elbo, gamma: learned, gamma_value: 0.25}"
    [nll], _ = scored("vae_digits", "[{name: nll, num_draws: 2}]", words)
    assert nll["found"]["p(x|z)"].startswith("Gaussian of variance 0.2")
    code, _, err = call("eval", tmp_path / "run", "evaluation.seed=0")
    assert code == 0, err
    again = json.loads((tmp_path / "run" / "metrics.json").read_text())["scores"][0]
    assert again["value"] == pytest.approx(nll["value"], rel=1e-5)


@pytest.mark.parametrize(
    ("recipe", "words", "reason"),
    [
        ("rae_digits", [], "posterior has no density"),
        ("vae_digits", ["objective={name: elbo, reconstruction: bce}"], "no density of grey levels"),
    ],
)
def test_a_model_without_a_density_is_skipped_with_the_reason(recipe, words, reason, scored):
    [entry], out = scored(recipe, "[nll]", "samplers=[gmm]", "samplers.0.num_components=2", *words)
    assert entry["value"] is None and reason in entry["skipped"] and reason in out


def test_images_alone_have_no_likelihood(call):
    code, _, err = call("fid", "digits:test", "digits:train", "--metric", "nll")
    assert code == 2 and "evaluation.metrics='[nll]'" in err
