"""What each kind of part must offer. Read this before writing one; nothing has to be inherited.

Every part is a class with a nested pydantic `Config(genzoo.Config)`, built as `Part(config, **wiring)`. The wiring
(shapes that follow from the neighbours) is handed over by keyword, so a recipe never repeats a size. A part that cannot
handle the sizes it is given raises ValueError with the reason: the recipe is then refused before any data is read.

Shapes are tuples without the batch dimension; `b c h w` images are float32 in [0, 1] unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from pydantic import BaseModel
    from torch import Generator, Tensor

Shape = tuple[int, ...]
T = TypeVar("T")


# What a part can need of its partners, in the words of messages; genzoo.tracing finds what is there.
CAPABILITIES = {
    "kl": "a latent with a KL divergence",
    "kl of every element": "a latent whose KL divergence is known for every element",
    "posterior density": "a latent whose posterior has a density (`log_prob`)",
    "prior": "a model with a prior to draw latents from",
    "prior density": "a model whose prior has a density (`log_prob`)",
    "codes": "a latent of discrete codes",
    "flat latent": "a flat latent, of shape (n,)",
    "latent map": "a latent map, of shape (c, h, w)",
    "free latent": "a latent that may lie anywhere, not on a sphere alone",
    "likelihood": "a head that gives a likelihood (`log_prob`)",
    "maps": "a head that mixes branches by maps",
}


@dataclass
class Composition:
    """What a head makes. Panels, scores and exports walk `maps` and `branches` by name and know no head."""

    image: Tensor  # b c h w in [0, 1]: the model's output, which losses are put on (a likelihood's mean)
    branches: dict[str, Tensor] = field(default_factory=dict)  # images of their own, b c h w in [0, 1] (y1, y2)
    maps: dict[str, Tensor] = field(default_factory=dict)  # how they were mixed, b 1|c h w in [0, 1] (sigma)
    # log p(x|z) of images x, b c h w in [0, 1] -> b, nats per image, float32; None where the head says nothing of it.
    log_prob: Callable[[Tensor], Tensor] | None = None
    # Whether that is the mass of the 256 pixel levels, which alone gives bits per dimension, or a density on [0, 1].
    on_levels: bool = False

    @property
    def parts(self) -> dict[str, Tensor]:
        """Maps, then branches, by name."""
        return {**self.maps, **self.branches}


class Posterior(Protocol):
    """q(z|x) of a batch; `latent` is the latent's own shape. All in float32.

    `z` is always one floating-point tensor: a discrete latent's are its quantised vectors, with the straight-through
    gradient in `sample`; a hierarchical one's the noise of all groups in standard coordinates.
    """

    mean: Tensor  # b *latent: the point that stands for the image, which reconstructions decode
    variance: Tensor  # b *latent: zeros where there is no spread

    def sample(self, generator: Generator | None = None) -> Tensor:
        """Reparameterised draw, b *latent."""

    # Optional, each absent where it is not defined:
    # `kl(z) -> b *any`: KL(q(z|x) || the latent's own prior) in nats, closed form, or estimated at the draw z where
    #     there is none; of every latent element where it separates. Its sum is the nats per image.
    # `log_prob(z) -> b`: log q(z|x), nats; z may have further dimensions in front, against which the batch broadcasts.
    # `penalties() -> {name: b}`: what is charged beside the KL: a commitment, the norm of a deterministic code.
    # `kl_is_estimate = True`: the KL depends on z, and so do mean and variance of elements that hang on others;
    # `on_sphere = True`: z is a unit vector, and densities are with respect to the sphere's surface.


class Prior(Protocol):
    """`Prior(config, latent_shape=..., image_shape=(c, h, w))`, an nn.Module: p(z), trained and saved with the model.

    The KL is then log q(z|x) - log p(z) at the draw. model: has `encode`, `latent`, ... (genzoo/model.py).
    """

    def log_prob(self, z: Tensor, model) -> Tensor:
        """b *latent_shape -> b, nats."""

    def sample(self, num: int, generator: Generator, model) -> Tensor:
        """num *latent_shape; chance comes from the generator, which is on the CPU, alone."""

    # Optional: `components(model) -> (weights k, posterior of k)`, of a mixture: exports draw from Gaussian ones.


@dataclass
class Pass:
    """What one forward pass of the model made."""

    posterior: Posterior
    z: Tensor  # b *latent_shape: the draw of the posterior that was decoded
    composition: Composition
    loss: Tensor | None = None  # the objective's, 0-d with its graph, once it is known: for terms that weigh against it


class Encoder(Protocol):
    """`Encoder(config, in_shape=(c, h, w))`."""

    out_shape: Shape

    def __call__(self, x: Tensor) -> Tensor:
        """b c h w -> b *out_shape."""


class Latent(Protocol):
    """`Latent(config, in_shape=encoder.out_shape)`."""

    shape: Shape  # of one latent
    out_shape: Shape  # of the features that `expand` hands to the head
    # Its own prior: `sample(num, generator) -> num *shape` and `log_prob(z) -> b`, such as genzoo.densities has them;
    # None where it has none.
    prior: Any

    def __call__(self, features: Tensor) -> Posterior:
        """b *in_shape -> posterior."""

    def expand(self, z: Tensor) -> Tensor:
        """b *shape -> b *out_shape. A discrete latent takes any z, to the nearest codes first."""

    # Only where the latent is discrete: `num_codes: int`; `codes(z) -> b *grid`, int64 below num_codes;
    # `vectors(codes) -> z`. Optional: `for_more_codes: str`, the options that bring more of them into use, in words.


class Decoder(Protocol):
    """`Decoder(config, in_shape=latent.out_shape, out_shape=(c, h, w))`; `c` is whatever the head needs."""

    def __call__(self, features: Tensor) -> Tensor:
        """b *in_shape -> b c h w, unbounded (the head applies the sigmoid)."""


class Head(Protocol):
    """`Head(config, in_shape=latent.out_shape, image_shape=(c, h, w))`; builds and owns its decoders."""

    def __call__(self, features: Tensor) -> Composition:
        """b *in_shape -> Composition, in float32 whatever the precision of the features."""


class Objective(Protocol):
    """`Objective(config, image_shape=(c, h, w))`, an nn.Module: its parameters are trained, its buffers saved."""

    def __call__(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        """Scalars to log, detached but for "loss". x: b c h w; step: 0-d integer tensor, optimizer steps done.

        made: the model's pass over x; an objective that needs more draws calls the model again (`encode`, `decode`,
        `kl`, ... of genzoo/model.py).
        Keys by convention: "loss", "rec" and "kl" (nats per image), "mse" (per pixel), "gamma", "beta".
        """

    # Optional: `needs: tuple[str, ...]`, names of CAPABILITIES that the model must have, of the class or of the object;
    # `log_prob(composition, x) -> b`, the log-likelihood it charges, nats per image, where that is a density, with
    # `observation(composition) -> Observation`, which says what it is;
    # `diagnosis(means: dict[str, float]) -> str`, of the means of its scalars over the last epoch: what went wrong, and
    # what to do about it, in one sentence that the end of a run says; "" where all is well.


@dataclass(frozen=True)
class Observation:
    """Which p(x|z) an objective charges."""

    words: str  # with its scale: "Gaussian of variance 0.0123"
    on_levels: bool = False  # the mass of the 256 pixel levels; else a density on [0, 1]
    undefined: str = ""  # why it is neither of images with grey levels


class Term(Protocol):
    """`Term(config, image_shape=(c, h, w))`, an nn.Module: something that is charged beside any objective.

    Its parameters are trained (a critic's), its buffers saved; frozen networks are kept out of its module tree (in a
    tuple). Its Config has `weight`, which the loss is proportional to, but for a loss of parameters of its own.
    """

    def __call__(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        """Scalars to log, detached but for "loss", which is added to the objective's. As of an Objective."""

    # Optional: `needs` and `diagnosis`, as of an Objective; `param_groups() -> [{"params": [...], "lr": ..., "betas":
    # ...}]`, those of its parameters that are trained in another way than the model's.


