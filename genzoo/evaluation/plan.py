"""What an evaluation will score, known before an image is made."""

from collections.abc import Mapping

import torch

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.evaluation.config import EvaluationConfig, key_of, label_of
from genzoo.evaluation.extractor import make_extractor
from genzoo.evaluation.images import Images
from genzoo.evaluation.metrics import impossible, too_few
from genzoo.evaluation.posteriors import about
from genzoo.evaluation.record import stated
from genzoo.parts import Features, Sampler
from genzoo.registry import FEATURES

Reference = tuple[str, int | None]  # a split, and how many of its images at most


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


def plan_scores(
    config: EvaluationConfig,
    samplers: Mapping[str, Sampler],
    skipped: Mapping[str, str],
    extractors: dict[str, Features],
    absent: dict[str, str],
    references: dict[Reference, Images],
    seed: int,
) -> tuple[dict[str, list[tuple[Config, dict]]], list[dict]]:
    """What will be scored, known before an image is made: generator -> (metric, the entry so far).

    And the entries of the scores that cannot be made; UserError for the first of them when `config.strict` is set.
    """
    plan, refused = {}, []
    for generator in ["reconstruction", *samplers]:
        num = num_samples_of(generator, config, references[config.reference, config.num_reference].num)
        plan[generator] = []
        for metric in config.metrics:
            key, label, reference = key_of(metric), label_of(metric.features), references[against(config, metric)]
            entry = {
                "metric": metric.name,
                "features": label,
                "num_reference": reference.num,
                "reference": reference.name,
                "reference_sha256": reference.digest,
                "generator": generator,
                "num_samples": num,
                **_about(samplers.get(generator), config.reference),
            }
            reason = skipped.get(generator) or absent.get(key) or impossible(metric, num, reference.num)
            if not reason:
                entry |= stated(extractors[key], seed)
                few = too_few(metric, extractors[key].dim, num, reference.num)
                if few and config.allow_few:
                    entry["few"] = few
                elif few:
                    reason = f"{few}; evaluation.allow_few=true scores it all the same"
            if not reason:
                plan[generator].append((metric, entry))
            elif config.strict:
                raise UserError(f"{metric.name} on {label} of {generator} cannot be scored: {reason}")
            else:
                refused.append({**entry, "part": "y", "value": None, "skipped": reason})
    return plan, refused


def num_samples_of(generator: str, config: EvaluationConfig, num_reference: int) -> int:
    return min(config.num_samples, num_reference) if generator == "reconstruction" else config.num_samples


def against(config: EvaluationConfig, metric: Config) -> Reference:
    """The split that samples are compared with, and how many of its images at most."""
    if metric.name == "memorization":
        return metric.split, metric.num_train
    return config.reference, config.num_reference


def make_extractors(config: EvaluationConfig, device: torch.device | str) -> tuple[dict[str, Features], dict[str, str]]:
    """One extractor for each different `features`; and the reason for each of those that cannot be had."""
    extractors, failed = {}, {}
    for metric in config.metrics:
        key = key_of(metric)
        if key in extractors or key in failed:
            continue
        try:
            extractors[key] = make_extractor(metric.features, device)
        except UserError as error:
            failed[key] = str(error)
    return extractors, failed


def _about(sampler: Sampler | None, reference: str) -> dict:
    said = about(sampler)
    if said["fit_split"] == reference:
        said["note"] = "the sampler was fitted on the very images it is scored against, which flatters it"
    return said
