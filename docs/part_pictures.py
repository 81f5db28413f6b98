"""Draw docs/pictures/parts/KIND-NAME.{svg,png}: `python docs/part_pictures.py RUNS [--only KIND/NAME ...]`.

Networks are drawn from a pass of zeros through them, samplers from a toy that they learn, metrics on images from digits
that are blurred or copied. What a model makes comes from runs: those of the families on MNIST by benchmarks/zoo.yaml in
RUNS, and short ones on digits that are made here, in RUNS/pictures, where they are not there yet.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from catalogue import PICTURES, WITHOUT
from PIL import Image, ImageFilter
from small_pictures import bars, boxes, clouds, curves, scattered, sheet, tables
from torch import Tensor, nn

import genzoo
from genzoo.config import build, parse, part
from genzoo.registry import DATASETS, DECODERS, ENCODERS, KINDS, METRICS, SAMPLERS

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from finished import Finished
from likelihood import scores

# part -> the arm of benchmarks/zoo.yaml that has it, or the recipe and edits of a short run
STEPS = ["train.steps=300", "train.checkpoint_every=300", "train.schedule.warmup_steps=50", "report=false",
         "samplers=[{name: gmm, num_components: 10}]", "evaluation.metrics=[]"]  # fmt: skip
OF_RUNS: dict[str, str | list[str]] = {
    "latents/deterministic": "rae", "latents/fsq": "fsq", "latents/gaussian": "vae", "latents/ladder": "ladder",
    "latents/lfq": "lfq", "latents/rvq": "rvq", "latents/spatial_gaussian": "kl", "latents/vmf": "vmf",
    "latents/vq": "vq", "priors/mog": "mog", "priors/vamp": "vamp", "heads/single": "vae", "heads/split": "svae",
    "objectives/ae": "rae", "objectives/elbo": "vae", "objectives/iwae": "iwae",
    "objectives/mmd": "wae", "objectives/tc": "tc", "terms/dip": "dip", "terms/adversarial": "vaegan",
    "heads/gaussian": ["vae_digits", "objective=elbo", "objective.reconstruction=likelihood",
                       "model.head={name: gaussian, head: {name: single, decoder: {name: resnet, base_dim: 16}}}"],
    "heads/logistic": ["logistic_digits"],
    "heads/mixture": ["svae_digits", "model.head={name: mixture, num_components: 3, "
                      "decoder: {name: resnet, base_dim: 16}}"],
    "terms/gradient_penalty": ["rae_digits", "terms=[{name: gradient_penalty, weight: 1.0}]"],
    "terms/high_frequency": ["svae_digits", "terms=[{name: high_frequency, weight: 0.1}]"],
    "terms/total_variation": ["svae_digits", "terms=[{name: total_variation, weight: 0.1}]"],
    "terms/perceptual": ["vae_digits", "terms=[{name: perceptual, weight: 1000}]"],
}  # fmt: skip
SAMPLERS_OF = ("gmm", "prior")  # whose samples are shown: the first that the run has
Picture = str | Image.Image


def of_run(runs: Path, name: str) -> tuple[Picture, str]:
    """Test images, what the model makes of them, and samples: rows of ten."""
    made = OF_RUNS[name]
    if isinstance(made, str):
        folder, about = runs / "mnist" / f"{made}_seed=0", f"the recipe {made}_mnist_cpu after one epoch"
    else:
        folder = runs / "pictures" / name.replace("/", "-")
        about = f"{made[0]}{' with ' if made[1:] else ''}{' and '.join(made[1:])}, 300 steps unless told otherwise"
        if not (folder / "metrics.json").is_file():
            command = [sys.executable, "-m", "genzoo", "run", made[0], *STEPS, *made[1:], "--out", str(folder)]
            subprocess.run(command, check=True, cwd=runs)
    run = Finished(folder)
    x = floats(run.splits["test"][:10])
    composition = run.model.reconstruct(x)
    rows = {"test images": x, **composition.parts, "reconstructions": composition.image}
    sampler = next(one for one in SAMPLERS_OF if (folder / "panels" / f"{one}.png").is_file())
    rows[f"samples of {sampler}"] = samples(folder, sampler, 10)
    return sheet(list(rows.values())), f"Rows: {', '.join(rows)}; {about}."


def floats(rows: np.ndarray) -> Tensor:
    """uint8 b h w c -> b c h w in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(rows)).permute(0, 3, 1, 2).float() / 255


def samples(folder: Path, sampler: str, num: int) -> Tensor:
    with tempfile.TemporaryDirectory() as out:
        words = [str(folder), "--num", str(num), "--out", f"{out}/samples", "--sampler", sampler]
        subprocess.run([sys.executable, "-m", "genzoo", "sample", *words], check=True, stdout=subprocess.DEVNULL)
        images = [np.atleast_3d(np.asarray(Image.open(file))) for file in sorted(Path(out, "samples").glob("*.png"))]
    return floats(np.stack(images))


