"""The programs that the flagship's study asks after its runs."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genzoo.evaluation.images import quantize
from genzoo.evaluation.protocol import differences
from genzoo.recipe import read
from genzoo.run import run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


sys.path.insert(0, str(BENCHMARKS))  # as Python does for a program's own folder
controls, choosers, likelihood = (importlib.import_module(name) for name in ("controls", "choosers", "likelihood"))
sys.path.pop(0)


def images(seed, num=20, channels=1, power=1.0):
    return torch.rand(num, channels, 8, 8, generator=torch.Generator().manual_seed(seed)) ** power


@given(st.integers(0, 1000), st.floats(0.3, 3.0), st.floats(0.3, 3.0))
def test_the_pixel_curve_is_monotone_and_gives_the_images_distribution(seed, power, other):
    real, made = images(seed, power=power), images(seed + 1, power=other)
    curve = controls.histogram(real, made)
    levels = curve(torch.linspace(0, 1, 256).view(1, 1, 16, 16)).flatten()
    assert (levels.diff() >= 0).all() and levels.min() >= 0 and levels.max() <= 1
    # Pixels of one level cannot be told apart: all get a quantile of the images from within the level's own share.
    seen, wanted = (quantize(x).flatten().sort().values.double() / 255 for x in (made, real))
    found, num = curve(made).flatten().sort().values, len(seen)
    for k in (torch.linspace(0.02, 0.98, 25) * (num - 1)).long():
        first, end = int((seen < seen[k]).sum()), int((seen <= seen[k]).sum())
        assert wanted[first] - 1e-6 <= found[k] <= wanted[min(end, num - 1)] + 1e-6
        if end - first < 0.02 * num:
            assert (found[k] - wanted[k]).abs() < 0.04


@given(st.integers(0, 1000), st.integers(1, 3), st.floats(0.1, 4.0))
def test_the_mask_sharpens_what_varies_and_leaves_the_rest(seed, channels, strength):
    x = 0.5 + 0.05 * (images(seed, channels=channels) - 0.5)
    torch.testing.assert_close(controls.sharpened(0.0)(x), x)
    flat = torch.full_like(x, 0.3)
    torch.testing.assert_close(controls.sharpened(strength)(flat), flat)
    assert controls.sharpened(strength)(x).var() > x.var()


def test_a_run_is_scored_under_its_controls_by_its_own_protocol(tmp_path, monkeypatch):
    monkeypatch.setattr(controls, "NUM_FIT", 16)
    monkeypatch.setattr(controls, "NUM_JUDGED", 4)
    monkeypatch.setattr(controls, "STRENGTHS", (0.0, 1.0))
    monkeypatch.setitem(controls.REFINER, "steps", 2)
    words = ["model.encoder.base_dim=2", "model.head.decoder.base_dim=2", "train.steps=3", "train.batch_size=8",
             "samplers=[prior]", "evaluation.num_samples=4", "evaluation.num_reference=4", "report=false"]  # fmt: skip
    run(read("svae_digits", words), tmp_path / "run")
    made = controls.scores(tmp_path / "run")
    names = {f"{stream}+{name}" for stream in ("y", "y1") for name in ("histogram", "unsharp", "refiner")}
    assert {score["part"] for score in made} == names and {score["metric"] for score in made} == {"fd"}
    own = controls.Finished(tmp_path / "run").found
    like = next(score for score in own if (score["generator"], score["part"]) == ("prior", "y"))
    assert all(differences(score, like) == {} for score in made)
    for score in made:
        if score["control"] == {"strength": 0.0}:  # the mask that changes nothing: the run's own number
            same = next(x for x in own if x["generator"] == "prior" and x["part"] == score["part"].partition("+")[0])
            assert score["value"] == pytest.approx(same["value"], rel=1e-5)
    monkeypatch.setattr(choosers, "NUM_FIT", 16)
    monkeypatch.setattr(choosers, "STEPS", 2)
    chosen = choosers.scores(tmp_path / "run")
    assert {score["part"] for score in chosen} == {"best:neighbours", "best:gaussian", "best:critic"}
    assert all(sum(score["control"]["shares"].values()) == pytest.approx(1) for score in chosen)
    (nll,) = likelihood.scores(tmp_path / "run", 3, 2)
    assert nll["metric"] == "nll" and nll["value"] > -10_000


@pytest.mark.parametrize("name", ["neighbours", "gaussian", "critic"])
def test_choosers_prefer_what_is_like_the_training_features(name):
    generator = torch.Generator().manual_seed(0)
    train, like, far = (torch.randn(60, 6, generator=generator) + shift for shift in (0, 0, 4))
    prefer = choosers.critic(train, far, 0) if name == "critic" else lambda made: getattr(choosers, name)(train, made)
    assert (prefer(like[:20]).max() < prefer(far[:20]).min()) or (prefer(like) < prefer(far)).float().mean() > 0.9
