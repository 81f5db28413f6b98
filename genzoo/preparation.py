"""What a recipe needs before its first step: parts that are built and found to fit, and prepared splits."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from genzoo.budget import within_memory
from genzoo.config import build, parse
from genzoo.data.store import Split, prepare
from genzoo.errors import UserError
from genzoo.parts import Dataset, Learned, Sampler
from genzoo.progress import shown
from genzoo.recipe import Recipe
from genzoo.registry import DATASETS, OBJECTIVES, SAMPLERS, TERMS
from genzoo.tracing import refuse_large_batch, refuse_misfits, rehearse, rehearse_loss, trace
from genzoo.training.config import TrainConfig
from genzoo.training.preflight import refuse_settings


@dataclass
class Parts:
    """A recipe whose parts have been built and found to fit, before any data is read."""

    dataset: Dataset
    objective: torch.nn.Module
    terms: dict[str, torch.nn.Module]
    samplers: dict[str, Sampler]


def build_parts(recipe: Recipe) -> Parts:
    """Build every part at the dataset's image size (the model on the meta device). UserError names one that fails.

    Random first weights, such as a critic's, are those of the recipe's seed.
    """
    from genzoo.evaluation.generate import refuse_many
    from genzoo.evaluation.scorer import make_metric

    dataset = build(DATASETS, recipe.data)
    shape = dataset.image_shape
    num = recipe.train.batch_size // recipe.train.grad_accumulation
    traced = trace(recipe.model, shape, max(1, min(2, num)))
    of_codes = {
        config.name: traced.codes if getattr(SAMPLERS.get(config.name), "learns", "") == "codes" else {}
        for config in recipe.samplers
    }
    with within_memory(traced.num_bytes):
        for registry, configs in ((OBJECTIVES, [recipe.objective]), (TERMS, recipe.terms)):
            rehearse(registry, configs, image_shape=shape)
        for config in recipe.samplers:
            rehearse(SAMPLERS, [config], latent_shape=traced.latent_shape, **of_codes[config.name])
    torch.manual_seed(recipe.seed)
    objective = build(OBJECTIVES, recipe.objective, image_shape=shape)
    terms = {config.name: build(TERMS, config, image_shape=shape) for config in recipe.terms}
    users = {f"objectives/{recipe.objective.name}": objective}
    users |= {f"terms/{name}": term for name, term in terms.items()}
    users |= {f"samplers/{config.name}": SAMPLERS.get(config.name) for config in recipe.samplers}
    refuse_misfits(users, traced.offers, recipe.model, shape)
    users = {f"samplers/{config.name}": config for config in recipe.samplers}  # what options decide
    refuse_misfits(users, traced.offers, recipe.model, shape)
    samplers = {}
    for config in recipe.samplers:
        built = build(SAMPLERS, config, latent_shape=traced.latent_shape, **of_codes[config.name])
        samplers[config.name] = built
        if hasattr(built, "loss"):
            refuse_settings(settings_of(built))
            rehearse_loss(built, config, traced, of_codes[config.name])
    refuse_misfits({f"samplers/{k}": v for k, v in samplers.items()}, traced.offers, recipe.model, shape)
    for metric in recipe.evaluation.metrics:
        make_metric(metric)
    refuse_many(recipe.evaluation.num_samples, traced.latent_shape, "evaluation.num_samples")
    if not torch.cuda.is_available():
        refuse_large_batch(recipe.model, shape, recipe.evaluation.batch_size, "evaluation.batch_size")
    return Parts(dataset, objective, terms, samplers)


def settings_of(sampler: Learned) -> TrainConfig:
    """How a learned sampler is to be trained. UserError for what is no option of `train`."""
    return parse(TrainConfig, {"panel_every": 0, **sampler.settings}, f"{sampler.kind_name}.settings")


def prepare_splits(parts: Parts, recipe: Recipe) -> dict[str, Split]:
    """The dataset's prepared splits; UserError when one that the recipe needs is not among them."""
    from genzoo.evaluation.generate import fit_split

    dataset = parts.dataset
    wanted = {"train": "train", recipe.evaluation.reference: "evaluation.reference"}
    wanted |= {fit_split(one): f"samplers: {name}" for name, one in parts.samplers.items() if one.needs_fit}
    try:
        if not wanted.keys() <= set(dataset.splits):
            dataset.locate()  # a folder shows its splits when it is looked at
        for name, key in wanted.items():
            if name not in dataset.splits:
                known = ", ".join(dataset.splits)
                raise UserError(f"{key}: {recipe.data.name} has no split '{name}' (it has: {known})")
        with shown() as report:
            return prepare(dataset, recipe.data, report)
    except UserError as error:
        root = getattr(recipe.data, "root", None)
        if root is None or "://" in str(root) or not Path(root).is_absolute() or os.path.exists(root):
            raise
        raise UserError(f"{error}; data.root=PATH says where the data is, or has moved to") from error
