"""Names of parts: one table a kind. A part is known by name and imported only when it is used."""

from __future__ import annotations

import fnmatch
import importlib
from dataclasses import dataclass
from functools import cached_property

from genzoo.errors import UserError, nearest


@dataclass(frozen=True)
class Entry:
    """One registered name."""

    name: str
    target: str | type  # "package.module:Class", or the class itself when registered by code
    owner: str  # the package, file or notebook it comes from, with its version where there is one
    clash: str = ""  # another owner of the same name: using the name is refused


class Registry:
    """The parts of one kind. Reading names imports nothing; `get` imports the one part that is asked for."""

    def __init__(self, kind: str, builtin: dict[str, str]):
        self.kind = kind
        self._builtin = {name: Entry(name, f"genzoo.{target}", "genzoo") for name, target in builtin.items()}
        self._by_code: dict[str, Entry] = {}
        self.loading: str = ""  # owner of whatever registers now, set while a plugin file is executed

    @cached_property
    def _installed(self) -> dict[str, Entry]:
        """Entry points of the group `genzoo.<kind>` of every installed package."""
        from importlib.metadata import entry_points

        entries: dict[str, Entry] = {}
        for point in entry_points(group=f"genzoo.{self.kind}"):
            owner = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown package"
            known = self._builtin.get(point.name) or entries.get(point.name)
            clash = known.owner if known and known.owner != owner else ""
            entries[point.name] = Entry(point.name, point.value, owner, clash)
        return entries

    @property
    def entries(self) -> dict[str, Entry]:
        return dict(sorted({**self._builtin, **self._installed, **self._by_code}.items()))

    def names(self, pattern: str = "*") -> list[str]:
        """Registered names that match a shell-style pattern."""
        return [name for name in self.entries if fnmatch.fnmatchcase(name, pattern)]

    def register(self, name: str):
        """Class decorator: `@DECODERS.register("mine")`. A name that somebody else owns is refused."""

        def add(part: type) -> type:
            owner = self.loading or part.__module__
            known = self.entries.get(name)
            # Running a notebook cell again replaces the class it registered before.
            if known and (not isinstance(known.target, type) or _path(known.target) != _path(part)):
                raise UserError(f"{self.kind}/{name} is registered twice: by {known.owner} and by {owner}; rename one")
            self._by_code[name] = Entry(name, part, owner)
            return part

        return add

    def forget(self, names: set[str]) -> None:
        """Take back what a plugin registered before it failed."""
        for name in names:
            self._by_code.pop(name, None)

    def get(self, name: str) -> type:
        """The class registered under `name`; UserError says why when there is none or it cannot be imported."""
        entry = self.entries.get(name)
        if entry is None:
            raise UserError(
                f"no {self.kind} part is called '{name}'{nearest(name, self.entries)} "
                f"(registered: {', '.join(self.entries)})"
            )
        if entry.clash:
            raise UserError(
                f"{self.kind}/{name} is claimed by {entry.owner} and by {entry.clash}; uninstall or rename one"
            )
        if isinstance(entry.target, type):
            return entry.target
        module, _, attribute = entry.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:  # a plugin may fail in any way while it is imported
            raise UserError(
                f"{self.kind}/{name} ({entry.owner}) cannot be imported from {entry.target}: "
                f"{type(error).__name__}: {error}"
            ) from error


def _path(part: type) -> tuple[str, str]:
    return part.__module__, part.__qualname__


ENCODERS = Registry(
    "encoders",
    {
        "resnet": "encoders.resnet:ResNetEncoder",
        "conv": "encoders.conv:ConvEncoder",
        "mlp": "encoders.mlp:MLPEncoder",
        "timm": "encoders.timm:TimmEncoder",
    },
)
LATENTS = Registry("latents", {"gaussian": "latents.gaussian:GaussianLatent"})
DECODERS = Registry(
    "decoders",
    {
        "resnet": "decoders.resnet:ResNetDecoder",
        "conv": "decoders.conv:ConvDecoder",
        "mlp": "decoders.mlp:MLPDecoder",
    },
)
HEADS = Registry(
    "heads",
    {
        "single": "heads.single:SingleHead",
        "split": "heads.split:SplitHead",
        "mixture": "heads.mixture:MixtureHead",
    },
)
OBJECTIVES = Registry("objectives", {"elbo": "objectives.elbo:ELBO"})
SAMPLERS = Registry("samplers", {"prior": "samplers.prior:PriorSampler", "gmm": "samplers.gmm:GMMSampler"})
DATASETS = Registry(
    "datasets",
    {
        "digits": "data.digits:Digits",
        "faces": "data.faces:Faces",
        "mnist": "data.torchvision:MNIST",
        "fashion_mnist": "data.torchvision:FashionMNIST",
        "cifar10": "data.torchvision:CIFAR10",
        "celeba": "data.celeba:CelebA",
        "folder": "data.folder:Folder",
        "npz": "data.npz:NPZ",
    },
)
FEATURES = Registry(
    "features",
    {
        "efficientnet_lite0": "features.efficientnet_lite0:EfficientNetLite0",
        "inception": "features.inception:Inception",
    },
)

KINDS = {
    registry.kind: registry
    for registry in (ENCODERS, LATENTS, DECODERS, HEADS, OBJECTIVES, SAMPLERS, DATASETS, FEATURES)
}
