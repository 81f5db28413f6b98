"""Samplers are trained by the one trainer, on latents that are encoded once; as a program, a fit to kill."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from genzoo.config import build
from genzoo.densities import DiagonalGaussian
from genzoo.evaluation.encoded import drawn, encoded, moments
from genzoo.evaluation.work import ON_CPU
from genzoo.registry import SAMPLERS
from genzoo.stage_two import fit
from genzoo.stage_two.learned import LearnedStep

OPTIONS = {"steps": 400, "batch_size": 32, "hidden_dim": 16, "checkpoint_every": 20, "ema": 0.9}
IMAGES = np.random.default_rng(0).integers(0, 256, (90, 2, 2, 1), dtype=np.uint8)


class Encoder(nn.Module):
    """Latents are an image's pixels, (1, 2, 2), codes their sixteenths; q(z|x) as `spread` says."""

    latent_shape = (1, 2, 2)

    def __init__(self, spread="gaussian", num_codes=16):
        super().__init__()
        self.spread, self.num_codes, self.num_encoded = spread, num_codes, 0

    @property
    def latent(self):
        return self

    def encode(self, x):
        self.num_encoded += len(x)
        if self.spread == "gaussian":
            return DiagonalGaussian(x, torch.full_like(x, 0.01).log())
        return Other(x, 0.1 if self.spread == "other" else 0.0)

    def codes(self, z):
        return (z * (self.num_codes - 1)).long().squeeze(1)


class Other:
    def __init__(self, mean, width):
        self.mean, self.width = mean, width
        self.variance = torch.full_like(mean, width**2)

    def sample(self, generator):
        return self.mean + self.width * torch.randint(2, self.mean.shape, generator=generator)


def make(name="flow_matching", **options):
    config = SAMPLERS.get(name).Config(name=name, **{**OPTIONS, **options})
    codes = {"num_codes": 5, "grid": (2, 2)} if config.name == "autoregressive" else {}
    return build(SAMPLERS, config, latent_shape=(3,), **codes)


def rows(name="flow_matching"):
    g = np.random.default_rng(0)
    if name == "autoregressive":
        return g.integers(0, 5, (200, 2, 2), dtype=np.uint8)
    return np.stack([g.normal(size=(200, 3)), g.uniform(size=(200, 3))], 1).astype(np.float32)


def steps(folder):
    file = folder / "train.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize(
    ("name", "kind"),
    [("flow_matching", signal.SIGKILL), ("flow_matching", signal.SIGTERM), ("autoregressive", signal.SIGKILL)],
)
def test_a_fit_that_was_killed_goes_on_bit_for_bit(tmp_path, name, kind):
    """At some moment: while it starts or goes on, before its first checkpoint, between two of them, or in one."""
    whole, delay = make(name), random.uniform(0, 0.4)
    fit(whole, rows(name), 5, folder=tmp_path / "whole")
    process = subprocess.Popen([sys.executable, __file__, tmp_path / "cut", name], stderr=subprocess.PIPE, text=True)
    begun = tmp_path / "cut" / "checkpoints"
    while not ([*begun.glob("step-*")] if kind == signal.SIGTERM else begun.exists()) and process.poll() is None:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(kind)
    assert process.wait(60) != 0, (delay, process.stderr.read())
    if kind == signal.SIGTERM:
        assert "go on with: this again" in process.stderr.read()
    assert not steps(tmp_path / "cut") or steps(tmp_path / "cut")[-1] < 400
    again = make(name)
    fit(again, rows(name), 5, folder=tmp_path / "cut")
    assert not [*tmp_path.glob("*/checkpoints")]
    assert steps(tmp_path / "cut") == steps(tmp_path / "whole") == [100, 200, 300, 400]
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), (key, delay)
    assert again.num_fit == 200


@pytest.mark.parametrize(("spread", "num"), [("gaussian", 2), ("point", 1), ("other", 3)])
def test_latents_are_what_the_posteriors_are(tmp_path, spread, num):
    made = encoded(Encoder(spread), IMAGES, "latents", ON_CPU, tmp_path / "train-latents.npy", {"weights": "a"})
    kept_in_memory = encoded(Encoder(spread), IMAGES, "latents", ON_CPU)
    assert made.shape == (90, num, 1, 2, 2) and made.dtype == np.float32
    np.testing.assert_array_equal(made, kept_in_memory)
    mean, variance = moments(made)
    x = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(mean, x)
    width = {"gaussian": 0.1, "point": 0.0, "other": 0.1}[spread]
    torch.testing.assert_close(variance, torch.full_like(x, width**2))
    first, other = drawn(torch.from_numpy(np.array(made))), drawn(torch.from_numpy(np.array(made)))
    assert torch.equal(first, other) == (spread != "gaussian")
    error = (first - x).abs()
    if spread == "gaussian":
        assert (first - x).std() == pytest.approx(0.1, rel=0.2)
    else:  # no draw of a Gaussian of these moments lies on either of two points
        assert ((error < 1e-6) | ((error - width).abs() < 1e-6)).all() and (spread == "point" or error.max() > 0)


