"""A tiny run with a split, and its folder for the Hub."""

import shutil

import pytest

from genzoo.recipe import read

TINY = [
    "train.steps=2", "train.batch_size=4", "train.log_every=1", "train.panel_every=2", "train.precision=fp32",
    "evaluation.num_samples=4", "evaluation.num_reference=6", "evaluation.allow_few=true", "evaluation.metrics=[fd]",
    "samplers=[prior, {name: gmm, num_components: 2}]", "model.encoder.base_dim=2", "model.encoder.embed_dim=8",
    "model.latent.dim=3", "model.head.decoder.base_dim=2", "report=false",
]  # fmt: skip


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    from genzoo.run import run

    folder = tmp_path_factory.mktemp("private-place") / "run"
    run(read("svae_digits", TINY), folder)
    return folder


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    from genzoo.export.run import export

    return export(trained, "hf", tmp_path_factory.mktemp("exported") / "hub")[0]


@pytest.fixture
def hub(exported, tmp_path):
    """A copy of the folder, to be damaged."""
    return shutil.copytree(exported, tmp_path / "hub")