def of_data(runs: Path, name: str) -> tuple[Picture, str]:
    if name == "mnist":
        x = floats(Finished(runs / "mnist" / "vae_seed=0").splits["test"][:20])
        return sheet([x[:10], x[10:]]), "The first twenty test images, at 32x32."
    dataset = build(DATASETS, parse(part(DATASETS), {"name": name}, name))
    batches = dataset.read("train")
    rows = next(batches)
    while len(rows) < 20:
        rows = np.concatenate([rows, next(batches)])
    x = floats(rows[:20])
    return sheet([x[:10], x[10:]]), "The first twenty training images."


def of_network(kind: str, name: str) -> tuple[Picture, str]:
    """Boxes as high as the maps and as wide as their channels, from a pass of zeros on the meta device."""
    with torch.device("meta"):
        if kind == "features":
            net, x = skeleton(name)
        else:
            registry, shapes = (ENCODERS, {"in_shape": (3, 32, 32)}) if kind == "encoders" else (
                DECODERS, {"in_shape": (128,), "out_shape": (3, 32, 32)})  # fmt: skip
            options = {"pretrained": False} if name == "timm" else {}
            config = parse(part(registry), {"name": name, **options}, name)
            net, x = build(registry, config, **shapes), torch.zeros(2, *shapes["in_shape"])
    kept: dict[object, tuple[int, ...]] = {}  # the last of each size

    def done(module: nn.Module, inputs: object, output: object) -> None:
        shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
        tokens = any(len(size) == 2 for size in kept.values())  # where each looks at each, heads n n is no map
        if len(shape) in (1, 2) or (len(shape) == 3 and shape[1] == shape[2] and not tokens):
            kept[shape if len(shape) == 1 else (len(shape), shape[0 if len(shape) == 2 else -1])] = shape

    hooks = [module.register_forward_hook(done) for module in net.modules()]
    net.eval()(x)
    for hook in hooks:
        hook.remove()
    stages = [tuple(x.shape[1:]), *(shape for shape in kept.values() if shape != tuple(x.shape[1:]))]
    num = sum(parameter.numel() for parameter in net.parameters())
    words = " → ".join("×".join(map(str, stage)) for stage in stages)
    return boxes(stages), f"Shapes of its stages, channels first: {words}. {num:,} parameters with default options."


def skeleton(name: str) -> tuple[nn.Module, Tensor]:
    """A feature network without its weights."""
    if name == "inception":
        from torchvision.models import inception_v3

        net = inception_v3(weights=None, aux_logits=False, init_weights=False)
        net.fc = nn.Identity()
        return net, torch.zeros(2, 3, 299, 299)
    import timm

    from genzoo.features.clip import MODEL

    config = parse(part(KINDS["features"]), {"name": name}, name)
    named = {"clip": MODEL, "efficientnet_lite0": "tf_efficientnet_lite0"}
    net = timm.create_model(named.get(name) or config.model, num_classes=0)
    size = net.pretrained_cfg["input_size"][-1]
    return net, torch.zeros(2, 3, size, size)


def of_sampler(name: str) -> tuple[Picture, str]:
    if name in ("autoregressive", "maskgit"):
        return of_code_sampler(name)
    from genzoo.stage_two import fit

    rng = np.random.default_rng(0)
    angle = 2 * np.pi * rng.integers(5, size=3000) / 5
    mean = np.stack([1.3 * np.cos(angle), 1.3 * np.sin(angle)], 1) + rng.normal(0, 0.18, (3000, 2))
    rows = torch.from_numpy(np.stack([mean, np.full_like(mean, 1e-4)], 1)).float().numpy()
    options = {"num_components": 5} if name == "gmm" else {}
    config = parse(part(SAMPLERS), {"name": name, **options}, name)
    torch.manual_seed(0)
    sampler = build(SAMPLERS, config, latent_shape=(2,))
    if hasattr(sampler, "bind"):
        sampler.bind(StandardNormal())
    if sampler.needs_fit:
        fit(sampler, rows, 0)
    z = sampler.sample(500, torch.Generator().manual_seed(0)).detach().numpy()
    what = "its 500 draws, whatever they are" if name == "prior" else "500 draws after it was fitted to them"
    return clouds(mean[:500], z), f"Left: latents of two dimensions; right: {what}."


class StandardNormal:
    def sample_prior(self, num: int, generator: torch.Generator) -> Tensor:
        return torch.randn(num, 2, generator=generator)