class Sampler(Protocol):
    """`Sampler(config, latent_shape=...)`, an nn.Module whose state_dict is everything that it learned.

    Where it needs a fit it is, besides, a `Fitted`, which has a closed form or an algorithm of its own, or a `Learned`.
    """

    needs_fit: ClassVar[bool]
    # Optional: `fit_split: str`, the split whose posteriors are learned ("train"); `protocol: dict`, for its scores;
    # `needs`, as of an Objective, and of its Config as well, where options decide; `bind(model)`, called with the
    # trained model before `sample` and `fit` (what it keeps of it is no submodule, for that would be saved).

    def sample(self, num: int, generator: Generator) -> Tensor:
        """num *latent_shape on the CPU, float32; chance comes from the generator, which is on the CPU, alone.

        A learned one may have been moved to another device.
        """


class Fitted(Sampler, Protocol):
    """A sampler that fits itself."""

    def fit(self, mean: Tensor, variance: Tensor, seed: int) -> None:
        """Learn the aggregate posterior from the posteriors of n images: mean and variance, n *latent_shape, CPU.

        They may be memory-mapped: rows that are not needed should not be touched.
        """


class Learned(Sampler, Protocol):
    """A sampler with a loss, which the one trainer trains (genzoo.stage_two): no loop, optimizer, device of its own.

    learns: "latents", draws of the posteriors; or "codes", those of a discrete latent, for which it is built as
    `Sampler(config, latent_shape=..., num_codes=K, grid=(...))`, the grid being the shape of an image's codes.
    """

    learns: ClassVar[str]
    settings: dict  # options of the recipe's `train`, of which steps and batch_size must be there
    num_fit: Tensor  # a buffer, 0-d integer: latents it was trained on, which the machinery sets; 0: not trained yet

    def begin(self, *rows: Tensor) -> None:
        """Make fresh weights from torch's global generator, which is seeded, and look at what is to be learned.

        rows: mean and variance of the posteriors, n *latent_shape each; or the codes, n *grid of integers. They are
        memory-mapped on the CPU: take them piece by piece. UserError where they cannot be learned from.
        """

    def loss(self, rows: Tensor, clock: Tensor) -> dict[str, Tensor]:
        """Scalars to log, detached but for "loss", of a batch of latents, b *latent_shape, or codes, int64 b *grid.

        On whatever device they are, in an autocast where the precision is bf16; chance is the global generators'.
        clock: 0-d, optimizer steps done.
        """


