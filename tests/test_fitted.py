"""Samplers that were fitted in a run folder, read again."""

import json

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from genzoo.fitted import _digest
from genzoo.recipe import read
from genzoo.run import run

TINY = [
    "model.encoder.base_dim=2", "model.encoder.embed_dim=8", "model.latent.dim=3", "model.head.decoder.base_dim=2",
    "train.steps=2", "train.batch_size=4", "train.panel_every=0", "evaluation.num_samples=4", "evaluation.metrics=[]",
    "evaluation.num_reference=4", "report=false", "samplers=[{name: gmm, num_components: 2}]",
]  # fmt: skip


@pytest.mark.parametrize(("changed", "kept"), [({"by_position": None}, True), ({"num_components": 3}, False)])
def test_options_that_came_later_were_at_their_default(tmp_path, call, changed, kept):
    run(read("vae_digits", TINY), tmp_path / "run")
    file = tmp_path / "run/samplers/gmm.safetensors"
    with safe_open(file, "pt") as opened:
        fitted = json.loads(opened.metadata()["fitted"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    options = {**fitted["options"], **changed}
    fitted["options"] = {key: value for key, value in options.items() if value is not None or key not in changed}
    text = json.dumps(fitted)
    save_file(tensors, file, {"fitted": text, "sha256": _digest(text, tensors)})
    code, _, err = call("sample", tmp_path / "run", "--sampler", "gmm", "--num", "2", "--out", tmp_path / "out")
    assert (code == 0) == kept, err
