"""Encoders x latents x heads x objectives x terms x samplers: each trains, reconstructs and samples, or is refused."""

import itertools
import os
import random
import re

import pytest
import torch

from genzoo.errors import UserError
from genzoo.evaluation.generate import draw
from genzoo.model import Model
from genzoo.preparation import build_parts
from genzoo.recipe import Recipe
from genzoo.registry import ENCODERS, HEADS, LATENTS, OBJECTIVES, PRIORS, SAMPLERS, TERMS
from genzoo.stage_two import fit
from genzoo.training.config import OptimizerConfig
from genzoo.training.optimizer import make_optimizer
from genzoo.training.step import Step

DECODER = {"name": "conv", "base_dim": 4}
CRITIC = {"name": "conv", "base_dim": 4}
SMALL = {
    "encoders/resnet": {"base_dim": 4, "num_scales": 2, "embed_dim": 8},
    "encoders/conv": {"base_dim": 4},
    "encoders/mlp": {"hidden_dims": [8]},
    "encoders/timm": {"model": "test_resnet.r160_in1k"},
    "terms/adversarial": {"critic": CRITIC},
    "terms/perceptual": {"size": 32},
    "samplers/gmm": {"num_components": 2},
    "samplers/two_stage": {"steps": 2, "hidden_dim": 8},
    "samplers/flow": {"steps": 2, "hidden_dim": 8, "num_transforms": 2},
    "samplers/flow_matching": {"steps": 2, "hidden_dim": 8},
    "samplers/autoregressive": {"steps": 2, "batch_size": 32, "hidden_dim": 16, "num_layers": 1, "num_heads": 2},
    "samplers/maskgit": {"steps": 2, "batch_size": 32, "hidden_dim": 16, "num_layers": 1, "num_heads": 2},
    "objectives/iwae": {"num_draws": 2},
}
SHAPE = (1, 16, 16)


def own(registry) -> list[str]:
    return [name for name, entry in registry.entries.items() if entry.owner == "genzoo"]


def options(kind: str, name: str) -> dict:
    return {"name": name, **SMALL.get(f"{kind}/{name}", {})}


def head(name: str) -> dict:
    fields = HEADS.get(name).Config.model_fields
    inner = {"head": {"name": "split", "decoder": DECODER}} if "head" in fields else {"decoder": DECODER}
    return {"name": name, **inner}


def kinds() -> list[list]:
    """The choices: (encoder, its options), latent, head, objective, term, sampler, prior."""
    samplers = [name for name in own(SAMPLERS) if name != "seed_protocol"]  # a hundred components: its own tests
    maps = [{"out": "map"}, {}]
    encoders = [
        (name, out)
        for name in own(ENCODERS)
        for out in maps
        if not out or "out" in ENCODERS.get(name).Config.model_fields
    ]
    return [encoders, own(LATENTS), own(HEADS), own(OBJECTIVES), [None, *own(TERMS)], samplers, [None, *own(PRIORS)]]


def recipe(combination: tuple) -> Recipe:
    (encoder, out), latent, a_head, objective, term, sampler, prior = combination
    objectives = [options("objectives", objective)]
    if a_head in ("gaussian", "logistic") and objective != "tc":
        objectives[0]["reconstruction"] = "likelihood"
    return Recipe.model_validate(
        {
            "name": "product",
            "data": {"name": "digits", "size": SHAPE[1]},
            "model": {
                "encoder": {**options("encoders", encoder), **out},
                "latent": options("latents", latent),
                "prior": prior and options("priors", prior),
                "head": head(a_head),
            },
            "objective": objectives[0],
            "terms": [options("terms", term)] if term else [],
            "train": {"steps": 2, "batch_size": 6},
            "samplers": [options("samplers", sampler)],
        }
    )


