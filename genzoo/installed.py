"""What the installed packages say of themselves to genzoo: their entry points, and the versions that they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import Distribution


@dataclass(frozen=True)
class EntryPoint:
    """An entry point of a group `genzoo.*`, with the installed package it comes from."""

    kind: str  # the group without `genzoo.`
    name: str
    target: str
    package: str
    version: str

    @property
    def owner(self) -> str:
        return f"{self.package} {self.version}"


@cache
def entry_points() -> tuple[EntryPoint, ...]:
    """Entry points of all groups `genzoo.*`, from one look at the installed packages."""
    from importlib import metadata

    points = metadata.entry_points()
    return tuple(
        EntryPoint(group.removeprefix("genzoo."), point.name, point.value, *_package(point.dist))
        for group in sorted(points.groups)
        if group.startswith("genzoo.")
        for point in points.select(group=group)
    )


@cache
def _package(distribution: Distribution | None) -> tuple[str, str]:
    return (distribution.name, distribution.version) if distribution else ("unknown package", "")


def unsuited(package: str) -> str:
    """Why an installed package cannot work with this genzoo, by its own `genzoo>=...` requirement; empty if it can."""
    if not package:
        return ""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    for requirement in map(Requirement, requires(package) or ()):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if requirement.name == "genzoo" and (problem := outside(str(requirement.specifier))):
            return f"{problem}; install a version of {package} that suits"
    return ""


def outside(versions: str) -> str:
    """Why this genzoo is not among the versions a plugin was written for (`>=0.1,<0.2`); empty if it is."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from genzoo import __version__

    try:
        if SpecifierSet(versions).contains(__version__, prereleases=True):
            return ""
    except InvalidSpecifier:
        return f"the genzoo versions it asks for cannot be understood: '{versions}' (such as '>=0.1,<0.2')"
    return f"it was written for genzoo {versions}, and this is genzoo {__version__}"
