"""Training speed side by side: genzoo, a bare loop, pythae's trainer, a Lightning module; and the data feeds alone.

    python benchmarks/training.py [--short] [--precision bf16] [--out benchmarks/results/training.json]
    python benchmarks/training.py --families vae split vq --networks medium --sizes 32 [--before DIR] [--clock cpu]

Every contestant trains the same network (from genzoo's parts: a VAE, a Split VAE or a VQ-VAE) on uint8 images at the
same batch size, in a process of its own. They take turns of some seconds, the order reversed in every other round, so
that a machine that is faster now and slower then favours nobody; ratios are of the turns' medians. genzoo runs with
everything on: data from a memory map, EMA, log lines, and a checkpoint and a picture, whose cost is measured once and
spread over the default interval between two of them. The bare loop has its images as float32 on the device and does
nothing but train, so the share of a contestant's time outside the model is 1 - its images/s over the bare loop's; the
codebook and the loss of its VQ-VAE, too, are written as scripts have them. `before` is the genzoo of another checkout.
Start-up and the first steps are not counted. pythae's mixed precision is CUDA's: on a CPU it trains in fp32 whatever is
asked. pythae and lightning are left out where they are not installed: pip install pythae lightning.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from itertools import islice, product
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).parent.parent
NETWORKS = {"small": 8, "medium": 16, "published": 64}  # base_dim
FAMILIES = ("vae", "split", "vq")
CODES = {"num_codes": 512, "dim": 16}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}  # of this process, all its threads
BATCH, LR, NUM_IMAGES = 100, 1e-4, 10_000
WARM_UP = 5  # steps that are not counted
MARK = "benchmark: "  # before what is said to the main process: libraries print, too
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NEEDS = {"genzoo": "genzoo", "bare": "torch", "pythae": "pythae", "lightning": "lightning"}
clock = CLOCKS["wall"]


def parts(base_dim: int, size: int, family: str = "vae"):
    from genzoo.config import build
    from genzoo.model import Model, ModelConfig
    from genzoo.registry import OBJECTIVES

    resnet = {"name": "resnet", "base_dim": base_dim}
    config = {
        "encoder": resnet,
        "latent": {"name": "gaussian", "dim": 32},
        "head": {"name": "split" if family == "split" else "single", "decoder": resnet},
    }
    if family == "vq":
        config["encoder"] = {**resnet, "num_scales": 3, "embed_dim": 8 * base_dim, "out": "map"}
        config["latent"] = {"name": "vq", **CODES}
    objective = {"name": "ae" if family == "vq" else "elbo", "gamma": "fixed"}
    torch.manual_seed(0)
    model = Model(ModelConfig.model_validate(config), (3, size, size))
    config = OBJECTIVES.get(objective["name"]).Config.model_validate(objective)
    return model, build(OBJECTIVES, config, image_shape=(3, size, size))


def stored_images(size: int, folder: Path) -> np.ndarray:
    """Noise in a memory map: what an image shows does not change how long it takes."""
    images = np.memmap(folder / "images.u8", np.uint8, "w+", shape=(NUM_IMAGES, size, size, 3))
    rng = np.random.default_rng(0)
    for start in range(0, NUM_IMAGES, 1000):
        images[start : start + 1000] = rng.integers(0, 256, (1000, size, size, 3), dtype=np.uint8)
    return np.memmap(folder / "images.u8", np.uint8, "r", shape=images.shape)


class TorchvisionSet(torch.utils.data.Dataset):
    """As PyTorch-VAE and most scripts read: a PIL image, ToTensor, item by item."""

    def __init__(self, images: np.ndarray):
        from torchvision.transforms import ToTensor

        self.images, self.transform = images, ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), 0


def loader(images: np.ndarray) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(
        TorchvisionSet(images),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        pin_memory=DEVICE.type == "cuda",
    )


class Turns:
    """Trains in turns: after the warm-up, and every `turn` steps from there on, it waits until it is told to go on.

    module: runs once a step. What a turn took is said on stdout.
    """

    def __init__(self, module: nn.Module, turn: int, steps: int):
        self._turn, self._last, self._count = turn, steps - WARM_UP - 1, -WARM_UP
        self.began = clock()
        module.register_forward_pre_hook(self._tick)

    def _tick(self, *_: object) -> None:
        if 0 <= self._count <= self._last and self._count % self._turn == 0:
            _synchronize()
            wait_for_turn(clock() - self.began)
            self.began = clock()
        self._count += 1


def wait_for_turn(seconds: float) -> None:
    """Say how long the one took that is over, and wait."""
    say({"seconds": seconds})
    sys.stdin.readline()


def say(what: dict) -> None:
    print(MARK + json.dumps(what), flush=True)


def run_genzoo(base_dim: int, size: int, steps: int, turn: int, precision: str, folder: Path, family: str) -> dict:
    from genzoo.evaluation.drawing import panel
    from genzoo.training.config import TrainConfig
    from genzoo.training.step import Step
    from genzoo.training.trainer import train

    model, objective = parts(base_dim, size, family)
    z = torch.randn(12, *model.latent_shape)

    def draw(model: nn.Module, step: int) -> None:
        panel(model.decode(z.to(DEVICE)), folder / "panels" / f"{step}.png")

    config = TrainConfig(
        steps=steps,
        batch_size=BATCH,
        optimizer={"name": "adam", "lr": LR},
        precision=precision,
        ema=0.999,
        log_every=10,
    )
    turns = Turns(objective, turn, steps)
    train(Step(model, objective), stored_images(size, folder), config, folder=folder / "run", seed=0, panel=draw,
          progress=False)  # fmt: skip
    # After the last turn come a step, which makes this a little too much, a checkpoint and a picture.
    return {"now_and_then": (clock() - turns.began) / config.checkpoint_every}


def run_bare(base_dim: int, size: int, steps: int, turn: int, precision: str, folder: Path, family: str) -> None:
    model, objective = (
        module.to(DEVICE, memory_format=torch.channels_last) for module in parts(base_dim, size, family)
    )
    bare = VQStep(model).to(DEVICE) if family == "vq" else Loss(model, objective)
    optimizer = torch.optim.Adam(bare.parameters(), LR, fused=True)
    x = torch.rand(10 * BATCH, 3, size, size, device=DEVICE).to(memory_format=torch.channels_last)
    batches = x.split(BATCH)
    torch.backends.cudnn.benchmark = True
    Turns(bare, turn, steps)
    for i in range(steps):
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = bare(batches[i % len(batches)])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


class Loss(nn.Module):
    """genzoo's model and objective, and nothing around them."""

    def __init__(self, model: nn.Module, objective: nn.Module):
        super().__init__()
        self.model, self.objective = model, objective
        self.step = torch.zeros((), device=DEVICE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.objective(self.model(x), x, self.step, self.model)["loss"]


class VQStep(nn.Module):
    """A VQ-VAE as scripts write it, around the layers of `model`: arXiv 1711.00937, its codebook a running average."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.encoder, self.decoder = model.encoder, model.head.decoder
        self.enter, self.leave = model.latent.code, model.latent.embed
        self.register_buffer("codes", torch.randn(CODES["num_codes"], CODES["dim"]))
        self.register_buffer("counts", torch.ones(CODES["num_codes"]))
        self.register_buffer("sums", self.codes.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.enter(self.encoder(x)).float()  # b d h w
        with torch.no_grad(), torch.autocast(DEVICE.type, enabled=False):
            rows = z.movedim(1, -1).flatten(0, -2)
            index = torch.cdist(rows, self.codes).argmin(1)
            hot = nn.functional.one_hot(index, len(self.codes)).float()
            self.counts.lerp_(hot.sum(0), 0.01)
            self.sums.lerp_(hot.T @ rows, 0.01)
            quantised = self.codes[index].view_as(z.movedim(1, -1)).movedim(-1, 1)
            self.codes.copy_(self.sums / self.counts.clamp(min=1e-5)[:, None])
        y = self.decoder(self.leave(z + (quantised - z).detach())).float().sigmoid()
        return (0.5 * (y - x).square().sum() + 0.25 * (z - quantised).square().sum()) / len(x)


def run_lightning(base_dim: int, size: int, steps: int, turn: int, precision: str, folder: Path, family: str) -> None:
    """In the style of PyTorch-VAE: a LightningModule that logs its losses, and a DataLoader with two workers."""
    import lightning

    model, objective = parts(base_dim, size, family)

    class Experiment(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.objective = model, objective

        def training_step(self, batch, index):
            terms = self.objective(self.model(batch[0]), batch[0], torch.zeros((), device=self.device), self.model)
            self.log_dict({name: term.detach() for name, term in terms.items()}, sync_dist=True)
            return terms["loss"]

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), LR)

    trainer = lightning.Trainer(
        max_steps=steps, accelerator="auto", devices=1, precision={"bf16": "bf16-mixed", "fp32": "32-true"}[precision],
        default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False, logger=False,
    )  # fmt: skip
    Turns(objective, turn, steps)
    trainer.fit(Experiment(), loader(stored_images(size, folder)))


def run_pythae(base_dim: int, size: int, steps: int, turn: int, precision: str, folder: Path, family: str) -> None:
    """Its VAE and BaseTrainer around the same encoder and decoder; whole epochs of as many images as the steps see."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    model, _ = parts(base_dim, size, family)

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.encoder, self.latent = model.encoder, model.latent

        def forward(self, x):
            posterior = self.latent(self.encoder(x))
            return ModelOutput(embedding=posterior.mean, log_covariance=posterior.variance.log())

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.latent, self.head = model.latent, model.head

        def forward(self, z):
            return ModelOutput(reconstruction=self.head(self.latent.expand(z)).image)

    config = VAEConfig(input_dim=(3, size, size), latent_dim=model.latent_shape[0], reconstruction_loss="mse")
    images = torch.rand(min(steps * BATCH, NUM_IMAGES), 3, size, size)
    training = BaseTrainerConfig(
        output_dir=str(folder), num_epochs=-(-steps * BATCH // len(images)), learning_rate=LR,
        per_device_train_batch_size=BATCH, optimizer_cls="Adam", amp=precision == "bf16",
    )  # fmt: skip
    trainer = BaseTrainer(
        VAE(config, Encoder(), Decoder()), BaseDataset(images, torch.zeros(len(images))), training_config=training
    )
    Turns(trainer.model, turn, steps)
    trainer.train()


RUNNERS = {"genzoo": run_genzoo, "bare": run_bare, "pythae": run_pythae, "lightning": run_lightning}


def one(name: str, base_dim: int, size: int, turn: int, num_turns: int, precision: str, family: str) -> None:
    """A contestant's process."""
    from genzoo.allocator import keep_freed_memory

    if name in ("genzoo", "bare"):  # as genzoo's command line does, so that the two differ by the trainer alone
        keep_freed_memory()  # the others train as their users start them
    steps = WARM_UP + turn * num_turns + 1
    with tempfile.TemporaryDirectory() as folder:
        more = RUNNERS[name](base_dim, size, steps, turn, precision, Path(folder), family) or {}
    peak = (
        torch.cuda.max_memory_allocated()
        if DEVICE.type == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    num_parameters = sum(p.numel() for p in parts(base_dim, size, family)[0].parameters())
    say({"peak_bytes": peak, "num_parameters": num_parameters, **more})


class Contestant:
    """Such a process, from outside. warm_up: the seconds it gives for that."""

    def __init__(self, *words: object, **environment: str):
        self._process = subprocess.Popen(
            [sys.executable, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, **environment},
        )  # fmt: skip
        self.warm_up = self._said()["seconds"]

    def go_on(self) -> dict:
        """Let it train until it has something to say."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._said()

    def _said(self) -> dict:
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise SystemExit(f"a contestant has ended: {' '.join(self._process.args)}")


def take_turns(running: dict[str, Contestant], rounds: int) -> tuple[dict[str, list[float]], dict[str, dict]]:
    """The seconds of each one's turns, and what it says at its end."""
    turns = {name: [] for name in running}
    for number in range(rounds):
        for name in [*running][:: -1 if number % 2 else 1]:
            turns[name].append(running[name].go_on()["seconds"])
    return turns, {name: contestant.go_on() for name, contestant in running.items()}


def race(
    names: list[str], family: str, network: str, size: int, rounds: int, options: argparse.Namespace
) -> list[dict]:
    """A row of the results for each contestant."""

    def contestant(name: str, turn: int, num_turns: int) -> Contestant:
        here = options.before if name == "before" else ROOT
        numbers = ",".join(map(str, (name.replace("before", "genzoo"), NETWORKS[network], size, turn, num_turns)))
        words = ["--one", numbers, "--precision", options.precision]
        words += ["--families", family] if family != "vae" else []  # what an early checkout's file does not know
        words += ["--clock", options.clock] if options.clock != "wall" else []
        return Contestant(here / "benchmarks" / "training.py", *words, PYTHONPATH=str(here))

    probe = contestant("bare", 3, 1)
    turn = max(2, round(3 * options.seconds / probe.go_on()["seconds"]))
    probe.go_on()
    turns, ends = take_turns({name: contestant(name, turn, rounds) for name in names}, rounds)
    rates = {
        name: BATCH / (statistics.median(took) / turn + ends[name].pop("now_and_then", 0))
        for name, took in turns.items()
    }
    return [
        {
            "family": family, "network": network, "size": size, "trainer": name, "steps_a_turn": turn,
            "images_per_s": rates[name], "to_bare": rates[name] / rates["bare"],
            "outside_the_model": 1 - rates[name] / rates["bare"], "genzoo_to_this": rates["genzoo"] / rates[name],
            **ends[name], "turns": turns[name],
        }
        for name in names
    ]  # fmt: skip


def feeds(size: int, seconds: float) -> dict[str, float]:
    """Images/s of the data feeds alone, on the CPU, each for some seconds after a warm-up."""
    from genzoo.training.feed import Feed

    with tempfile.TemporaryDirectory() as folder:
        images = stored_images(size, Path(folder))
        found = {"genzoo": _rate(Feed(images, BATCH, 0, device=torch.device("cpu")).batches(0), seconds)}

        def epochs():
            data = loader(images)
            while True:
                yield from (batch for batch, _ in data)

        found["torchvision, 2 workers"] = _rate(epochs(), seconds)
        if find_spec("pythae"):
            from pythae.data.datasets import BaseDataset

            data = BaseDataset(torch.rand(NUM_IMAGES, 3, size, size), torch.zeros(NUM_IMAGES))

            def pythae_epochs():
                while True:
                    yield from torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True)

            found["pythae"] = _rate(({"data": batch["data"]} for batch in pythae_epochs()), seconds)
    return found


def _rate(batches, seconds: float) -> float:
    next(batches)
    num, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        num += sum(BATCH for _ in islice(batches, 10))
    return num / (time.perf_counter() - start)


def _synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def cores() -> str:
    used, there = torch.get_num_threads(), os.cpu_count()
    return f"cpu, {there} cores" if used == there else f"cpu, {used} of {there} cores"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--short", action="store_true", help="one round of few steps of the small network: does it run"
    )
    arguments.add_argument("--seconds", type=float, default=3, help="of training in a turn of the bare loop, about")
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument("--precision", choices=["fp32", "bf16"], default="bf16" if DEVICE.type == "cuda" else "fp32")
    arguments.add_argument("--families", nargs="+", choices=FAMILIES, default=["vae"])
    arguments.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    arguments.add_argument("--sizes", nargs="+", type=int, default=[32, 64])
    arguments.add_argument("--before", type=Path, metavar="DIR", help="a checkout whose genzoo is another contestant")
    arguments.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: where others use the machine, too")
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--one", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    global clock
    clock = CLOCKS[options.clock]
    if options.one:
        name, *numbers = options.one.split(",")
        one(name, *map(int, numbers), options.precision, options.families[0])
        return
    if options.short:
        options.seconds, options.rounds, options.networks, options.sizes = 1, 1, ["small"], [32]
    names = [name for name, package in NEEDS.items() if find_spec(package)] + ["before"] * bool(options.before)
    result = {
        "command": " ".join(["python", *sys.argv]), "torch": torch.__version__, "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else cores(),
        "precision": options.precision, "clock": options.clock, "batch_size": BATCH, "rounds": options.rounds,
        "training": [],
    }  # fmt: skip
    for size, network, family in product(options.sizes, options.networks, options.families):
        fit = [name for name in names if family == "vae" or name in ("genzoo", "bare", "before")]  # others have no such
        for row in race(fit, family, network, size, options.rounds, options):
            result["training"].append(row)
            print(
                f"{size}px {network:10} {family:6} {row['trainer']:10} {row['images_per_s']:8.1f} images/s "
                f"{row['to_bare']:6.3f} of bare {row['peak_bytes'] / 2**20:6.0f} MiB",
                flush=True,
            )
    result["feeds"] = {f"{size}px": feeds(size, 0.5 if options.short else 10) for size in options.sizes}
    for size, found in result["feeds"].items():
        for name, rate in found.items():
            print(f"{size} feed {name:24} {rate:12.0f} images/s  (genzoo: {found['genzoo'] / rate:.1f}x)")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
