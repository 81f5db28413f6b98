"""A finished run, as the programs see it that a study asks after it: its parts, its samples, its own protocol."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genzoo.evaluation.extraction import Side, side_of
from genzoo.evaluation.generate import draw
from genzoo.evaluation.images import from_array, quantize, spread
from genzoo.evaluation.scorer import measures
from genzoo.evaluation.work import Work
from genzoo.loading import loaded
from genzoo.parts import Features
from genzoo.preparation import build_parts, prepare_splits
from genzoo.run_folder import RunFolder

BATCH = 100


class Finished:
    """model: in eval mode, on the CPU. todo: the metrics on features that the run was scored with."""

    def __init__(self, folder: Path):
        run = RunFolder(folder)
        self.recipe, self.found = run.recipe(), run.metrics()["scores"]
        self.parts, self.config = build_parts(self.recipe), self.recipe.evaluation
        self.splits = {name: split.images for name, split in prepare_splits(self.parts, self.recipe).items()}
        self.model, _ = loaded(run, self.recipe, "cpu", self.parts.objective)
        self.seed, self.work = self.recipe.evaluation_seed, Work(batch_size=BATCH)
        on_features = [metric for metric in self.config.metrics if hasattr(metric, "features")]
        self.todo = [measure for measure in measures(on_features, "cpu") if not measure.absent]

    def training_images(self, num: int) -> Tensor:
        """b c h w in [0, 1], spread over the training split."""
        train = self.splits["train"]
        rows = np.ascontiguousarray(train[spread(len(train), num)])
        return torch.from_numpy(rows).permute(0, 3, 1, 2).float() / 255

    @torch.no_grad()
    def reconstructions(self, images: Tensor) -> dict[str, Tensor]:
        """y and each branch, decoded from the means of the images' posteriors."""
        batches = [self._decoded(self.model.encode(x).mean) for x in images.split(BATCH)]
        return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}

    @torch.no_grad()
    def prior_samples(self) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Batches of the prior samples that the run was scored with: their rows, y and each branch."""
        z = draw(self.model, self.parts.samplers["prior"], self.config.num_samples, self.seed)
        for start in range(0, len(z), BATCH):
            yield slice(start, start + BATCH), self._decoded(z[start : start + BATCH])

    def _decoded(self, z: Tensor) -> dict[str, Tensor]:
        composition = self.model.decode(z)
        return {"y": composition.image, **composition.branches}

    def scores(self, sides: dict[str, dict[str, Side]], control: dict[str, dict]) -> list[dict]:
        """Entries as in metrics.json, of sides (extractor -> part -> features), by the protocol of the prior's y."""
        config, made = self.config, []
        reference = from_array(config.reference, self.splits[config.reference], config.num_reference)
        real = {one.key: side_of(reference, one.extractor, True, self.work) for one in self.todo}
        for measure in self.todo:
            for name, side in sides[measure.key].items():
                for score in measure.scores(real[measure.key], side, self.seed, {}):
                    own = {"generator": "prior", "part": "y", "features": measure.features, "metric": score["metric"]}
                    like = next(entry for entry in self.found if own.items() <= entry.items())
                    made.append({**like, **score, "part": name, "control": control.get(name, {})})
        return made


def features(extractor: Features, images: Tensor) -> Tensor:
    """Of images b c h w in [0, 1]: b dim."""
    return torch.cat([extractor(quantize(x)).cpu() for x in images.split(BATCH)])
