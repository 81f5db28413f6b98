"""Plugins that come and go within one test."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from genzoo import registry

MINE = '''import genzoo
from genzoo.config import Config
from genzoo.layers import FromFeatures
from pydantic import Field
from torch import nn


@genzoo.DECODERS.register("mine")
class Mine(nn.Module):
    """One dense layer."""

    class Config(Config):
        dim: int = Field(8, description="nothing")

    def __init__(self, config, in_shape, out_shape):
        super().__init__()
        self.layer = FromFeatures(in_shape, out_shape)

    def forward(self, features):
        return self.layer(features)
'''


@pytest.fixture
def own_plugins(monkeypatch):
    """What a test registers, imports or installs is gone after it."""
    registry.entry_points.cache_clear()
    known = {kind: dict(table._by_code) for kind, table in registry.KINDS.items()}
    modules = set(sys.modules)
    yield
    for kind, table in registry.KINDS.items():
        table._by_code = known[kind]
    for name in set(sys.modules) - modules:
        if name.startswith(("genzoo_", "acme")):
            del sys.modules[name]
    monkeypatch.undo()  # of sys.path, before anybody looks at the installed packages again
    registry.entry_points.cache_clear()


@pytest.fixture
def install(own_plugins, tmp_path, monkeypatch):
    """Make a package known as pip would, by a dist-info folder and a place on sys.path; returns that folder."""
    site = tmp_path / "site"
    site.mkdir()

    def add(name: str, entry_points: str, version: str = "1.0", requires: str = "genzoo>=0.1") -> Path:
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {requires}\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text(entry_points)
        importlib.invalidate_caches()
        registry.entry_points.cache_clear()
        return site

    monkeypatch.syspath_prepend(site)
    return add


@pytest.fixture
def call(call, monkeypatch, tmp_path):
    """The command line, called beside the plugins and not among them."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return call


@pytest.fixture
def edited(own_plugins, tmp_path):
    """Write the plugin file MINE with (old, new) edits made; returns its path."""

    def write(*edits: tuple[str, str], name: str = "mine.py") -> Path:
        text = MINE
        for old, new in edits:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / name
        path.write_text(text)
        return path

    return write