def of_code_sampler(name: str) -> tuple[Picture, str]:
    """Pairs of codes: how often each comes in the data, and in draws."""
    from genzoo.stage_two import fit

    rng, k = np.random.default_rng(0), 6
    joint = rng.dirichlet(np.full(k * k, 0.35))
    codes = np.stack(np.divmod(rng.choice(k * k, size=8000, p=joint), k), 1)[:, None].astype(np.uint8)
    options = {"hidden_dim": 32, "num_layers": 2, "num_heads": 2, "steps": 500, "lr": 3e-3, "batch_size": 256}
    config = parse(part(SAMPLERS), {"name": name, **options}, name)
    torch.manual_seed(0)
    sampler = build(SAMPLERS, config, latent_shape=(1, 2), num_codes=k, grid=(1, 2))
    sampler.bind(CodesThemselves())
    fit(sampler, codes, 0)
    drawn = sampler.sample(4000, torch.Generator().manual_seed(0)).reshape(-1, 2).numpy().astype(int)
    shares = [
        np.bincount(pairs[:, 0] * k + pairs[:, 1], minlength=k * k).reshape(k, k) / len(pairs)
        for pairs in (codes.reshape(-1, 2).astype(int), drawn)
    ]
    return tables(shares), "How often each pair of six codes comes: left in the data, right in 4,000 draws."


class CodesThemselves:
    """A model whose latent's vectors are the codes."""

    @property
    def latent(self) -> CodesThemselves:
        return self

    def vectors(self, codes: Tensor) -> Tensor:
        return codes.float()


def of_image_metric(name: str) -> tuple[Picture, str]:
    levels, found = spoiled(name == "memorization")
    what = "share of copies among them" if name == "memorization" else "blur, radius in pixels"
    made = {metric: values for metric, values in found.items() if metric in METRICS.get(name).lower}
    said = f"{' and '.join(made)} of 300 test digits against 300 training digits, by the {what}"
    return curves(levels, made, what), f"{said} ({', '.join(map(str, levels))})."


@cache
def spoiled(copied: bool) -> tuple[list[float], dict[str, list[float]]]:
    """Test digits against training digits, more and more of them copied or blurred: levels, and metric -> values."""
    train, test = (np.concatenate(list(digits(split)))[:300] for split in ("train", "test"))
    levels = [0.0, 0.2, 0.4, 0.6, 0.8] if copied else [0.0, 0.5, 1.0, 1.5, 2.0]
    names = "memorization" if copied else ",".join(name for name in OF_IMAGES if name != "memorization")
    found: dict[str, list[float]] = {}
    for level in levels:
        num = round(300 * level)
        images = (
            np.concatenate([train[:num], test[num:]]) if copied else np.stack([blurred(one, level) for one in test])
        )
        for score in genzoo.fid(images, train, metric=names, features="efficientnet_lite0", allow_few=True):
            found.setdefault(score["metric"], []).append(score["value"])
    return levels, found


def digits(split: str) -> Iterator[np.ndarray]:
    return build(DATASETS, parse(part(DATASETS), {"name": "digits"}, "digits")).read(split)


def blurred(image: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(image[..., 0]).filter(ImageFilter.GaussianBlur(radius)))[..., None]


CONTINUOUS, DISCRETE = ("vae", "iwae", "tc", "dip", "wae", "vamp", "mog"), ("vq", "rvq", "fsq", "lfq")


def of_model_metric(runs: Path, name: str) -> tuple[Picture, str]:
    """Of the families of the zoo that have it."""
    found: dict[str, dict[str, float]] = {}
    for family in DISCRETE if name == "codebook" else CONTINUOUS:
        for score in scores(runs / "mnist" / f"{family}_seed=0", 360, 64, [] if name == "nll" else [name]):
            if name == "nll" or score["metric"] != "nll":
                found.setdefault(score["metric"], {})[family] = score["value"]
    metric, values = next(iter(found.items()))
    if name == "rate_distortion":
        return scattered(*found.values(), [*found]), f"{' against '.join(found)}: {', '.join(values)} on MNIST."
    return bars(values, metric), f"{metric} of families on MNIST: {', '.join(values)}, after one epoch."


OF_IMAGES = ("density_coverage", "fd", "fd_infinity", "kid", "memorization", "precision_recall")


def draw(runs: Path, name: str) -> tuple[Picture, str]:
    kind, one = name.split("/")
    if kind in ("encoders", "decoders", "features"):
        return of_network(kind, one)
    if kind == "samplers":
        return of_sampler(one)
    if kind == "datasets":
        return of_data(runs, one)
    if kind == "metrics":
        return of_image_metric(one) if one in OF_IMAGES else of_model_metric(runs, one)
    return of_run(runs, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the runs of benchmarks/zoo.yaml: what `genzoo study --out` named")
    parser.add_argument("--only", nargs="*", metavar="KIND/NAME")
    given = parser.parse_args()
    runs = given.runs.resolve()
    PICTURES.mkdir(parents=True, exist_ok=True)
    names = [f"{kind}/{name}" for kind, registry in KINDS.items() for name, one in registry.entries.items()
             if one.owner == "genzoo"]  # fmt: skip
    for name in given.only or [name for name in names if name not in WITHOUT]:
        picture, about = draw(runs, name)
        stem = PICTURES / name.replace("/", "-")
        if isinstance(picture, str):
            stem.with_suffix(".svg").write_text(picture, encoding="utf-8")
        else:
            picture.save(stem.with_suffix(".png"), optimize=True)
        stem.with_suffix(".txt").write_text(about + "\n", encoding="utf-8")
        print(f"{name}: {about}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
