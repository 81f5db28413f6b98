"""The contestants of benchmarks/fid.py: genzoo, clean-fid, pytorch-fid and torch-fidelity, as they are documented.

`fid(samples, reference, cached)`, after `prepare(reference)` where it is cached; `stages`: what each does alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

CPU = torch.device("cpu")


def files_of(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir())]


class Genzoo:
    """`genzoo fid A B`."""

    def __init__(self, weights: Path):
        from genzoo.evaluation.config import EvaluationConfig
        from genzoo.evaluation.extractor import make_extractor
        from genzoo.features import inception
        from genzoo.files import sha256

        inception.trusted.add(sha256(weights))  # a network of random weights that this program has made
        features = {"name": "inception", "weights": weights}
        self.metrics = EvaluationConfig(metrics=[{"name": "fid", "features": features}]).metrics
        self.net = make_extractor(self.metrics[0].features, CPU)

    def prepare(self, reference: Path) -> None:
        from genzoo.evaluation.extraction import statistics_of
        from genzoo.sides import side

        statistics_of(side(str(reference)), self.net)

    def fid(self, samples: Path, reference: Path, cached: bool) -> float:
        from genzoo.evaluation.compare import compare
        from genzoo.sides import side

        return compare(side(str(samples)), side(str(reference)), self.metrics, allow_few=True)[0]["value"]

    def stages(self, folder: Path, features: Tensor) -> dict[str, Callable]:
        from genzoo.features.images import resize
        from genzoo.frechet import Statistics, frechet_distance
        from genzoo.sides import side

        images = side(str(folder))
        return {
            "decode": lambda _: [batch for _, batch in images.batches(64)],
            "resize": lambda batches: [((resize(batch, 299) - 128) / 128) for batch in batches],
            "network": lambda batches: [
                self.net.net.layers(part.contiguous(memory_format=torch.channels_last))
                for batch in batches
                for part in batch.split(32)
            ],
            "statistics": lambda _: [Statistics.of(part) for part in features],
            "distance": lambda sides: frechet_distance(*sides),
        }


class CleanFID:
    """`cleanfid.fid.compute_fid(A, B)`, and against statistics made before, as `make_custom_stats` does it."""

    def __init__(self, weights: Path):
        from cleanfid.inception_torchscript import InceptionV3W

        self.net = InceptionV3W(str(weights.parent), download=False)
        self.workers = os.cpu_count()

    def features(self, folder: Path) -> np.ndarray:
        from cleanfid.fid import get_folder_features

        options = {"num_workers": self.workers, "batch_size": 32, "device": CPU, "verbose": False}
        return get_folder_features(str(folder), self.net, **options)

    def prepare(self, reference: Path) -> None:
        features = self.features(reference)
        np.savez(reference.with_suffix(".cleanfid.npz"), mu=features.mean(0), sigma=np.cov(features, rowvar=False))

    def fid(self, samples: Path, reference: Path, cached: bool) -> float:
        from cleanfid import fid

        if not cached:
            return fid.fid_from_feats(self.features(samples), self.features(reference))
        features, known = self.features(samples), np.load(reference.with_suffix(".cleanfid.npz"))
        return fid.frechet_distance(features.mean(0), np.cov(features, rowvar=False), known["mu"], known["sigma"])

    def stages(self, folder: Path, features: Tensor) -> dict[str, Callable]:
        from cleanfid import fid
        from cleanfid.resize import build_resizer

        resizer = build_resizer("clean")
        return {
            "decode": lambda _: [np.array(Image.open(file).convert("RGB")) for file in files_of(folder)],
            "resize": lambda images: [torch.from_numpy(resizer(image)).permute(2, 0, 1) for image in images],
            "network": lambda images: [self.net(torch.stack(images[k : k + 32])) for k in range(0, len(images), 32)],
            "statistics": lambda _: [
                x for part in features.numpy() for x in (part.mean(axis=0), np.cov(part, rowvar=False))
            ],
            "distance": lambda known: fid.frechet_distance(*known),
        }


class PytorchFID(nn.Module):
    """`pytorch_fid.fid_score`, on this network in place of its own."""

    def __init__(self, weights: Path):
        super().__init__()
        self.layers = torch.jit.load(weights).eval().layers

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.layers(2 * self.resize(x) - 1)[:, :, None, None]]

    def resize(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False)

    def statistics(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        from pytorch_fid.fid_score import compute_statistics_of_path

        return compute_statistics_of_path(str(path), self, 50, 2048, CPU, min(os.cpu_count(), 8))

    def prepare(self, reference: Path) -> None:
        mu, sigma = self.statistics(reference)
        np.savez_compressed(reference.with_suffix(".pytorchfid.npz"), mu=mu, sigma=sigma)

    def fid(self, samples: Path, reference: Path, cached: bool) -> float:
        from pytorch_fid.fid_score import calculate_frechet_distance

        known = reference.with_suffix(".pytorchfid.npz") if cached else reference
        return calculate_frechet_distance(*self.statistics(samples), *self.statistics(known))

    def stages(self, folder: Path, features: Tensor) -> dict[str, Callable]:
        from pytorch_fid.fid_score import ImagePathDataset, calculate_frechet_distance
        from torchvision.transforms import ToTensor

        images = ImagePathDataset(files_of(folder), transforms=ToTensor())
        return {
            "decode": lambda _: torch.stack([images[k] for k in range(len(images))]).split(50),
            "resize": lambda batches: [2 * self.resize(batch) - 1 for batch in batches],
            "network": lambda batches: [self.layers(batch) for batch in batches],
            "statistics": lambda _: [
                x for part in features.double().numpy() for x in (np.mean(part, axis=0), np.cov(part, rowvar=False))
            ],
            "distance": lambda known: calculate_frechet_distance(*known),
        }


class TorchFidelity:
    """`torch_fidelity.calculate_metrics(fid=True)`, on this network registered as an extractor."""

    def __init__(self, weights: Path):
        import torch_fidelity
        from torch_fidelity.feature_extractor_base import FeatureExtractorBase
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

        layers = self.layers = torch.jit.load(weights).eval().layers

        class Extractor(FeatureExtractorBase):
            get_provided_features_list = staticmethod(lambda: ("2048",))
            get_default_feature_layer_for_metric = staticmethod(lambda metric: "2048")
            can_be_compiled = staticmethod(lambda: False)

            def __init__(self, name: str, features_list: list[str], **options: Any):
                super().__init__(name, features_list)

            def forward(self, x: Tensor) -> tuple[Tensor]:
                return (layers(TorchFidelity.resized(x)),)

        TorchFidelity.resized = staticmethod(
            lambda x: (
                (interpolate_bilinear_2d_like_tensorflow1x(x.float(), (299, 299), align_corners=False) - 128) / 128
            )
        )
        torch_fidelity.register_feature_extractor("benchmark", Extractor)

    def _metrics(self, samples: Path, reference: Path, **options: Any) -> float:
        import torch_fidelity

        made = torch_fidelity.calculate_metrics(
            input1=str(samples), input2=str(reference), fid=True, feature_extractor="benchmark", cuda=False,
            verbose=False, **options,
        )  # fmt: skip
        return made["frechet_inception_distance"]

    def prepare(self, reference: Path) -> None:
        self._metrics(reference, reference, **self._cache(reference))

    def fid(self, samples: Path, reference: Path, cached: bool) -> float:
        return self._metrics(samples, reference, **(self._cache(reference) if cached else {"cache": False}))

    def _cache(self, reference: Path) -> dict[str, Any]:
        return {"cache_root": str(reference.parent / "torch_fidelity"), "input2_cache_name": "reference"}

    def stages(self, folder: Path, features: Tensor) -> dict[str, Callable]:
        from torch_fidelity.datasets import ImagesPathDataset
        from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

        images = ImagesPathDataset(files_of(folder))
        return {
            "decode": lambda _: torch.stack([images[k] for k in range(len(images))]).split(64),
            "resize": lambda batches: [TorchFidelity.resized(batch) for batch in batches],
            "network": lambda batches: [self.layers(batch) for batch in batches],
            "statistics": lambda _: [fid_features_to_statistics(part) for part in features],
            "distance": lambda known: fid_statistics_to_metric(*known, False),
        }


TOOLS = {"genzoo": Genzoo, "clean-fid": CleanFID, "pytorch-fid": PytorchFID, "torch-fidelity": TorchFidelity}
