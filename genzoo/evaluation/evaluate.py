"""The evaluator: latents -> images -> features -> scores. Every image is made once, whatever is measured on it."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.evaluation.compare import side_of
from genzoo.evaluation.config import EvaluationConfig, key_of, label_of
from genzoo.evaluation.extractor import exact
from genzoo.evaluation.images import MIX, Images, Spread, from_array, quantize, shares, spread
from genzoo.evaluation.latent import latent_diagnostics
from genzoo.evaluation.metrics import Side, needs_features, score
from genzoo.evaluation.plan import Reference, against, make_extractors, num_samples_of, plan_scores
from genzoo.evaluation.posteriors import draw, encode, evaluating, pick, stage
from genzoo.evaluation.record import versions
from genzoo.evaluation.split import SplitDiagnostics
from genzoo.launch import ALONE, Launch
from genzoo.parts import Composition, Features, Sampler
from genzoo.progress import Progress


def evaluate(
    model: nn.Module,
    samplers: Mapping[str, Sampler],
    splits: Mapping[str, np.ndarray],
    config: EvaluationConfig,
    *,
    seed: int,
    device: torch.device | str,
    progress: Progress | None = None,
    skipped: Mapping[str, str] | None = None,
    processes: Launch = ALONE,
) -> dict | None:
    """Scores of reconstructions and of every (fitted) sampler, for the image, each branch and their mix.

    splits: name -> uint8 n h w c; `config.reference` must be one of them. seed: of the samples, unless the config has
    one; every generator starts from it anew. skipped: samplers that could not be fitted, with the reason. processes:
    those that share the images; their number changes no value. Returns, on the main one of them, the "protocol",
    "latent", "split" and "scores" of metrics.json; a score that cannot be made has value None and says why, or raises
    UserError when `config.strict` is set.
    """
    seed = seed if config.seed is None else config.seed
    references = {
        key: from_array(key[0], pick(splits, key[0]), key[1])
        for key in dict.fromkeys(
            [(config.reference, config.num_reference), *map(partial(against, config), config.metrics)]
        )
    }
    common = references[config.reference, config.num_reference]
    extractors, absent = make_extractors(config, device)
    plan, scores = plan_scores(config, samplers, skipped or {}, extractors, absent, references, seed)
    real = _reference_sides(config, plan, extractors, references, device, progress, processes)
    split = SplitDiagnostics()
    with evaluating(model):
        images = Spread(splits[config.reference], config.num_reference)
        mean, variance = encode(model, images, device, config.batch_size, stage(progress, "encode"), processes)
        for generator, todo in plan.items():
            if generator == "reconstruction":  # also where it is not scored: the split is judged by it
                chosen = mean[spread(len(mean), config.num_samples)]
                made = _decode(model, chosen, device, config.batch_size, processes, split)
            elif todo:
                z = draw(model, samplers[generator], config.num_samples, seed)
                made = _decode(model, z, device, config.batch_size, processes)
            else:
                continue
            needed = {key_of(metric): extractors[key_of(metric)] for metric, _ in todo}
            num = num_samples_of(generator, config, common.num)
            made = _features(made, num, needed, device, stage(progress, generator), processes)
            with processes.first(f"scored {generator}"):
                if processes.rank == 0:
                    scores += _scored(todo, made, real, config, seed)
    if processes.rank > 0:
        return None
    return {
        "protocol": {
            "seed": seed,
            "images": "rounded and clamped to uint8 before they are scored",
            "reconstruction": "reference images, spread evenly, decoded from the mean of their posterior",
            "latents": "one set for each generator, shared by all its parts",
            "mix": "equal consecutive shares of the samples, one from each branch",
            "reference": {"split": config.reference, "num_images": common.num, "sha256": common.digest},
            "features": {
                label_of(m.features): extractors[key_of(m)].protocol for m in config.metrics if key_of(m) in extractors
            },
            "versions": versions(),
            "device": str(device),
        },
        "latent": latent_diagnostics(mean, variance, model.has_standard_normal_prior),
        "split": split.summary(),
        "scores": scores,
    }


def _reference_sides(
    config: EvaluationConfig,
    plan: dict[str, list[tuple[Config, dict]]],
    extractors: dict[str, Features],
    references: dict[Reference, Images],
    device: torch.device | str,
    progress: Progress | None,
    processes: Launch,
) -> dict[tuple[str, Reference], Side]:
    """(extractor, reference) -> side: all the features where a metric needs them, else statistics, from the cache."""
    whole: dict[tuple[str, Reference], bool] = {}
    for metric, _ in (pair for todo in plan.values() for pair in todo):
        place = key_of(metric), against(config, metric)
        whole[place] = whole.get(place, False) or needs_features(metric, reference=True)
    return {
        (key, reference): side_of(
            references[reference],
            extractors[key],
            features,
            device=device,
            batch_size=config.batch_size,
            progress=progress,
            processes=processes,
        )
        for (key, reference), features in whole.items()
    }


@torch.inference_mode()
def _decode(
    model: nn.Module,
    z: Tensor,
    device: torch.device | str,
    batch_size: int,
    processes: Launch,
    split: SplitDiagnostics | None = None,
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """This process's batches: which of z, and of these the image (y) and each branch, uint8 b c h w."""
    for number, start in enumerate(range(0, len(z), batch_size)):
        rows, mine = slice(start, start + batch_size), processes.owns(number)
        if not mine and not split:  # the split is judged by all the images
            continue
        composition: Composition = model.decode(z[rows].to(device))
        if split:
            split.add(composition)
        if mine:
            yield rows, {name: quantize(x) for name, x in {"y": composition.image, **composition.branches}.items()}


