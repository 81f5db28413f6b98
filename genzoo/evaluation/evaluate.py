"""The evaluator: latents -> images -> features -> scores. Every image is made once, whatever is measured on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.config import Config, build
from genzoo.errors import UserError
from genzoo.evaluation.config import EvaluationConfig
from genzoo.evaluation.images import MIX, Spread, batches, quantize, shares
from genzoo.evaluation.latent import latent_diagnostics
from genzoo.evaluation.metrics import Side, impossible, score, too_few
from genzoo.evaluation.posteriors import Progress, encode, evaluating, fit_split, pick, stage
from genzoo.evaluation.split import SplitDiagnostics
from genzoo.parts import Composition, Features, Sampler
from genzoo.registry import FEATURES


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
) -> dict:
    """Scores of reconstructions and of every (fitted) sampler, for the image, each branch and their mix.

    splits: name -> uint8 n h w c; `config.reference` must be one of them. seed: of the samples, unless the config has
    one; every generator starts from it anew. skipped: samplers that could not be fitted, with the reason. Returns the
    "protocol", "latent", "split" and "scores" of metrics.json; a score that cannot be made has value None and says why,
    or raises UserError when `config.strict` is set.
    """
    seed = seed if config.seed is None else config.seed
    images = Spread(pick(splits, config.reference), config.num_reference)
    common = {"num_reference": len(images), "reference": config.reference, "reference_sha256": _digest(images)}
    extractors, absent = _extractors(config, device)
    plan, scores = _plan(config, samplers, skipped or {}, extractors, absent, common)
    split = SplitDiagnostics()
    with evaluating(model):
        mean, variance = encode(model, images, device, config.batch_size, stage(progress, "encode"))
        needed = {label: extractors[label] for todo in plan.values() for _, label, _ in todo}
        real = ({"y": batch} for batch in batches(images, config.batch_size))
        real = _features(real, len(images), needed, device, stage(progress, "reference"))
        reference = {label: Side(parts["y"]) for label, parts in real.items()}
        for generator, todo in plan.items():
            if generator == "reconstruction":  # also where it is not scored: the split is judged by it
                made = _decode(model, mean[: config.num_samples], device, config.batch_size, split)
            elif todo:
                z = samplers[generator].sample(config.num_samples, torch.Generator().manual_seed(seed))
                made = _decode(model, z, device, config.batch_size)
            else:
                continue
            needed = {label: extractors[label] for _, label, _ in todo}
            num = _num_samples(generator, config, len(images))
            made = _features(made, num, needed, device, stage(progress, generator))
            sides = {label: _sides(parts) for label, parts in made.items()}
            for metric, label, entry in todo:
                for part, side in sides[label].items():
                    for name, value in score(metric, reference[label], side, seed).items():
                        scores.append({**entry, "metric": name, "part": part, **value})
    return {
        "protocol": {
            "seed": seed,
            "images": "rounded and clamped to uint8 before they are scored",
            "reconstruction": "reference images decoded from the mean of their posterior",
            "latents": "one set for each generator, shared by all its parts",
            "mix": "equal consecutive shares of the samples, one from each branch",
            "reference": {"split": config.reference, "num_images": len(images), "sha256": common["reference_sha256"]},
            "features": {label: features.protocol for label, features in extractors.items()},
            "torch": torch.__version__,
            "device": str(device),
        },
        "latent": latent_diagnostics(mean, variance),
        "split": split.summary(),
        "scores": scores,
    }


def _num_samples(generator: str, config: EvaluationConfig, num_reference: int) -> int:
    return min(config.num_samples, num_reference) if generator == "reconstruction" else config.num_samples


def _plan(
    config: EvaluationConfig,
    samplers: Mapping[str, Sampler],
    skipped: Mapping[str, str],
    extractors: dict[str, Features],
    absent: dict[str, str],
    common: dict,
) -> tuple[dict[str, list[tuple[Config, str, dict]]], list[dict]]:
    """What will be scored, known before an image is made: generator -> (metric, extractor's label, the entry so far).

    And the entries of the scores that cannot be made; UserError for the first of them when `config.strict` is set.
    """
    plan, refused = {}, []
    for generator in ["reconstruction", *samplers]:
        num = _num_samples(generator, config, common["num_reference"])
        about = {**common, "generator": generator, "num_samples": num}
        about |= _about(samplers.get(generator), config.reference)
        plan[generator] = []
        for metric in config.metrics:
            label = _label(metric.features)
            entry = {"metric": metric.name, "features": label, **about}
            reason = skipped.get(generator) or absent.get(label) or impossible(metric, num, common["num_reference"])
            if not reason:
                entry["weights_sha256"] = extractors[label].protocol.get("weights_sha256")
                few = too_few(metric, extractors[label].dim, num, common["num_reference"])
                if few and config.allow_few:
                    entry["few"] = few
                elif few:
                    reason = f"{few}; evaluation.allow_few=true scores it all the same"
            if not reason:
                plan[generator].append((metric, label, entry))
            elif config.strict:
                raise UserError(f"{metric.name} on {label} of {generator} cannot be scored: {reason}")
            else:
                refused.append({**entry, "part": "y", "value": None, "skipped": reason})
    return plan, refused


def missing(config: EvaluationConfig) -> list[tuple[str, str]]:
    """Fetch what the metrics need, before a run starts: (metric, reason) for each that cannot be had.

    UserError instead when `config.strict` is set.
    """
    found = []
    for metric in config.metrics:
        try:
            FEATURES.get(metric.features.name).fetch(metric.features)
        except UserError as error:
            if config.strict:
                raise UserError(f"{metric.name} cannot be scored: {error}") from error
            found.append((metric.name, str(error)))
    return found


@torch.inference_mode()
def _decode(
    model: nn.Module, z: Tensor, device: torch.device | str, batch_size: int, split: SplitDiagnostics | None = None
) -> Iterator[dict[str, Tensor]]:
    """The image (y) and each branch, uint8 b c h w, batch by batch."""
    for part in z.split(batch_size):
        composition: Composition = model.decode(part.to(device))
        if split:
            split.add(composition)
        yield {name: quantize(x) for name, x in {"y": composition.image, **composition.branches}.items()}


def _features(
    made: Iterator[dict[str, Tensor]],
    num: int,
    extractors: dict[str, Features],
    device: torch.device | str,
    progress: Callable[[int, int], None] | None,
) -> dict[str, dict[str, Tensor]]:
    """extractor -> part -> features num dim, float32 on the CPU. Images are kept no longer than a batch."""
    features = {label: {} for label in extractors}
    done = 0
    for parts in made:
        for label, extractor in extractors.items():
            for part, images in parts.items():
                if part not in features[label]:
                    features[label][part] = torch.empty(num, extractor.dim)
                features[label][part][done : done + len(images)] = extractor(images.to(device))
        done += len(parts["y"])
        if progress:
            progress(done, num)
    return features


def _sides(features: dict[str, Tensor]) -> dict[str, Side]:
    """part -> side; with branches also their mix, whose features are slices of theirs."""
    sides = {part: Side(rows) for part, rows in features.items()}
    branches = {part: rows for part, rows in features.items() if part != "y"}
    if branches:
        num = len(features["y"])
        sides[MIX] = Side(torch.cat([branches[part][share] for part, share in shares(num, branches).items()]))
    return sides


def _extractors(config: EvaluationConfig, device: torch.device | str) -> tuple[dict[str, Features], dict[str, str]]:
    """One extractor for each different `features`, by its label; and label -> reason for those that cannot be had."""
    extractors, failed = {}, {}
    for metric in config.metrics:
        label = _label(metric.features)
        if label in extractors or label in failed:
            continue
        try:
            extractors[label] = build(FEATURES, metric.features).to(device).eval()
        except UserError as error:
            failed[label] = str(error)
    return extractors, failed


def _label(features: Config) -> str:
    """The extractor's name, with the options that are not its defaults."""
    options = features.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    return features.name + (f"({', '.join(f'{key}={value}' for key, value in options.items())})" if options else "")


def _about(sampler: Sampler | None, reference: str) -> dict:
    """What a score must say of the sampler behind it."""
    if sampler is None:
        return {"fit_split": None}
    split = fit_split(sampler)
    about = {"fit_split": split, **({"sampler": sampler.protocol} if getattr(sampler, "protocol", None) else {})}
    if split == reference:
        about["note"] = "the sampler was fitted on the very images it is scored against, which flatters it"
    return about


def _digest(images: np.ndarray | Spread) -> str:
    """sha256 of the images' shape and pixels, in their order."""
    digest = hashlib.sha256(repr(images.shape).encode())
    for start in range(0, len(images), 1000):
        digest.update(np.ascontiguousarray(images[start : start + 1000]))
    return digest.hexdigest()
