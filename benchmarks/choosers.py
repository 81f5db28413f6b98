"""Of each latent the image that a chooser prefers, y or a branch: `python benchmarks/choosers.py RUN`.

A program that a study asks `after` a run. It prints {"scores": [...]}: every metric on features that the run was scored
with, of the prior samples that each chooser takes, as the part `best:CHOOSER`; nothing where there are no branches.

    neighbours  the smallest mean distance to its 5 nearest training images, in feature space
    gaussian    the highest density under a Gaussian of the training features, its covariance shrunk
    critic      what a linear critic, on 128 principal components, takes most for a training image; it has learned to
                tell training images from their own reconstructions, y and branches

Choosers are fitted on one half of some training images; `control` says the fd of what they choose to the other half,
which is what one would be picked by. None of them sees the reference split.
"""

import argparse
import json
from pathlib import Path

import torch
from finished import Finished, features
from torch import Tensor
from torch.nn import functional as F

from genzoo.allocator import keep_freed_memory
from genzoo.evaluation.extraction import Rows, Side, extract
from genzoo.evaluation.images import quantize
from genzoo.frechet import Statistics, frechet_distance

NUM_FIT, NEIGHBOURS, COMPONENTS, STEPS = 2600, 5, 128, 600


def neighbours(train: Tensor, made: Tensor) -> Tensor:
    """train: n dim; made: m dim -> m, lower is preferred."""
    return torch.cdist(made, train).topk(min(NEIGHBOURS, len(train)), largest=False).values.mean(1)


def gaussian(train: Tensor, made: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(torch.cov(train.T).double())
    scales = values.clamp(min=0) + values.mean()
    return (((made - train.mean(0)).double() @ vectors).square() / scales).sum(1)


def critic(train: Tensor, not_train: Tensor, seed: int):
    """What tells both apart, as a function of made: lower is more like train."""
    torch.manual_seed(seed)
    values, vectors = torch.linalg.eigh(torch.cov(train.T).double())
    kept = slice(-min(COMPONENTS, len(train) - 1), None)
    basis = (vectors[:, kept] / values[kept].clamp(min=1e-8).sqrt()).float()
    x = (torch.cat([train, not_train]) - train.mean(0)) @ basis
    target = torch.cat([torch.zeros(len(train)), torch.ones(len(not_train))])
    weight = torch.where(target > 0, len(x) / (2 * len(not_train)), len(x) / (2 * len(train)))
    line = torch.nn.Linear(x.shape[1], 1)
    optimizer = torch.optim.AdamW(line.parameters(), 1e-3, weight_decay=0.1)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (256,))
        loss = F.binary_cross_entropy_with_logits(line(x[rows])[:, 0], target[rows], weight=weight[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    line.requires_grad_(False)
    return lambda made: line((made - train.mean(0)) @ basis)[:, 0]


def scores(folder: Path) -> list[dict]:
    run = Finished(folder)
    measure = run.todo[0]
    images = run.training_images(NUM_FIT)
    made = run.reconstructions(images[0::4])
    if len(made) == 1:
        return []
    train = features(measure.extractor, images)
    fit, rest = train[0::2], Statistics.of(train[1::2])
    judge = critic(fit, torch.cat([features(measure.extractor, x) for x in made.values()]), run.seed)
    samples = ((rows, {name: quantize(x) for name, x in parts.items()}) for rows, parts in run.prior_samples())
    extractors = {measure.key: (measure.extractor, measure.extractor.dim)}
    found = extract(samples, run.config.num_samples, extractors, Rows, run.work, "choosers")[measure.key]
    parts = torch.stack([side.features for side in found.values()])  # k n dim
    sides, said = {}, {}
    for name, prefer in {
        "neighbours": lambda x: neighbours(fit, x),
        "gaussian": lambda x: gaussian(fit, x),
        "critic": judge,
    }.items():
        choice = torch.stack([prefer(x) for x in parts]).argmin(0)
        side = Side(parts[choice, torch.arange(len(choice))])
        shares = {part: float((choice == k).double().mean()) for k, part in enumerate(found)}
        sides[f"best:{name}"] = side
        said[f"best:{name}"] = {"fd_to_training": frechet_distance(rest, side.statistics), "shares": shares}
    return run.scores({one.key: sides for one in run.todo if one.key == measure.key}, said)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    keep_freed_memory()
    print(json.dumps({"scores": scores(parser.parse_args().run)}))