def outcome(combination: tuple) -> str:
    """ "trained" or "refused"; AssertionError for anything between."""
    made = recipe(combination)
    try:
        parts = build_parts(made)
    except UserError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 1200, text
        # a misfit names both parts and the way out; a size that one part cannot make names it and the size
        assert re.search(r"\w+/\w+ needs .+; \w+/\w+.* has none: use .+|\w+/\w+ cannot be built for .+: .+", text), text
        return "refused"
    torch.manual_seed(0)
    model = Model(made.model, SHAPE)
    step = Step(model, parts.objective, parts.terms).train()
    optimizer = make_optimizer(step, OptimizerConfig())
    images = torch.randint(0, 256, (6, *SHAPE[1:], 1), dtype=torch.uint8)
    for number in range(2):
        scalars = step(images, torch.tensor(number))
        assert all(value.isfinite() for value in scalars.values()), scalars
        scalars["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        posterior = model.encode(images.permute(0, 3, 1, 2).float() / 255)
        assert model.decode(posterior.mean).image.shape == (6, *SHAPE)
        (sampler,) = parts.samplers.values()
        num = max(40, 1 + posterior.mean[0].numel())
        mean, variance = (
            one.repeat(-(-num // 6), *(1,) * (one.ndim - 1)) for one in (posterior.mean, posterior.variance)
        )
    if sampler.needs_fit:
        if hasattr(sampler, "bind"):
            sampler.bind(model)
        rows = torch.stack([mean + 1e-3 * torch.randn_like(mean), variance], 1)
        if getattr(sampler, "learns", "") == "codes":
            rows = model.latent.codes(mean)
        fit(sampler, rows.numpy(), 0)
    with torch.no_grad():
        image = model.decode(draw(model, sampler, 3, 0)).image
    assert image.shape == (3, *SHAPE) and image.isfinite().all() and image.min() >= 0 and image.max() <= 1
    return "trained"


def walk(combinations: list[tuple]) -> dict[str, int]:
    counts = {"trained": 0, "refused": 0}
    for combination in combinations:
        try:
            counts[outcome(combination)] += 1
        except Exception as error:
            raise AssertionError(f"{combination}: {type(error).__name__}: {error}") from error
    print(counts)
    return counts


def pairs(combination: tuple) -> set[tuple]:
    return set(itertools.combinations(((place, str(value)) for place, value in enumerate(combination)), 2))


def covering(kinds: list[list], seed: int) -> list[tuple]:
    """So many combinations that any two values of two kinds meet in one: each has two that had not, and luck."""
    chance, chosen = random.Random(seed), []
    left = {
        ((a, str(one)), (b, str(other))): {a: one, b: other}
        for a, b in itertools.combinations(range(len(kinds)), 2)
        for one, other in itertools.product(kinds[a], kinds[b])
    }
    while left:
        given = left[chance.choice(sorted(left))]
        tries = [
            tuple(given.get(place, chance.choice(values)) for place, values in enumerate(kinds)) for _ in range(30)
        ]
        chosen.append(max(tries, key=lambda one: len(pairs(one) & left.keys())))
        for pair in pairs(chosen[-1]):
            left.pop(pair, None)
    return chosen


def test_a_covering_has_every_pair():
    few = [list("abc"), list("de"), list("fgh"), list("ij")]
    chosen, every = covering(few, 0), list(itertools.product(*few))
    assert len(chosen) < len(every) / 2 and set(chosen) <= set(every)
    assert set().union(*map(pairs, chosen)) == set().union(*map(pairs, every))


@pytest.mark.parametrize("num", [40, pytest.param(None, marks=pytest.mark.long)])
def test_any_two_parts_meet(num):
    """All pairs; the first forty combinations have most of them."""
    counts = walk(covering(kinds(), 0)[:num])
    assert counts["trained"] >= 10 and counts["refused"] >= 10


@pytest.mark.long
@pytest.mark.parametrize("latent", own(LATENTS))
@pytest.mark.parametrize("encoder", kinds()[0], ids=lambda one: "-".join((one[0], *one[1].values())))
def test_the_product(encoder, latent):
    """Ten of each encoder and latent; all of them, which takes hours, with GENZOO_PRODUCT=whole."""
    combinations = list(itertools.product([encoder], [latent], *kinds()[2:]))
    walk(combinations if os.environ.get("GENZOO_PRODUCT") == "whole" else random.Random(1).sample(combinations, 10))
