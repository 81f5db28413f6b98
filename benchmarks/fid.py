"""FID by genzoo, clean-fid, pytorch-fid and torch-fidelity on the same files and network, side by side in one run.

    pip install pytorch-fid torch-fidelity          # clean-fid comes with genzoo
    python benchmarks/fid.py                        # some twenty minutes on two idle cores
    python benchmarks/fid.py --num 48 --rounds 1    # a short form
    python benchmarks/fid.py --weights inception-2015-12-05.pt --num 2000

Every tool runs in a process of its own, as its documentation has it used, and the tools take turns: `rounds` times
cold, and with the reference's statistics at hand. The time begins after imports and the loading of the network. In the
first round each stage is timed alone, too, by each tool's own functions. Without --weights the network is InceptionV3
with random weights in a TorchScript file of the published interface: the work is the same, the value is no FID.
clean-fid and genzoo resize alike and must agree; the other two resize by their own rules. Ratios are of medians. The
results go to results/fid.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

FILE = "inception-2015-12-05.pt"
TOOLS = ("genzoo", "clean-fid", "pytorch-fid", "torch-fidelity")
STAGES = ("decode", "resize", "network", "statistics", "distance")
CPU = torch.device("cpu")


class Published(nn.Module):
    """The published file's interface: `layers` on resized, normalised images."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        return self.layers((F.interpolate(x, size=[299, 299], mode="bilinear") - 128) / 128)


def random_network(path: Path) -> None:
    """InceptionV3 as pytorch-fid builds it, with random weights that keep the signal alive, as TorchScript."""
    from pytorch_fid import inception

    net = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    for block, make in (("5b", (192, 32)), ("5c", (256, 64)), ("5d", (288, 64))):
        setattr(net, f"Mixed_{block}", inception.FIDInceptionA(make[0], pool_features=make[1]))
    for block, dim in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        setattr(net, f"Mixed_{block}", inception.FIDInceptionC(768, channels_7x7=dim))
    net.Mixed_7b, net.Mixed_7c = inception.FIDInceptionE_1(1280), inception.FIDInceptionE_2(2048)
    net.fc, net.dropout, net.transform_input = nn.Identity(), nn.Identity(), False
    torch.manual_seed(0)
    for weight in (p for p in net.parameters() if p.ndim == 4):
        nn.init.kaiming_normal_(weight)
    net.eval().requires_grad_(False)
    torch.jit.script(Published(torch.jit.trace(net, torch.zeros(1, 3, 299, 299)))).save(path)


def draw_images(folder: Path, seed: int, num: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for k in range(num):
        coarse = Image.fromarray(rng.integers(0, 256, (6 + seed, 6, 3), dtype=np.uint8))
        noise = rng.normal(0, 6, (size, size, 3))
        pixels = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) + noise
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{k:06d}.png")


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


CLASSES = dict(zip(TOOLS, (Genzoo, CleanFID, PytorchFID, TorchFidelity), strict=True))


@torch.inference_mode()
def job(tool: str, what: str, folder: Path) -> dict:
    """One measurement, in this process. what: cold | prepare | cached | stages."""
    if tool == "genzoo":
        from genzoo.allocator import keep_freed_memory

        keep_freed_memory()  # as its command line does first
    made = CLASSES[tool](folder / FILE)
    samples, reference = folder / "samples", folder / "reference"
    start = time.perf_counter()
    if what == "prepare":
        made.prepare(reference)
        return {}
    if what == "stages":
        features = torch.randn(2, 4096, 2048, generator=torch.Generator().manual_seed(0)).relu()
        seconds, value = {}, None
        for name, work in made.stages(samples, features).items():
            start = time.perf_counter()
            value = work(value)
            seconds[name] = time.perf_counter() - start
        return {"stages": seconds}
    value = made.fid(samples, reference, what == "cached")
    seconds = time.perf_counter() - start
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"value": float(value), "seconds": seconds, "peak_mb": sum(peaks) / 1024}


