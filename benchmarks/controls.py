"""Sharper images by other means, scored as a run's own samples are: `python benchmarks/controls.py RUN`.

A program that a study asks `after` a run. It prints {"scores": [...]}: every metric on features that the run was scored
with, of its prior samples y and, where there are branches, y1, each changed by

    histogram  one monotone curve of pixels, which gives reconstructions the pixel distribution of training images
    unsharp    x + a (x - B x), B the 3x3 binomial filter; a is what brings reconstructions of training images nearest
               to other training images, in fd
    refiner    a small residual network, trained with the zoo's adversarial term to make reconstructions look like
               training images and held to their own images by squared error

All three are fitted on training images and on their reconstructions (of the same y, or y1) alone.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from finished import Finished, features
from torch import Tensor, nn
from torch.nn import functional as F

from genzoo.allocator import keep_freed_memory
from genzoo.config import build, parse, part
from genzoo.evaluation.extraction import Rows, Stream, extract
from genzoo.evaluation.images import quantize
from genzoo.frechet import Statistics, frechet_distance
from genzoo.parts import Composition, Features, Pass
from genzoo.registry import TERMS

Control = Callable[[Tensor], Tensor]  # b c h w in [0, 1] -> the same
STREAMS = ("y", "y1")
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
NUM_FIT, NUM_JUDGED = 4000, 300  # training images that a control is fitted on; of a half, for the mask's strength
REFINER = {"steps": 300, "batch_size": 64, "dim": 24, "lr": 1e-3, "gamma": 0.02}


def histogram(images: Tensor, made: Tensor) -> Control:
    """The curve over 256 levels, from the middle of each level's share of `made` to the same quantile of `images`."""
    target = quantize(images).flatten().sort().values.float() / 255
    counts = torch.bincount(quantize(made).flatten().int(), minlength=256).double()
    middles = (counts.cumsum(0) - counts / 2) / counts.sum()
    curve = target[(middles * (len(target) - 1)).round().long()]
    return lambda x: curve[quantize(x).long()]


def sharpened(strength: float) -> Control:
    def control(x: Tensor) -> Tensor:
        row = torch.tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(row, row).expand(x.shape[1], 1, 3, 3)
        blurred = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])
        return (x + strength * (x - blurred)).clamp(0, 1)

    return control


def best_strength(images: Tensor, made: Tensor, extractor: Features) -> float:
    """Judged by reconstructions of one half of the images against the other half."""
    num = min(NUM_JUDGED, len(images) // 2)
    real = Statistics.of(features(extractor, images[1::2][:num]))
    found = {a: features(extractor, sharpened(a)(made[0::2][:num])) for a in STRENGTHS}
    return min(found, key=lambda a: frechet_distance(real, Statistics.of(found[a])))


def refiner(images: Tensor, made: Tensor, seed: int) -> Control:
    """y + network(y), held to the images by 0.5 * sum (x - y)^2 / gamma, in nats; gamma is a variance per pixel."""
    torch.manual_seed(seed)
    channels, dim = images.shape[1], REFINER["dim"]
    net = nn.Sequential(
        nn.Conv2d(channels, dim, 3, padding=1), nn.SiLU(), nn.Conv2d(dim, dim, 3, padding=1), nn.SiLU(),
        nn.Conv2d(dim, channels, 3, padding=1),
    )  # fmt: skip
    nn.init.zeros_(net[-1].weight)
    critic = {"name": "adversarial", "critic": {"name": "conv", "base_dim": 16}, "weight": images[0].numel() / 50}
    term = build(TERMS, parse(part(TERMS), critic, "critic"), image_shape=tuple(images.shape[1:]))
    optimizer = torch.optim.Adam([*net.parameters(), *term.parameters()], REFINER["lr"], betas=(0.5, 0.99))
    for step in range(REFINER["steps"]):
        rows = torch.randint(len(images), (REFINER["batch_size"],))
        x, y = images[rows], made[rows]
        image = (y + net(y)).clamp(0, 1)
        held = 0.5 * (x - image).square().flatten(1).sum(1).mean() / REFINER["gamma"]
        loss = term(Pass(None, None, Composition(image)), x, torch.tensor(step), None)["loss"] + held
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.requires_grad_(False)
    return lambda x: (x + net(x)).clamp(0, 1)


def scores(folder: Path) -> list[dict]:
    run = Finished(folder)
    images, extractor = run.training_images(NUM_FIT), run.todo[0].extractor
    controls: dict[str, Control] = {}
    options: dict[str, dict] = {}
    for stream, made in run.reconstructions(images).items():
        if stream in STREAMS:
            strength = best_strength(images, made, extractor)
            controls[f"{stream}+histogram"] = histogram(images, made)
            controls[f"{stream}+unsharp"] = sharpened(strength)
            controls[f"{stream}+refiner"] = refiner(images, made, run.seed)
            options |= {f"{stream}+unsharp": {"strength": strength}, f"{stream}+refiner": REFINER}

    def changed() -> Stream:
        for rows, made in run.prior_samples():
            yield (
                rows,
                {
                    "y": quantize(made["y"]),  # what counts the images; its scores are the run's own
                    **{name: quantize(control(made[name.partition("+")[0]])) for name, control in controls.items()},
                },
            )

    extractors = {measure.key: (measure.extractor, measure.extractor.dim) for measure in run.todo}
    sides = extract(changed(), run.config.num_samples, extractors, Rows, run.work, "controls")
    return run.scores({key: {n: side for n, side in of.items() if n != "y"} for key, of in sides.items()}, options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    keep_freed_memory()
    print(json.dumps({"scores": scores(parser.parse_args().run)}))
