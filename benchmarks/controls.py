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
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genzoo.allocator import keep_freed_memory
from genzoo.config import build, parse, part
from genzoo.evaluation.compare import side_of
from genzoo.evaluation.generate import draw
from genzoo.evaluation.images import from_array, quantize, spread
from genzoo.evaluation.scorer import Rows, extract, measures
from genzoo.evaluation.work import Work
from genzoo.frechet import Statistics, frechet_distance
from genzoo.loading import load
from genzoo.parts import Composition, Features, Pass
from genzoo.preparation import build_parts, prepare_splits
from genzoo.registry import TERMS
from genzoo.run_folder import RunFolder

Control = Callable[[Tensor], Tensor]  # b c h w in [0, 1] -> the same
STREAMS = ("y", "y1")
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
NUM_FIT, NUM_JUDGED = 4000, 300  # training images that a control is fitted on; of a half, for the mask's strength
REFINER = {"steps": 300, "batch_size": 64, "dim": 24, "lr": 1e-3, "gamma": 0.02}
BATCH = 100


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


def features(extractor: Features, images: Tensor) -> Tensor:
    return torch.cat([extractor(quantize(x)).cpu() for x in images.split(BATCH)])


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


@torch.no_grad()
def reconstructions(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    made: dict[str, list[Tensor]] = {}
    for x in images.split(BATCH):
        composition = model.decode(model.encode(x).mean)
        for name, values in {"y": composition.image, **composition.branches}.items():
            made.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in made.items() if name in STREAMS}


def scores(folder: Path) -> list[dict]:
    run = RunFolder(folder)
    recipe, found = run.recipe(), run.metrics()["scores"]
    parts = build_parts(recipe)
    splits, config = prepare_splits(parts, recipe), recipe.evaluation
    model, seed = load(folder, "cpu"), recipe.evaluation_seed
    todo = [one for one in measures([m for m in config.metrics if hasattr(m, "features")], "cpu") if not one.absent]
    reference = from_array(config.reference, splits[config.reference].images, config.num_reference)
    work = Work(batch_size=BATCH)
    real = {measure.key: side_of(reference, measure.extractor, True, work) for measure in todo}

    train = splits["train"].images
    rows = train[spread(len(train), NUM_FIT)]
    images = torch.from_numpy(np.ascontiguousarray(rows)).permute(0, 3, 1, 2).float() / 255
    controls: dict[str, dict[str, Control]] = {}
    options: dict[str, dict] = {"histogram": {}, "refiner": REFINER}
    for stream, made in reconstructions(model, images).items():
        strength = best_strength(images, made, todo[0].extractor)
        options[f"{stream}+unsharp"] = {"strength": strength}
        controls[stream] = {
            "histogram": histogram(images, made),
            "unsharp": sharpened(strength),
            "refiner": refiner(images, made, seed),
        }

    @torch.no_grad()
    def changed() -> Iterator[tuple[slice, dict[str, Tensor]]]:
        z = draw(model, parts.samplers["prior"], config.num_samples, seed)
        for start in range(0, len(z), BATCH):
            composition = model.decode(z[start : start + BATCH])
            given = {"y": composition.image, **composition.branches}
            yield slice(start, start + BATCH), {
                "y": quantize(given["y"]),  # what counts the images; its scores are the run's own
                **{f"{stream}+{name}": quantize(control(given[stream]))
                   for stream, named in controls.items() for name, control in named.items()},
            }  # fmt: skip

    extractors = {measure.key: (measure.extractor, measure.extractor.dim) for measure in todo}
    sides = extract(changed(), config.num_samples, extractors, Rows, work, "controls")
    made = []
    for measure in todo:
        for name, side in sides[measure.key].items():
            if name == "y":
                continue
            for score in measure.scores(real[measure.key], side, seed, {}):
                own = {"generator": "prior", "part": "y", "features": measure.features, "metric": score["metric"]}
                like = next(entry for entry in found if own.items() <= entry.items())  # the same protocol
                control = options.get(name, options.get(name.partition("+")[2]))
                made.append({**like, **score, "part": name, "control": control})
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    keep_freed_memory()
    print(json.dumps({"scores": scores(parser.parse_args().run)}))
