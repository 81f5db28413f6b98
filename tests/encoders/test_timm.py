"""timm's backbones: pretrained weights are asked for when training begins and never again; maps of any stage."""

import shutil

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

import genzoo
from genzoo.config import build
from genzoo.encoders.timm import TimmEncoder
from genzoo.errors import UserError
from genzoo.recipe import read
from genzoo.registry import ENCODERS
from genzoo.run import run
from genzoo.run_scores import evaluate_run
from genzoo.sampling import sample

MODEL = "test_resnet.r160_in1k"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, an empty cache; whatever asks for an address is written down and fails."""
    asked = []

    def refuse(*args, **kwargs):
        asked.append(args)
        raise OSError("no network")

    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
    return asked


@pytest.fixture
def weights(tmp_path):
    """A file of random weights as timm's repositories have them, classifier and all."""
    torch.manual_seed(7)
    save_file(timm.create_model("test_resnet").state_dict(), file := tmp_path / "weights.safetensors")
    return file


def encoder(size=(3, 32, 32), **options) -> TimmEncoder:
    torch.manual_seed(0)
    return build(ENCODERS, TimmEncoder.Config(name="timm", model=MODEL, **options), in_shape=size)


WORDS = ["model.head.decoder.base_dim=2", "train.steps=2", "train.batch_size=4", "train.panel_every=2",
         "train.checkpoint_every=1", "evaluation.num_samples=8", "evaluation.metrics=[]", "samplers=[prior]",
         "data={name: faces, num_train: 12, num_test: 12, size: 32}"]  # fmt: skip


def test_a_run_begins_from_the_weights_and_is_whole_without_them(offline, weights, tmp_path, monkeypatch):
    options = f"model.encoder={{name: timm, model: {MODEL}, weights: {weights}}}"
    recipe = read("svae_digits", [*WORDS, options])
    begun = []
    take = TimmEncoder.load_pretrained
    monkeypatch.setattr(TimmEncoder, "load_pretrained", lambda self: (take(self), begun.append(self))[0])
    run(recipe, folder := tmp_path / "run")
    assert len(begun) == 1
    weights.unlink()
    before = genzoo.load(folder).state_dict()
    evaluate_run(folder)
    sample(folder, 2, tmp_path / "samples")
    run(read("svae_digits", [*WORDS, options, "train.steps=3"]), folder, resume=True)
    assert len(begun) == 1 and not offline
    assert not torch.equal(genzoo.load(folder).state_dict()["encoder.backbone.conv1.0.weight"],
                           before["encoder.backbone.conv1.0.weight"])  # fmt: skip
    # begun from the file: two steps of Adam have moved no weight by more than about 2 lr
    torch.manual_seed(7)
    start = timm.create_model("test_resnet").state_dict()
    for name, value in start.items():
        if name.startswith("layer") and name.endswith("conv1.weight"):
            torch.testing.assert_close(before[f"encoder.backbone.{name}"], value, rtol=0, atol=0.01)
    # a run whose training has not begun yet asks again, before it prepares data
    shutil.rmtree(folder / "checkpoints")
    monkeypatch.setattr("genzoo.run.prepare_splits", None)
    with pytest.raises(UserError, match="no file of weights"):
        run(recipe, folder, resume=True)


def test_checking_a_recipe_downloads_nothing_and_a_run_says_what_to_fetch(offline, tmp_path, call):
    (tmp_path / "mine.yaml").write_text(
        f"name: mine\ndata: {{name: faces, size: 32}}\nmodel: {{encoder: {{name: timm, model: {MODEL}, pretrained: true}}}}\n"
    )
    code, _, err = call("recipes", "validate", str(tmp_path / "mine.yaml"))
    assert code == 0 and not offline, err
    code, _, err = call("run", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "run"))
    assert code == 2 and f"timm/{MODEL}/resolve/main/model.safetensors" in err and "option `weights`" in err
    assert offline and not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [{}, {"out": "map"}, {"out": "map", "reduction": 8}], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_starts_as_timm_does(weights, options, channels, offline):
    part = encoder((channels, 48, 40), weights=weights, **options)
    state = torch.random.get_rng_state()
    part.load_pretrained()
    assert torch.equal(torch.random.get_rng_state(), state)
    theirs = timm.create_model(MODEL, pretrained=True, in_chans=channels, features_only=bool(options),
                               pretrained_cfg_overlay={"file": str(weights)}).eval()  # fmt: skip
    x = torch.rand(2, channels, 48, 40)
    known = timm.models.get_pretrained_cfg(MODEL)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (known.mean, known.std))
    normal = (x - mean) / std if channels == 3 else x
    if options:
        index = theirs.feature_info.reduction().index(options.get("reduction", 32))
        expected = theirs(normal)[index]
        assert part.out_shape == tuple(expected.shape[1:])
    else:
        theirs.reset_classifier(0)
        expected = theirs(normal)
    torch.testing.assert_close(part.eval()(x), expected, rtol=1e-4, atol=1e-5)


def test_a_file_of_another_network_is_refused(weights, tmp_path):
    save_file(timm.create_model("test_vit").state_dict(), other := tmp_path / "vit.safetensors")
    for file, message in ((other, "cannot start from"), (tmp_path / "none.pt", "no file of weights")):
        with pytest.raises(UserError, match=message):
            encoder(weights=file).load_pretrained()
    with pytest.raises(ValidationError, match="pretrained: true, or no weights"):
        encoder(weights=weights, pretrained=False)


def test_options_that_do_not_fit():
    with pytest.raises(ValidationError, match="out: map"):
        encoder(reduction=8)
    with pytest.raises(UserError, match="has maps of reduction 2, 4, 8, 16, 32, not of 7"):
        encoder(out="map", reduction=7)


def test_sizes_that_a_backbone_does_not_take_are_bordered():
    for model in ("test_convnext", "test_vit"):
        for out in ("vector", "map"):
            torch.manual_seed(0)
            config = TimmEncoder.Config(name="timm", model=model, out=out)
            small, large = (build(ENCODERS, config, in_shape=(3, side, side)).eval() for side in (28, 32))
            large.load_state_dict(small.state_dict())
            x = torch.rand(2, 3, 28, 28)
            assert torch.equal(small(x), large(torch.nn.functional.pad(x, (2, 2, 2, 2))))
