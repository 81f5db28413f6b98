"""`genzoo fid A B`: the scores of one set of images against another."""

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.evaluation.extraction import Side, side_of
from genzoo.evaluation.images import Images
from genzoo.evaluation.scorer import Measure, measures
from genzoo.evaluation.statistics import Known
from genzoo.evaluation.work import ON_CPU, Work

UNKNOWN = 2**31  # images behind statistics that do not say how many


def compare(
    samples: Images | Known,
    reference: Images | Known,
    metrics: list[Config],
    *,
    allow_few: bool = False,
    seed: int = 0,
    work: Work = ON_CPU,
) -> list[dict]:
    """Entries as in metrics.json's "scores".

    Features are kept only for metrics that need them; Frechet distances stream, and the statistics of both sides are
    kept in the user's cache by content and protocol. UserError for what would make a number meaningless: the same
    images on both sides, too few of them (unless allow_few), statistics where a metric needs images.
    """
    if samples.digest == reference.digest:
        raise UserError(f"{samples.name} and {reference.name} hold the same images: every distance is 0")
    todo = measures(metrics, work.device)
    sides = {"real": reference, "fake": samples}
    nums = (reference.num or UNKNOWN, samples.num or UNKNOWN)
    for measure in todo:
        if measure.absent:
            raise UserError(measure.absent)
        for name, side in sides.items():
            if isinstance(side, Known):
                _refuse_unsuited(side, measure, name)
        if (few := measure.few(*nums)) and not allow_few:
            raise UserError(f"{few}; give more images, or --allow-few for the number all the same")
        if reason := measure.impossible(*nums):
            raise UserError(reason)

    origin = dict(samples.about) if isinstance(samples, Images) else {}
    unknown = [side.name for side in (samples, reference) if isinstance(side, Known) and side.protocol is None]
    notes = [*filter(None, [origin.pop("note", "")]), *(f"{name} does not say how it was made" for name in unknown)]
    made: dict[tuple[str, str], Side] = {}
    entries = []
    for measure in todo:
        for name, side in sides.items():
            if (measure.key, name) not in made:
                whole = any(other.needs_features(name) for other in todo if other.key == measure.key)
                made[measure.key, name] = side_of(side, measure.extractor, whole, work)
        few = measure.few(*nums)
        entry = {
            "features": measure.features,
            "generator": samples.name,
            "part": "y",
            "num_samples": samples.num,
            "num_reference": reference.num,
            "reference": reference.name,
            "samples_sha256": samples.digest,
            "reference_sha256": reference.digest,
            "fit_split": None,
            **origin,
            **measure.protocol(seed),
            **({"few": few} if few else {}),
            **({"note": "; ".join(notes)} if notes else {}),
        }
        entries += measure.scores(made[measure.key, "real"], made[measure.key, "fake"], seed, entry)
    return entries


def _refuse_unsuited(side: Known, measure: Measure, name: str) -> None:
    """UserError unless these statistics can be that side of the metric."""
    features = measure.extractor
    if measure.needs_features(name):
        raise UserError(f"{measure.config.name} needs images, and {side.name} holds statistics only")
    if side.statistics.dim != features.dim:
        raise UserError(
            f"{side.name} has {side.statistics.dim} dimensions, these features have {features.dim}: "
            "its statistics are of another network"
        )
    if side.protocol is not None and side.protocol != features.protocol:
        both = features.protocol | side.protocol
        changed = [key for key in both if side.protocol.get(key) != features.protocol.get(key)]
        raise UserError(f"{side.name} was made with other features ({', '.join(changed)} differ)")