def _features(
    made: Iterator[tuple[slice, dict[str, Tensor]]],
    num: int,
    extractors: dict[str, Features],
    device: torch.device | str,
    progress: Callable[[int, int], None] | None,
    processes: Launch,
) -> dict[str, dict[str, Tensor]]:
    """extractor -> part -> features num dim, float32 on the CPU. Images are kept no longer than a batch."""
    features: dict[tuple[str, str], Tensor] = {}
    done = 0
    for rows, parts in made:
        for label, extractor in extractors.items():
            for part, images in parts.items():
                if (label, part) not in features:
                    features[label, part] = torch.zeros(num, extractor.dim)
                with exact():
                    features[label, part][rows] = extractor(images.to(device)).cpu()
        done += len(parts["y"])
        if progress:
            progress(min(done * processes.num, num), num)
    found = {label: {} for label in extractors}
    for label, part in processes.of_main([*features]):  # the first batch is its own; another may have had none
        own = features.pop((label, part), None)
        found[label][part] = processes.sum(torch.zeros(num, extractors[label].dim) if own is None else own)
    return found


def _scored(
    todo: list[tuple[Config, dict]],
    features: dict[str, dict[str, Tensor]],
    real: dict[tuple[str, Reference], Side],
    config: EvaluationConfig,
    seed: int,
) -> list[dict]:
    """The entries of one generator, from its features: extractor -> part -> num dim."""
    sides = {key: _sides(rows) for key, rows in features.items()}
    return [
        {**entry, "metric": name, "part": part, **value}
        for metric, entry in todo
        for part, side in sides[key_of(metric)].items()
        for name, value in score(metric, real[key_of(metric), against(config, metric)], side, seed).items()
    ]


def _sides(features: dict[str, Tensor]) -> dict[str, Side]:
    """part -> side; with branches also their mix, whose features are slices of theirs."""
    sides = {part: Side(rows) for part, rows in features.items()}
    branches = {part: rows for part, rows in features.items() if part != "y"}
    if branches:
        num = len(features["y"])
        sides[MIX] = Side(torch.cat([branches[part][share] for part, share in shares(num, branches).items()]))
    return sides