def measure(tool: str, what: str, folder: Path) -> dict:
    """`job` in a fresh process."""
    env = {**os.environ, "GENZOO_CACHE": str(folder / "cache" / what)}
    if what in ("prepare", "cached"):
        env["GENZOO_CACHE"] = str(folder / "cache" / "kept")
        for path in (folder / "cache" / "kept").rglob("*.npz"):
            if what == "cached" and path.name not in json.loads((folder / "kept.json").read_text()):
                path.unlink()  # the samples' own, of the round before
    else:
        for path in (folder / "cache").rglob("*.npz"):
            if path.parts[-3] == what:
                path.unlink()
    command = [sys.executable, __file__, "--job", tool, what, str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tool} {what}: {done.stderr[-3000:]}")
    if what == "prepare" and tool == "genzoo":
        kept = [path.name for path in (folder / "cache" / "kept").rglob("*.npz")]
        (folder / "kept.json").write_text(json.dumps(kept))
    return json.loads(done.stdout.rpartition("RESULT")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--num", type=int, default=256, help="images of each side")
    parser.add_argument("--size", type=int, default=64, help="their height and width in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", type=Path, help=f"the true {FILE}")
    parser.add_argument("--tools", default=",".join(TOOLS), help="comma-separated")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fid.json")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        with contextlib.redirect_stdout(io.StringIO()):
            made = job(options.job[0], options.job[1], Path(options.job[2]))
        print("RESULT", json.dumps(made))
        return
    tools = options.tools.split(",")
    runs: dict[str, dict[str, list[dict]]] = {tool: {"cold": [], "cached": [], "stages": []} for tool in tools}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.weights:
            (folder / FILE).write_bytes(options.weights.read_bytes())
        else:
            random_network(folder / FILE)
        for seed, side in enumerate(("samples", "reference")):
            draw_images(folder / side, seed, options.num, options.size)
        for tool in tools:
            measure(tool, "prepare", folder)
        for number in range(options.rounds):
            for what in ("cold", "cached", *(["stages"] if number == 0 else [])):
                for tool in tools:
                    runs[tool][what].append(measure(tool, what, folder))
                    print(f"round {number + 1}: {tool} {what}", file=sys.stderr)
    results = summarise(runs, options)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    report(results)


def summarise(runs: dict, options: argparse.Namespace) -> dict:
    """Medians over the rounds."""
    from importlib.metadata import version

    rows = {}
    for tool, measured in runs.items():
        rows[tool] = {
            what: {key: median(run[key] for run in measured[what]) for key in ("seconds", "peak_mb", "value")}
            for what in ("cold", "cached")
        }
        rows[tool]["stages"] = {name: median(run["stages"][name] for run in measured["stages"]) for name in STAGES}
    return {
        "num": options.num,
        "size": options.size,
        "rounds": options.rounds,
        "weights": "published" if options.weights else "random",
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "system": platform.system()},
        "versions": {name: version(name) for name in ("torch", "numpy", "scipy", *TOOLS)},
        "tools": rows,
    }


def report(results: dict) -> None:
    rows = results["tools"]
    base = rows.get("clean-fid")
    print(
        f"{results['num']} images of {results['size']}x{results['size']} a side, medians of {results['rounds']} rounds"
    )
    for what in ("cold", "cached"):
        print(f"\n{what:16}{'seconds':>9}{'peak MB':>9}{'value':>12}{'x clean-fid':>13}")
        for tool, row in rows.items():
            ratio = f"{base[what]['seconds'] / row[what]['seconds']:.2f}" if base else ""
            cells = f"{row[what]['seconds']:9.2f}{row[what]['peak_mb']:9.0f}{row[what]['value']:12.4f}"
            print(f"{tool:16}{cells}{ratio:>13}")
    print(f"\n{'seconds':16}" + "".join(f"{name:>12}" for name in STAGES))
    for tool, row in rows.items():
        print(f"{tool:16}" + "".join(f"{row['stages'][name]:12.3f}" for name in STAGES))


if __name__ == "__main__":
    main()
