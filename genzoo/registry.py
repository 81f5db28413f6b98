"""Names of parts: one table a kind. A part is known by name and imported only when it is used."""

from __future__ import annotations

import fnmatch
import importlib
import logging
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

from genzoo.errors import UserError, reason, suggestion
from genzoo.installed import entry_points, unsuited


@dataclass(frozen=True)
class Entry:
    """One registered name."""

    name: str
    target: str | type  # "package.module:Class", or the class itself when registered by code
    owner: str  # the package, file or notebook it comes from, with its version where there is one
    package: str = ""  # the installed package that names it by an entry point
    clash: str = ""  # another owner of the same name: using the name is refused, unless it is genzoo's own


class Registry:
    """The parts of one kind. Reading names imports nothing; `get` imports the one part that is asked for."""

    loading: ClassVar[str] = ""  # owner of whatever registers now, of any kind, while a plugin file is executed

    def __init__(self, kind: str, builtin: dict[str, str]):
        self.kind = kind
        self._builtin = {name: Entry(name, f"genzoo.{target}", "genzoo") for name, target in builtin.items()}
        self._by_code: dict[str, Entry] = {}

    @property
    def _installed(self) -> dict[str, Entry]:
        """Entry points of the group `genzoo.<kind>` of every installed package."""
        entries: dict[str, Entry] = {}
        for point in entry_points():
            if point.kind != self.kind:
                continue
            if own := self._builtin.get(point.name):
                entries[point.name] = replace(own, clash=point.owner)
                continue
            known = entries.get(point.name)
            clash = known.owner if known and known.owner != point.owner else ""
            entries[point.name] = Entry(point.name, point.target, point.owner, point.package, clash)
        return entries

    @property
    def entries(self) -> dict[str, Entry]:
        return dict(sorted({**self._builtin, **self._installed, **self._by_code}.items()))

    def names(self, pattern: str = "*") -> list[str]:
        """Registered names that match a shell-style pattern."""
        return [name for name in self.entries if fnmatch.fnmatchcase(name, pattern)]

    def register(self, name: str):
        """Class decorator: `@DECODERS.register("mine")`. A name that somebody else owns is refused.

        Names are letters, digits, `_`, `-` and `.`, with an owner before a slash if wanted: `acme/convnext`.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UserError(
                f'{self.kind}: {name!r} is no name for a part: `register("mine")` or `register("acme/mine")`'
            )

        def add(part: type) -> type:
            if not isinstance(part, type):
                raise UserError(f"{self.kind}/{name}: `register` goes above a class, not {part!r}")
            owner = self.loading or part.__module__
            known = self.entries.get(name)
            # Running a notebook cell again replaces the class it registered before.
            again = not self.loading and known and isinstance(known.target, type) and _path(known.target) == _path(part)
            if known and not again:
                raise UserError(f"{self.kind}/{name} is registered twice: by {known.owner} and by {owner}; rename one")
            self._by_code[name] = Entry(name, part, owner)
            return part

        return add

    def forget(self, names: set[str]) -> None:
        """Take back what a plugin registered before it failed."""
        for name in names:
            self._by_code.pop(name, None)

    def get(self, name: str) -> type[Any]:
        """The class registered under `name`; UserError says why when there is none or it cannot be imported."""
        entry = self.entries.get(name)
        if entry is None:
            raise UserError(self._unknown(name))
        place = f"{self.kind}/{name}"
        if entry.clash and entry.owner == "genzoo":
            _warn(f"{place} of {entry.clash} is not used: the name is genzoo's own; rename it, such as OWNER/{name}")
        elif entry.clash:
            raise UserError(f"{place} is claimed by {entry.owner} and by {entry.clash}; uninstall or rename one")
        if isinstance(entry.target, type):
            return entry.target
        if problem := unsuited(entry.package):
            raise UserError(f"{place} ({entry.owner}): {problem}")
        module, _, attribute = entry.target.partition(":")
        try:
            part = getattr(importlib.import_module(module), attribute, None)
        except (Exception, SystemExit) as error:  # a plugin may fail in any way while it is imported
            raise UserError(
                f"{place} ({entry.owner}) cannot be imported from {entry.target}: {reason(error)}"
            ) from error
        if not isinstance(part, type):
            raise UserError(f"{place} ({entry.owner}): {module} has no class '{attribute}'; correct its entry point")
        return part

    def _unknown(self, name: str) -> str:
        """Why there is no such part: another kind's, an owner that is not installed, or a nearby name."""
        message = f"no {self.kind} part is called '{name}'"
        for other in KINDS.values():
            if other is not self and name in other.entries:
                return f"{message}: it is one of the {other.kind}"
        owner, slash, _ = name.rpartition("/")
        known = {part for registry in KINDS.values() for part in registry.entries}
        if slash and not any(part.startswith(f"{owner}/") for part in known):
            return (
                f"{message}, and no installed package registers names of '{owner}/': install the one that does, or "
                "name its file under `plugins:` or with --plugin (`genzoo plugins` lists what was found)"
            )
        bare = name.rpartition("/")[2]  # `convnext` may have become `acme/convnext`, or the other way round
        moved = [part for part in self.entries if part.rpartition("/")[2] == bare]
        close = f"; did you mean '{moved[0]}'?" if moved else suggestion(name, self.entries)
        return f"{message}{close} (registered: {', '.join(self.entries)})"


NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@cache
def _warn(message: str) -> None:
    """Once."""
    logging.getLogger("genzoo").warning(message)


def _path(part: type) -> tuple[str, str]:
    return part.__module__, part.__qualname__


ENCODERS = Registry(
    "encoders",
    {
        "resnet": "encoders.resnet:ResNetEncoder",
        "conv": "encoders.conv:ConvEncoder",
        "mlp": "encoders.mlp:MLPEncoder",
        "vit": "encoders.vit:ViTEncoder",
        "convnext": "encoders.convnext:ConvNeXtEncoder",
        "timm": "encoders.timm:TimmEncoder",
    },
)
LATENTS = Registry(
    "latents",
    {
        "gaussian": "latents.gaussian:GaussianLatent",
        "spatial_gaussian": "latents.spatial_gaussian:SpatialGaussianLatent",
        "vmf": "latents.vmf:VMFLatent",
        "ladder": "latents.ladder:LadderLatent",
        "deterministic": "latents.deterministic:DeterministicLatent",
        "vq": "latents.vq:VQLatent",
        "rvq": "latents.rvq:RVQLatent",
        "fsq": "latents.fsq:FSQLatent",
        "lfq": "latents.lfq:LFQLatent",
    },
)
PRIORS = Registry("priors", {"mog": "priors.mog:MixturePrior", "vamp": "priors.vamp:VampPrior"})
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
        "gaussian": "heads.gaussian:GaussianHead",
        "logistic": "heads.logistic:LogisticHead",
    },
)
OBJECTIVES = Registry(
    "objectives",
    {
        "elbo": "objectives.elbo:ELBO",
        "iwae": "objectives.iwae:IWAE",
        "tc": "objectives.tc:TC",
        "mmd": "objectives.mmd:MMD",
        "ae": "objectives.ae:AE",
    },
)
TERMS = Registry(
    "terms",
    {
        "perceptual": "terms.perceptual:Perceptual",
        "adversarial": "terms.adversarial:Adversarial",
        "total_variation": "terms.total_variation:TotalVariation",
        "high_frequency": "terms.high_frequency:HighFrequency",
        "gradient_penalty": "terms.gradient_penalty:GradientPenalty",
        "dip": "terms.dip:DIP",
    },
)
SAMPLERS = Registry(
    "samplers",
    {
        "prior": "samplers.prior:PriorSampler",
        "gmm": "samplers.gmm:GMMSampler",
        "seed_protocol": "samplers.seed_protocol:SeedProtocolSampler",
        "two_stage": "samplers.two_stage:TwoStageSampler",
        "flow": "samplers.flow:FlowSampler",
        "flow_matching": "samplers.flow_matching:FlowMatchingSampler",
        "autoregressive": "samplers.autoregressive:AutoregressiveSampler",
        "maskgit": "samplers.maskgit:MaskGITSampler",
    },
)
DATASETS = Registry(
    "datasets",
    {
        "digits": "data.digits:Digits",
        "faces": "data.faces:Faces",
        "mnist": "data.mnist:MNIST",
        "fashion_mnist": "data.mnist:FashionMNIST",
        "cifar10": "data.cifar10:CIFAR10",
        "celeba": "data.celeba:CelebA",
        "folder": "data.folder:Folder",
        "npz": "data.npz:NPZ",
        "hf": "data.hf:HF",
        "webdataset": "data.webdataset:WebDataset",
    },
)
FEATURES = Registry(
    "features",
    {
        "efficientnet_lite0": "features.efficientnet_lite0:EfficientNetLite0",
        "inception": "features.inception:Inception",
        "clip": "features.clip:CLIP",
        "timm": "features.timm:TimmFeatures",
    },
)

METRICS = Registry(
    "metrics",
    {
        "fd": "metrics.fd:FD",
        "fid": "metrics.fid:FID",
        "fd_infinity": "metrics.fd_infinity:FDInfinity",
        "kid": "metrics.kid:KID",
        "precision_recall": "metrics.precision_recall:PrecisionRecall",
        "density_coverage": "metrics.density_coverage:DensityCoverage",
        "memorization": "metrics.memorization:Memorization",
        "nll": "metrics.nll:NLL",
        "active_units": "metrics.active_units:ActiveUnits",
        "mutual_information": "metrics.mutual_information:MutualInformation",
        "aggregate_kl": "metrics.aggregate_kl:AggregateKL",
        "codebook": "metrics.codebook:Codebook",
        "rate_distortion": "metrics.rate_distortion:RateDistortion",
    },
)

KINDS = {
    registry.kind: registry
    for registry in (
        ENCODERS,
        LATENTS,
        PRIORS,
        DECODERS,
        HEADS,
        OBJECTIVES,
        TERMS,
        SAMPLERS,
        DATASETS,
        FEATURES,
        METRICS,
    )
}