@pytest.mark.parametrize(
    ("num_codes", "dtype"), [(16, np.uint8), (256, np.uint8), (257, np.uint16), (70000, np.uint32)]
)
def test_codes_are_kept_in_the_smallest_type_and_come_back_as_they_are(tmp_path, num_codes, dtype):
    made = encoded(Encoder(num_codes=num_codes), IMAGES, "codes", ON_CPU, tmp_path / "train-codes.npy", {})
    assert made.dtype == dtype and made.shape == (90, 2, 2)
    x = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255
    expected = Encoder(num_codes=num_codes).codes(x)
    assert expected.max() > 0.9 * num_codes
    sampler = Seeing(num_codes)
    fit(sampler, made, 0)
    seen = {tuple(codes.flatten().tolist()) for codes in sampler.seen}
    assert seen == {tuple(codes.flatten().tolist()) for codes in expected}


class Seeing(nn.Module):
    """A learned sampler that keeps what it is shown."""

    needs_fit, learns, kind_name = True, "codes", "samplers/seeing"

    def __init__(self, num_codes):
        super().__init__()
        self.settings = {"steps": 3, "batch_size": 30}
        self.register_buffer("num_fit", torch.zeros((), dtype=torch.int64))
        self.weight, self.seen = nn.Parameter(torch.zeros(())), []

    def begin(self, codes):
        assert len(codes) == 90

    def loss(self, codes, clock):
        assert codes.dtype == torch.int64
        self.seen += codes
        return {"loss": (self.weight - 1).square()}


def test_latents_are_encoded_once_and_anew_for_other_weights_or_when_damaged(tmp_path, caplog):
    file, model = tmp_path / "latents" / "train-latents.npy", Encoder()

    def again(weights):
        before = model.num_encoded
        made = encoded(model, IMAGES, "latents", ON_CPU, file, {"weights": weights})
        return model.num_encoded - before, np.array(made)

    first, made = again("a")
    assert first >= 90 and again("a")[0] == 0
    assert again("b")[0] >= 90 and again("b")[0] == 0
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    num, mended = again("b")
    assert num >= 90 and "is damaged: the latents are encoded anew" in caplog.text
    np.testing.assert_array_equal(mended, made)
    file.unlink()
    assert again("b")[0] >= 90
    assert sorted(path.name for path in file.parent.iterdir()) == ["train-latents.json", "train-latents.npy"]


def test_the_step_says_how_long_it_will_take(caplog):
    caplog.set_level("INFO")
    fit(make(steps=40), rows(), 0, name="samplers/flow_matching")
    assert "samplers/flow_matching: about " in caplog.text and " s in all" in caplog.text
    num = sum(p.numel() for p in make().parameters())
    assert f"samplers/flow_matching: {num:,} parameters, 40 steps of 32 of 200 latents" in caplog.text


def test_two_processes_learn_what_one_does(tmp_path):
    """Without chance the same but for the rounding of sums; else each process has noise of its own, and it is another
    sample of the same training."""
    cases = {"autoregressive": ({"dropout": 0.0}, 1e-4), "flow_matching": ({}, 0.05)}
    words = [word for name, (options, _) in cases.items() for word in (name, json.dumps({**options, "steps": 200}))]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen([*launcher, __file__, tmp_path / "two", *words], stderr=subprocess.PIPE, text=True)
    alone = {name: make(name, **options, steps=200) for name, (options, _) in cases.items()}
    for name, sampler in alone.items():
        fit(sampler, rows(name), 5, folder=tmp_path / "one" / name)
    assert process.wait(120) == 0, process.stderr.read()
    for name, (options, tolerance) in cases.items():
        one, two = losses(tmp_path / "one" / name), losses(tmp_path / "two" / name)
        assert len(one) == 2 and two == pytest.approx(one, rel=tolerance)
        together = make(name, **options)
        together.load_state_dict(torch.load(tmp_path / "two" / name / "learned.pt", weights_only=True))
        assert together.num_fit == 200
        before, *learned = (loss_on_all(one) for one in (make(name, **options), alone[name], together))
        # of codes, a fresh network is off by chance alone: log 5 nats and a little more, of which 0.02 can be learned
        assert learned[1] == pytest.approx(learned[0], rel=tolerance) and learned[0] < 0.99 * before


@torch.no_grad()
def loss_on_all(sampler):
    torch.manual_seed(0)
    name = sampler.eval().config.name
    what = torch.from_numpy(rows(name))
    whole = what.long() if name == "autoregressive" else drawn(what.repeat(50, 1, 1))
    return sampler.loss(whole, torch.zeros(()))["loss"].item()


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "train.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    from genzoo.launch import launched

    torch.set_num_threads(1)
    folder, *words = sys.argv[1:]
    launch, loss = launched(), LearnedStep.forward
    if launch.num == 1:
        LearnedStep.forward = lambda *words: time.sleep(0.003) or loss(*words)
        fit(make(words[0]), rows(words[0]), 5, folder=Path(folder), again="this again")
    else:
        with launch.ends_as_one():
            for name, options in zip(words[::2], words[1::2], strict=True):
                fit(sampler := make(name, **json.loads(options)), rows(name), 5, folder=Path(folder, name))
                if launch.is_main:
                    torch.save(sampler.state_dict(), Path(folder, name, "learned.pt"))
