"""The evaluator: latents -> images -> features -> scores. Every image is made once, whatever is measured on it."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.errors import UserError
from genzoo.evaluation.branches import BranchDiagnostics
from genzoo.evaluation.config import EvaluationConfig
from genzoo.evaluation.extraction import Rows, Side, Stream, extract, side_of
from genzoo.evaluation.generate import decode, draw, encode, evaluating, pick, protocol_of
from genzoo.evaluation.images import MIX, Images, Spread, from_array, quantize, shares, spread
from genzoo.evaluation.latent import latent_diagnostics
from genzoo.evaluation.protocol import versions
from genzoo.evaluation.scorer import Measure, measures, model_metrics
from genzoo.evaluation.work import Work
from genzoo.parts import Sampler

Reference = tuple[str, int | None]  # a split, and how many of its images at most
Plan = dict[str, list[tuple[Measure, dict]]]  # generator -> metrics, and their entries so far


def evaluate(
    model: nn.Module,
    samplers: Mapping[str, Sampler],
    splits: Mapping[str, np.ndarray],
    config: EvaluationConfig,
    *,
    seed: int,
    work: Work,
    skipped: Mapping[str, str] | None = None,
    objective: nn.Module | None = None,
) -> dict | None:
    """Scores of reconstructions and of every (fitted) sampler, for the image, each branch and their mix.

    And of the model itself, by the metrics that need it, with the objective that it was trained with.

    splits: name -> uint8 n h w c; `config.reference` must be one of them. seed: of the samples, unless the config has
    one; every generator starts from it anew. skipped: samplers that could not be fitted, with the reason. The number of
    processes changes no value. Returns, on the main one of them, the "protocol", "latent", "split" and "scores" of
    metrics.json; a score that cannot be made has value None and says why, or raises UserError when `config.strict` is
    set.
    """
    seed = seed if config.seed is None else config.seed
    todo = measures(config.metrics, work.device)
    places = dict.fromkeys([(config.reference, config.num_reference), *(_against(config, measure) for measure in todo)])
    references = {place: from_array(place[0], pick(splits, place[0]), place[1]) for place in places}
    common = references[config.reference, config.num_reference]
    nums = dict.fromkeys(samplers, config.num_samples)
    nums = {"reconstruction": min(config.num_samples, common.num), **nums}
    plan, scores = _plan(config, todo, samplers, skipped or {}, nums, references, seed)
    real = _reference_sides(config, plan, references, work)
    branches = BranchDiagnostics()
    with evaluating(model):
        encoded = Spread(splits[config.reference], config.num_reference)
        mean, variance = encode(model, encoded, work)
        of_model = []
        if asked := model_metrics(config.metrics):
            from genzoo.evaluation.of_model import Trained, score_model

            trained = Trained(model, objective, encoded, mean, variance, work)
            of_model = score_model(asked, trained, common, seed, config.strict)
        for generator, wanted in plan.items():
            if generator == "reconstruction":  # also where it is not scored: the split is judged by it
                z = mean[spread(len(mean), config.num_samples)]
            elif wanted:
                z = draw(model, samplers[generator], config.num_samples, seed)
            else:
                continue
            images = _images(model, z, work, branches if generator == "reconstruction" else None)
            extractors = {measure.key: (measure.extractor, measure.extractor.dim) for measure, _ in wanted}
            sides = extract(images, nums[generator], extractors, Rows, work, generator)
            sides = {key: _with_mix(parts, nums[generator]) for key, parts in sides.items()}
            with work.processes.first(f"scored {generator}"):
                if work.processes.rank == 0:
                    scores += [
                        score
                        for measure, entry in wanted
                        for part, side in sides[measure.key].items()
                        for score in measure.scores(
                            real[measure.key, _against(config, measure)], side, seed, {**entry, "part": part}
                        )
                    ]
    if work.processes.rank > 0:
        return None
    latent = latent_diagnostics(mean, variance, model.has_standard_normal_prior)
    if hasattr(model.latent, "num_codes"):
        from genzoo.evaluation.codebook import codebook_usage

        latent |= codebook_usage(model.latent, mean)
    return {
        "protocol": {
            "seed": seed,
            "images": "rounded and clamped to uint8 before they are scored",
            "reconstruction": "reference images, spread evenly, decoded from the mean of their posterior",
            "latents": "one set for each generator, shared by all its parts",
            "mix": "equal consecutive shares of the samples, one from each branch",
            "reference": {"split": config.reference, "num_images": common.num, "sha256": common.digest},
            "features": {measure.features: measure.extractor.protocol for measure in todo if measure.extractor},
            "versions": versions(),
            "device": str(work.device),
        },
        "latent": latent,
        "split": branches.summary(),
        "scores": scores + of_model,
    }


def _against(config: EvaluationConfig, measure: Measure) -> Reference:
    return getattr(measure.metric, "against", (config.reference, config.num_reference))


def _plan(
    config: EvaluationConfig,
    todo: list[Measure],
    samplers: Mapping[str, Sampler],
    skipped: Mapping[str, str],
    nums: dict[str, int],
    references: dict[Reference, Images],
    seed: int,
) -> tuple[Plan, list[dict]]:
    """What will be scored, known before an image is made, and the entries of the scores that cannot be made.

    nums: images of each generator. UserError for the first score that cannot be made when `config.strict` is set.
    """
    plan: Plan = {}
    refused = []
    for generator, num in nums.items():
        plan[generator] = []
        for measure in todo:
            reference = references[_against(config, measure)]
            entry = {
                "metric": measure.config.name,
                "features": measure.features,
                "num_reference": reference.num,
                "reference": reference.name,
                "reference_sha256": reference.digest,
                "generator": generator,
                "num_samples": num,
                **protocol_of(samplers.get(generator)),
            }
            if entry["fit_split"] == config.reference:
                entry["note"] = "the sampler was fitted on the very images it is scored against, which flatters it"
            reason = skipped.get(generator) or measure.absent or measure.impossible(reference.num, num)
            if not reason:
                entry |= measure.protocol(seed)
                few = measure.few(reference.num, num)
                if few and config.allow_few:
                    entry["few"] = few
                elif few:
                    reason = f"{few}; evaluation.allow_few=true scores it all the same"
            if not reason:
                plan[generator].append((measure, entry))
            elif config.strict:
                raise UserError(
                    f"{measure.config.name} on {measure.features} of {generator} cannot be scored: {reason}"
                )
            else:
                refused.append({**entry, "part": "y", "value": None, "skipped": reason})
    return plan, refused


def _reference_sides(
    config: EvaluationConfig, plan: Plan, references: dict[Reference, Images], work: Work
) -> dict[tuple[str, Reference], Side]:
    """(extractor, reference) -> side: all the features where a metric needs them, else statistics, from the cache."""
    needed: dict[tuple[str, Reference], list[Measure]] = {}
    for measure, _ in (pair for wanted in plan.values() for pair in wanted):
        needed.setdefault((measure.key, _against(config, measure)), []).append(measure)
    return {
        place: side_of(references[place[1]], some[0].extractor, any(one.needs_features("real") for one in some), work)
        for place, some in needed.items()
    }


def _images(model: nn.Module, z: Tensor, work: Work, branches: BranchDiagnostics | None) -> Stream:
    """This process's batches of z: the image (y) and each branch, uint8 b c h w. branches: judged by all the images."""
    for rows, composition in decode(model, z, work, every=branches is not None):
        if branches:
            branches.add(composition)
        if work.processes.owns(rows.start // work.batch_size):
            parts = {"y": composition.image, **composition.branches}
            yield rows, {name: quantize(x) for name, x in parts.items()}


def _with_mix(sides: dict[str, Side], num: int) -> dict[str, Side]:
    """part -> side; with branches also their mix, whose features are slices of theirs."""
    branches = {part: side.features for part, side in sides.items() if part != "y"}
    if not branches:
        return sides
    return {**sides, MIX: Side(torch.cat([branches[part][share] for part, share in shares(num, branches).items()]))}