class Dataset(Protocol):
    """`Dataset(config)`; building it reads nothing."""

    image_shape: Shape  # (c, h, w), known from the config alone
    splits: tuple[str, ...]  # "train" first; `locate` may find more
    # Optional: `notes: dict[str, dict]`, facts for each split's card that reading showed: `skipped`, names of corrupt
    # files that were left out; `passed_over`, {reason: count} of what was not taken for an image, which is said, too.

    def locate(self) -> dict:
        """Find the source, downloading it where that is possible, and identify it (JSON: paths, sizes, parameters).

        The result keys the prepared store; `num_images: {split: n}` in it, where n is known, lets the disk be checked
        and progress be shown. UserError says where it looked, what to place there, and in which layouts.
        """

    def read(self, split: str) -> Iterator[np.ndarray]:
        """The split's images in a fixed order, as uint8 arrays n h w c of any n (small: a few MB).

        With a parameter `start: int = 0`, the images to leave out at the front, an interrupted preparation goes on.
        """

    # Optional: with `streams = True` the images stay where they are. `read` then gives their places, arrays of
    # genzoo.data.stream.ENTRY, and `opened(split, entries) -> Streamed` reads them from there.
    # `reading: set[str]` names options that change nothing of what is stored.


class Streamed(Protocol):
    """Images that are read while training (genzoo.data.stream.Stream); like an array uint8 n h w c."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    buffer: int  # how many are shuffled together, and read ahead

    def __len__(self) -> int: ...

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray: ...

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """The rows of an epoch: every one once."""

    def batches(self, parts: Iterator[np.ndarray], num: int) -> Iterator[np.ndarray]:
        """The images of each of `parts`, arrays of rows, of which `num` are looked at together."""


class Features(Protocol):
    """`Features(config)`, an nn.Module in eval mode with frozen weights."""

    dim: int
    protocol: dict  # weights' sha256, input size, resize: what a number made with these features must state
    # Optional: the call in two steps, `resized(images)`, uint8 b c h w -> b *shape, and `of_resized` of that -> float32
    # b dim. Where one shape comes of all sizes, images of different sizes then share the batches of the network;
    # `maps(x, size)`, images b c h w in [0, 1] -> feature maps b c' h' w' from shallow to deep, with gradients.

    @classmethod
    def fetch(cls, config: BaseModel) -> None:
        """Have the weights at hand before a run starts; UserError says which file to put where."""

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 b c h w (any size, 1, 3 or 4 channels) -> float32 b dim."""


