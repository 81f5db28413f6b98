"""What a recipe needs before its first step: parts that are built and found to fit, and prepared splits."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from genzoo.budget import within_memory
from genzoo.config import Config, build, parse
from genzoo.data.store import Split, prepare
from genzoo.errors import UserError
from genzoo.parts import Dataset, Learned, Sampler, Shape
from genzoo.progress import shown
from genzoo.recipe import Recipe
from genzoo.registry import DATASETS, OBJECTIVES, SAMPLERS, TERMS
from genzoo.tracing import Traced, refuse_large_batch, refuse_misfits, rehearse, rehearse_loss, trace
from genzoo.training.config import TrainConfig
from genzoo.training.preflight import refuse_settings


@dataclass
class Parts:
    """A recipe whose parts have been built and found to fit, before any data is read.

    objective: None, and terms: none, where a trained model is only used.
    """

    dataset: Dataset
    samplers: dict[str, Sampler]
    objective: torch.nn.Module | None = None
    terms: dict[str, torch.nn.Module] = field(default_factory=dict)


def build_parts(recipe: Recipe) -> Parts:
    """Build every part at the dataset's image size (the model on the meta device). UserError names one that fails.

    Random first weights, such as a critic's, are those of the recipe's seed.
    """
    dataset = build(DATASETS, recipe.data)
    shape = dataset.image_shape
    num = recipe.train.batch_size // recipe.train.grad_accumulation
    traced = trace(recipe.model, shape, max(1, min(2, num)))
    with within_memory(traced.num_bytes):
        for registry, configs in ((OBJECTIVES, [recipe.objective]), (TERMS, recipe.terms)):
            rehearse(registry, configs, image_shape=shape)
    torch.manual_seed(recipe.seed)
    objective = build(OBJECTIVES, recipe.objective, image_shape=shape)
    terms = {config.name: build(TERMS, config, image_shape=shape) for config in recipe.terms}
    users = {f"objectives/{recipe.objective.name}": objective}
    users |= {f"terms/{name}": term for name, term in terms.items()}
    refuse_misfits(users, traced.offers, recipe.model, shape)
    return Parts(dataset, _samplers_and_scores(recipe, traced, shape), objective, terms)


def build_used(recipe: Recipe) -> Parts:
    """What a trained model is used with: neither objective nor terms, which may ask for weights that only steps need.

    UserError as of `build_parts`.
    """
    dataset = build(DATASETS, recipe.data)
    shape = dataset.image_shape
    return Parts(dataset, _samplers_and_scores(recipe, trace(recipe.model, shape), shape))


def _samplers_and_scores(recipe: Recipe, traced: Traced, shape: Shape) -> dict[str, Sampler]:
    """The samplers, by name; UserError also for metrics and numbers of images that cannot be."""
    from genzoo.evaluation.generate import refuse_many
    from genzoo.evaluation.scorer import make_metric

    torch.manual_seed(recipe.seed)  # as in the run, so in a later evaluation of it
    samplers = build_samplers(recipe, traced, shape)
    for config in recipe.samplers:
        if hasattr(sampler := samplers[config.name], "loss"):
            refuse_settings(settings_of(sampler))
            rehearse_loss(sampler, config, traced, _codes(config, traced))
    for metric in recipe.evaluation.metrics:
        make_metric(metric)
    refuse_many(recipe.evaluation.num_samples, traced.latent_shape, "evaluation.num_samples")
    if not torch.cuda.is_available():
        refuse_large_batch(recipe.model, shape, recipe.evaluation.batch_size, "evaluation.batch_size")
    return samplers


def build_samplers(recipe: Recipe, traced: Traced, image_shape: Shape) -> dict[str, Sampler]:
    """The samplers of a recipe, unfitted, by name. UserError for one that does not go with the model."""
    wiring = {one.name: {"latent_shape": traced.latent_shape, **_codes(one, traced)} for one in recipe.samplers}

    def refuse(users: Iterable[object]) -> None:
        named = {f"samplers/{name}": user for name, user in zip(wiring, users, strict=True)}
        refuse_misfits(named, traced.offers, recipe.model, image_shape)

    with within_memory(traced.num_bytes):
        for config in recipe.samplers:
            rehearse(SAMPLERS, [config], **wiring[config.name])
    refuse(SAMPLERS.get(config.name) for config in recipe.samplers)
    refuse(recipe.samplers)  # what options decide
    made = {config.name: build(SAMPLERS, config, **wiring[config.name]) for config in recipe.samplers}
    refuse(made.values())
    return made


def _codes(config: Config, traced: Traced) -> dict:
    """What a sampler of codes is built with besides."""
    return traced.codes if getattr(SAMPLERS.get(config.name), "learns", "") == "codes" else {}


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
