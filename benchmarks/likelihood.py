"""A finished run's negative log-likelihood: `likelihood.py RUN [--images N] [--draws K] [--also METRIC ...]`.

A program that a study asks `after` a run, so that what is scored already stays. It prints {"scores": [...]}: the metric
`nll`, and others of the model, on images spread over the run's reference split; none where the model has no such score.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from finished import Finished

from genzoo.allocator import keep_freed_memory
from genzoo.config import parse, part
from genzoo.evaluation.evaluate import evaluate
from genzoo.registry import METRICS


def scores(folder: Path, images: int, draws: int, also: Sequence[str] = ()) -> list[dict]:
    run = Finished(folder)
    named = [{"name": "nll", "num_draws": draws}, *({"name": name} for name in also)]
    metrics = [parse(part(METRICS), one, one["name"]) for one in named]
    asked = run.config.model_copy(update={"metrics": metrics, "num_samples": 2, "num_reference": images})
    objective = run.parts.objective.eval()
    made = evaluate(run.model, {}, run.splits, asked, seed=run.seed, work=run.work, objective=objective)
    return [score for score in made["scores"] if score["value"] is not None]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=360)
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--also", nargs="*", default=[], metavar="METRIC", help="of the model: active_units, codebook")
    options = parser.parse_args()
    keep_freed_memory()
    print(json.dumps({"scores": scores(options.run, options.images, options.draws, options.also)}))
