"""The contestants of benchmarks/training.py: genzoo's trainer, a bare loop, a Lightning module, pythae's trainer.

Each trains in turns, and waits between them for a line on stdin.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

NETWORKS = {"small": 8, "medium": 16, "published": 64}  # base_dim
FAMILIES = ("vae", "split", "vq")
CODES = {"num_codes": 512, "dim": 16}
BATCH, LR, NUM_IMAGES = 100, 1e-4, 10_000
WARM_UP = 5  # steps that are not counted
MARK = "benchmark: "  # before what is said to the main process: libraries print, too
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
clock = time.perf_counter  # of this process


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


def _synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


RUNNERS = {"genzoo": run_genzoo, "bare": run_bare, "pythae": run_pythae, "lightning": run_lightning}
