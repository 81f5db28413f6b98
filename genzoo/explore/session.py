"""What the explorer's page asks of one trained model: latents in, pixels out. All values are bytes in a fixed order."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.errors import UserError
from genzoo.evaluation.generate import bind, encode
from genzoo.evaluation.images import Spread, quantize, read
from genzoo.evaluation.work import Work
from genzoo.fitted import fitted_samplers
from genzoo.loading import loaded
from genzoo.parts import Composition, Sampler
from genzoo.preparation import build_used, prepare_splits
from genzoo.run_folder import RunFolder

NUM_IMAGES, NUM_ENCODED, NUM_VARIABLES, BATCH = 24, 512, 64, 64


class Session:
    """A model, its fitted samplers and some images to start from (uint8 n h w c).

    parts: name -> (kind, channels), in the order in which their pixels are sent; kind: image, map or branch.
    """

    def __init__(self, name: str, model: nn.Module, samplers: Mapping[str, Sampler], images: np.ndarray):
        self.name, self.model, self.samplers = name, model.eval(), dict(samplers)
        self.device = next(model.parameters()).device
        for sampler in samplers.values():
            bind(sampler, model)
        self.images = np.asarray(Spread(images, NUM_IMAGES)[:])
        means, _ = encode(model, Spread(images, NUM_ENCODED), Work(self.device, BATCH))
        by_variable = means.flatten(2).mean(dim=2) if means.ndim > 2 else means  # of a map: its channels
        self.center, self.spread = by_variable.mean(dim=0), by_variable.std(dim=0, correction=0)
        self.size = means[0].numel()
        made = self._decoded(means[:1])
        self.parts = {"y": ("image", made.image.shape[1])}
        self.parts |= {name: ("map", m.shape[1]) for name, m in made.maps.items()}
        self.parts |= {name: ("branch", y.shape[1]) for name, y in made.branches.items()}
        self.composes = _composes(made)

    def about(self) -> dict:
        """JSON for the page. composes: whether the image is the branches, weighed by the maps: both can then move."""
        order = self.spread.argsort(descending=True, stable=True)[:NUM_VARIABLES].tolist()
        height, width = self.model.image_shape[1:]
        return {
            "name": self.name,
            "latent_size": self.size,
            "elements": self.size // len(self.spread),  # of a variable: one, or a map's positions
            "variables": [
                {"index": d, "center": float(self.center[d]), "spread": float(self.spread[d])} for d in order
            ],
            "spherical": self.model.has_standard_normal_prior,
            "parts": [{"name": name, "kind": kind, "channels": c} for name, (kind, c) in self.parts.items()],
            "height": height,
            "width": width,
            "channels": self.images.shape[3],
            "num_images": len(self.images),
            "samplers": list(self.samplers),
            "composes": self.composes,
        }

    def thumbnails(self) -> bytes:
        """uint8 n h w c."""
        return np.ascontiguousarray(self.images).tobytes()

    def decode(self, z: bytes) -> bytes:
        """float32 *latent_shape -> uint8 h w c of every part, one after the other. UserError for another length."""
        made = self._decoded(self._latent(z))
        pixels = (quantize(x)[0].permute(1, 2, 0).cpu().numpy() for x in (made.image, *made.parts.values()))
        return b"".join(part.tobytes() for part in pixels)

    def encode(self, index: int) -> bytes:
        """The mean of an image's posterior, float32 *latent_shape."""
        if not 0 <= index < len(self.images):
            raise UserError(f"there are images 0 to {len(self.images) - 1}")
        x = read(self.images, slice(index, index + 1)).to(self.device).float() / 255
        with torch.inference_mode():
            return self.model.encode(x).mean.float().cpu().numpy().tobytes()

    def sample(self, name: str, seed: int) -> bytes:
        """A draw of a sampler, float32 *latent_shape."""
        if name not in self.samplers:
            raise UserError(f"there is no sampler {name!r}")
        with torch.inference_mode():
            return self.samplers[name].sample(1, torch.Generator().manual_seed(seed)).float().numpy().tobytes()

    def npz(self, body: bytes) -> bytes:
        """z and the pixels of every part as the page shows them (`decode`'s order) -> an .npz of them."""
        z = self._latent(body[: 4 * self.size])
        arrays, start = {"z": z.numpy()}, 4 * self.size
        height, width = self.model.image_shape[1:]
        if len(body) - start != sum(c for _, c in self.parts.values()) * height * width:
            raise UserError("the pixels are not those of this model's parts")
        for name, (_, channels) in self.parts.items():
            count = height * width * channels
            arrays[name] = np.frombuffer(body, np.uint8, count, start).reshape(1, height, width, channels)
            start += count
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    def _latent(self, z: bytes) -> Tensor:
        if len(z) != 4 * self.size:
            raise UserError(f"a latent of this model is {self.size} numbers, {4 * self.size} bytes; {len(z)} came")
        values = np.frombuffer(z, np.float32).copy()
        if not np.isfinite(values).all():
            raise UserError("a latent is finite numbers")
        return torch.from_numpy(values).view(1, *self.model.latent_shape)

    def _decoded(self, z: Tensor) -> Composition:
        with torch.inference_mode():
            return self.model.decode(z.to(self.device))


def session(folder: str | Path, plugins: Sequence[str] = ()) -> Session:
    """What the explorer needs of a run: its model, its fitted samplers, images of its reference split.

    plugins: as `load` takes them.
    """
    run = RunFolder(folder)
    recipe = run.recipe(plugins=plugins)
    parts = build_used(recipe)
    model, _ = loaded(run, recipe)
    images = prepare_splits(parts, recipe)[recipe.evaluation.reference].images
    return Session(recipe.name, model, fitted_samplers(run.path, recipe, parts.samplers), images)


def _composes(made: Composition) -> bool:
    branches, maps = [*made.branches.values()], [*made.maps.values()]
    if len(branches) < 2 or len(maps) not in (1, len(branches)) or (len(maps) == 1 and len(branches) != 2):
        return False
    weights = [maps[0], 1 - maps[0]] if len(maps) == 1 else maps
    return torch.allclose(sum(w * y for w, y in zip(weights, branches, strict=True)), made.image, atol=2 / 255)
