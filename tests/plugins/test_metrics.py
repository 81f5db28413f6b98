"""Metrics of one's own: the kit finds what is wrong with them, and a run, a comparison and a ranking take them."""

import json
import re

import pytest

from genzoo.config import config_of
from genzoo.plugin_files import load_file
from genzoo.registry import METRICS
from genzoo.testing import conformance, metrics
from genzoo.testing.subject import Mismatch, Subject

MINE = '''import genzoo
import torch
from genzoo.config import Config
from genzoo.extractors import EXTRACTOR, Extractor
from pydantic import Field


@genzoo.METRICS.register("mine")
class Mine:
    """Distance of the means, and of the spreads."""

    class Config(Config):
        features: Extractor = EXTRACTOR
        power: float = Field(1.0, description="of the distance")

    needs = "features"
    lower = {"mine": True, "spread": None}
    by_statistics = ("real",)
    least = 3

    def __init__(self, config):
        self.power = config.power

    def few(self, dim, num_real, num_fake):
        return "fewer samples than ten" if num_fake < 10 else ""

    def score(self, real, fake, seed):
        apart = (real.statistics.mean - fake.features.double().mean(0)).norm() ** self.power
        spread = real.statistics.cov.trace() - fake.features.double().var(0).sum()
        return {"mine": {"value": float(apart), "power": self.power}, "spread": {"value": float(spread)}}
'''


@pytest.fixture
def mine(own_plugins, tmp_path):
    def write(old="", new=""):
        assert old in MINE
        (tmp_path / "mine.py").write_text(MINE.replace(old, new) if old else MINE)
        return tmp_path / "mine.py"

    return write


def test_a_sound_metric_passes(mine):
    load_file(mine())
    conformance("metrics/mine")


@pytest.mark.parametrize(
    ("check", "old", "new", "message"),
    [
        (metrics.states_itself, '"spread": None}', '"spread": "higher"}', "True, False or None"),
        (metrics.states_itself, "needs = ", "against = 'train'\n    needs = ", "`against`, a split"),
        (metrics.states_itself, ' else ""', " else None", "`few` to say why"),
        (metrics.states_itself, 'needs = "features"', 'needs = "pixels"', "this one needs 'pixels'"),
        (metrics.scores, '"spread": None}', '"breadth": None}', "mine, breadth; seen"),
        (metrics.scores, "float(apart)", "apart", "a finite number"),
        (metrics.scores, "float(apart)", "float('nan')", "a finite number"),
        (metrics.scores, "least = 3", "least = 1", "a finite number.*of 1 images"),
        (metrics.scores, '"power": self.power}', '"power": apart}', "not JSON serializable"),
        (metrics.repeats, "float(apart)", "float(apart + torch.rand(()))", "chance comes from the seed alone"),
        (metrics.repeats, "fake.features.double().var", "fake.features.mul_(2).double().var", "seed alone|as they were"),
        (metrics.by_statistics, '("real",)', '("real", "fake")', "`statistics` alone"),
        (metrics.by_statistics, '("real",)', '("training",)', 'a tuple of "real" and "fake"'),
    ],
)  # fmt: skip
def test_a_broken_metric_is_found(check, old, new, message, mine):
    load_file(mine(old, new))
    config = config_of(METRICS, "mine").model_validate({"name": "mine"})
    with pytest.raises(Exception) as error:
        check(Subject(METRICS, "mine", config, "eager"))
    assert re.search(message, str(error.value)), error.value
    assert isinstance(error.value, Mismatch) or "pixels" in new or "JSON" in message


TINY = [
    "train.steps=2", "train.batch_size=4", "train.precision=fp32", "evaluation.num_samples=12",
    "evaluation.num_reference=12", "report=false",
]  # fmt: skip


def test_a_run_a_comparison_and_a_ranking_take_it(mine, call, tmp_path):
    """Two numbers from one metric, of the image and of each branch, beside those of genzoo's own."""
    plugin = mine()
    words = [*TINY, "evaluation.metrics=[{name: mine, power: 2}, {name: kid, subset_size: 5}]", "--plugin", plugin]
    for name in ("a", "b"):
        code, _, err = call("run", "svae_digits", *words, f"seed={ord(name)}", "--out", tmp_path / name)
        assert code == 0, err
    scores = json.loads((tmp_path / "a" / "metrics.json").read_text())["scores"]
    found = {(entry["metric"], entry["part"]): entry for entry in scores if entry["generator"] == "prior"}
    assert found.keys() == {(name, part) for name in ("mine", "spread", "kid") for part in ("y", "y1", "y2", "mix")}
    assert found["mine", "y"]["power"] == 2 and "few" not in found["mine", "y"]
    assert {entry["protocol"]["name"] for entry in scores} == {"efficientnet_lite0"}

    code, out, err = call("compare", tmp_path / "a", tmp_path / "b", "--json")
    assert code == 0, err
    ranks = {row["metric"]: row["ranks"] for row in json.loads(out) if row["part"] == "y"}
    assert sorted(ranks["mine"].values()) == [1, 2] and ranks["spread"] == {}

    sides = "digits:test", "digits:train", "--num", 9, "--features", "efficientnet_lite0", "--metric", "mine"
    code, _, err = call("fid", *sides, "--plugin", plugin)
    assert code == 2 and "fewer samples than ten" in err
    code, out, err = call("fid", *sides, "--plugin", plugin, "--allow-few", "--json")
    assert code == 0, err
    assert [entry["metric"] for entry in json.loads(out)["scores"]] == ["mine", "spread"]


def test_one_that_needs_what_there_is_not_is_refused_before_training(mine, call, tmp_path):
    plugin = mine('needs = "features"', 'needs = "model"')
    code, _, err = call("run", "svae_digits", *TINY, "evaluation.metrics=[mine]", "--plugin", plugin, "--out",
                        tmp_path / "run")  # fmt: skip
    assert code == 2 and "metrics/mine cannot be scored" in err and not (tmp_path / "run").exists()