class Side(Protocol):
    """The images of one side as a metric is given them."""

    features: Tensor  # n dim, float32 on the CPU

    @property
    def statistics(self) -> Any:
        """Their mean and covariance, a genzoo.frechet.Statistics."""

    def once(self, make: Callable[..., T], *options: object) -> T:
        """make(features, *options), made once for all the metrics that ask for it and kept with the side."""


class Trained(Protocol):
    """A trained model and the images of the evaluated split, as a metric of the model itself is given them."""

    model: Any  # genzoo/model.py, in eval mode
    objective: Any  # what it was trained with, as of the same checkpoint
    num: int  # n, the images
    batch_size: int  # images that may be decoded at once
    mean: Tensor  # n *latent_shape, float32 on the CPU: of the posteriors of all images
    variance: Tensor  # the same

    def batches(self, what: str, seed: int, every: bool = False) -> Iterator[tuple[slice, Tensor, Generator]]:
        """(rows, their images b c h w in [0, 1], and the batch's own chance, both on the model's device).

        This process's batches, or `every` one. Batches are the same, and so is their chance, whatever the number of
        processes and the batch size. what: is done, for the progress.
        """

    def total(self, x: Tensor) -> Tensor:
        """x, added over the processes, on the CPU: every process has to call it."""

    def once(self, make: Callable[..., T], *options: object) -> T:
        """make(trained, *options), made once for all the metrics that ask for it."""


class Metric(Protocol):
    """`Metric(config)`: one score or several, of a generator's images or of the trained model itself.

    `needs` says what `score` is given. "features": both sides' features, of the extractor that the Config's
    `features: Extractor` names (genzoo.extractors), as score(real, fake, seed). "model": the trained model and the
    images of the evaluated split, as score(trained, seed), on every process; it may leave out scores that this model
    has not, and raises UserError with the reason where it has none: they are skipped then.
    """

    needs: ClassVar[str]
    lower: ClassVar[dict[str, bool | None]]  # each score's name -> is lower better? None: neither end is
    # Optional: `least: int`, the images that each side must have (2); `by_statistics`, the sides ("real", "fake") of
    # which the statistics are enough; `few(dim, num_real, num_fake) -> str`, why so many make a biased number, or "";
    # `against: tuple[str, int | None]`, the split of reference images and how many at most, else the evaluation's.

    def score(self, real: Side, fake: Side, seed: int) -> dict[str, dict]:
        """Each name in `lower` -> {"value": float, and whatever else has to be stated with it}, in JSON's types.

        "standard_error" is of the value; "found", a dict, holds what was seen beside it and is no part of how the score
        was made.
        """
