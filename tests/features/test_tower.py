"""clip and timm:NAME on files of random weights, named explicitly: nothing is downloaded, nothing is random unasked."""

import hashlib

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from genzoo.errors import UserError
from genzoo.evaluation.config import EvaluationConfig
from genzoo.features.clip import CLIP, MODEL
from genzoo.features.timm import TimmFeatures

NAMES = ["test_vit.r160_in1k", "test_efficientnet.r160_in1k"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """model -> a file of random weights as timm's repositories have them, classifier and all."""
    folder = tmp_path_factory.mktemp("weights")
    for name in NAMES:
        torch.manual_seed(0)
        save_file(timm.create_model(name.partition(".")[0]).state_dict(), folder / f"{name}.safetensors")
    return lambda name: folder / f"{name}.safetensors"


def images(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_equals_timm_on_pils_resize(weights, name):
    extractor = TimmFeatures(TimmFeatures.Config(model=name, weights=weights(name)))
    net = timm.create_model(name.partition(".")[0], checkpoint_path=weights(name)).eval()
    net.reset_classifier(0)
    batch = images(3, 3, 40, 40)
    x = torch.stack(
        [
            torch.stack([torch.from_numpy(np.array(Image.fromarray(plane.numpy(), "F").resize((160, 160), 3)))
                         for plane in image.float()])
            for image in batch
        ]
    )  # fmt: skip
    cfg = net.pretrained_cfg
    x = (x.clamp(0, 255) / 255 - torch.tensor(cfg["mean"]).view(3, 1, 1)) / torch.tensor(cfg["std"]).view(3, 1, 1)
    with torch.no_grad():
        expected = net(x)
    made = extractor(batch)
    assert made.shape == (3, extractor.dim) and made.dtype == torch.float32
    torch.testing.assert_close(made, expected, rtol=1e-3, atol=1e-3)
    assert extractor.protocol["weights_sha256"] == hashlib.sha256(weights(name).read_bytes()).hexdigest()
    assert "160" in str(extractor.protocol["size"]) and str(weights(name)) not in str(extractor.protocol)


@pytest.mark.parametrize("shape", [(2, 1, 9, 30), (2, 3, 200, 200), (2, 4, 32, 32)])
def test_any_size_and_channels_frozen_and_alone_as_in_a_batch(weights, shape):
    extractor = TimmFeatures(TimmFeatures.Config(model=NAMES[0], weights=weights(NAMES[0]), size=64))
    made = extractor(images(*shape))
    assert made.isfinite().all() and extractor.protocol["size"] == 64
    torch.testing.assert_close(extractor(images(*shape)[1:]), made[1:], rtol=1e-4, atol=1e-5)
    assert not any(p.requires_grad for p in extractor.parameters()) and not extractor.net.training


def test_clip_is_the_projection_of_openais_network(tmp_path):
    """On the real network's layout with random weights: 512 projected features, QuickGELU."""
    with torch.device("meta"):
        net = timm.create_model(MODEL.partition(".")[0], num_classes=512).eval()
    net.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.randn(value.shape, generator=generator) * 0.03 for key, value in net.state_dict().items()}
    net.load_state_dict(state)
    save_file(state, tmp_path / "clip.safetensors")
    extractor = CLIP(CLIP.Config(weights=tmp_path / "clip.safetensors"))
    assert extractor.dim == 512 and extractor.protocol["output"] == "projected features"
    assert type(extractor.net.blocks[0].mlp.act).__name__ == "QuickGELU"
    batch = images(2, 3, 224, 224)
    x = batch / 255 - torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    x = x / torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    with torch.no_grad():
        tokens = net.forward_features(x)
        expected = tokens[:, 0] @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(extractor(batch), expected, rtol=1e-3, atol=1e-4)


def test_dinov2_is_the_class_token_at_224(monkeypatch):
    made = {}
    monkeypatch.setattr(TimmFeatures.__mro__[1], "__init__", lambda self, *a, **k: made.update(k, model=a[0]))
    TimmFeatures(TimmFeatures.Config())
    assert made == {"model": "vit_large_patch14_dinov2.lvd142m", "size": 224}
    net = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=28).eval()
    with torch.no_grad():
        x = torch.randn(1, 3, 28, 28)
        torch.testing.assert_close(net(x), net.forward_features(x)[:, 0])


@pytest.mark.parametrize(
    "text, expected",
    [
        (f"timm:{NAMES[0]}", {"model": NAMES[0], "size": None}),
        (f"timm:{NAMES[0]}@96", {"model": NAMES[0], "size": 96}),
    ],
)
def test_the_short_form_in_a_recipe(text, expected):
    [metric] = EvaluationConfig(metrics=[{"name": "fd", "features": text}]).metrics
    assert metric.features.name == "timm" and metric.features.model_dump(exclude={"name", "weights"}) == expected
    again = EvaluationConfig.model_validate(EvaluationConfig(metrics=[metric]).model_dump(mode="json"))
    assert again.metrics[0].features == metric.features


@pytest.mark.parametrize("text", ["timm:", "timm:x@many", "inception:clean"])
def test_a_wrong_short_form_is_explained(text):
    with pytest.raises(ValueError, match=r"timm:NAME"):
        EvaluationConfig(metrics=[{"name": "fd", "features": text}])


def test_without_weights_the_error_says_which_file_goes_where(monkeypatch, tmp_path, weights):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path))

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a: None)
    config = TimmFeatures.Config(model=NAMES[0])
    place = tmp_path / "weights" / f"{NAMES[0]}.safetensors"
    for call in (TimmFeatures.fetch, TimmFeatures):
        with pytest.raises(UserError, match="resolve/main/model") as error:
            call(config)
        assert str(place) in str(error.value)
    with pytest.raises(UserError, match=r"vit_base_patch32_clip_224.openai/resolve/main"):
        CLIP.fetch(CLIP.Config())
    place.parent.mkdir()
    place.write_bytes(weights(NAMES[0]).read_bytes())
    assert TimmFeatures(config).dim == 64


def test_wrong_names_and_files_are_explained(tmp_path, weights):
    for name in ("vit_smal_patch14_dinov2.lvd142m", "test_vit.nobody"):
        with pytest.raises(UserError, match=r"no pretrained network.*did you mean"):
            TimmFeatures.fetch(TimmFeatures.Config(model=name))
    with pytest.raises(UserError, match="no file of weights"):
        TimmFeatures.fetch(TimmFeatures.Config(model=NAMES[0], weights=tmp_path / "none.pt"))
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(UserError, match="no safetensors file and no state_dict"):
        TimmFeatures(TimmFeatures.Config(model=NAMES[0], weights=tmp_path / "text.pt"))
    with pytest.raises(UserError, match="cannot be made"):
        TimmFeatures(TimmFeatures.Config(model=NAMES[0], weights=weights(NAMES[1])))


def test_pickled_code_is_not_run(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError):
        TimmFeatures(TimmFeatures.Config(model=NAMES[0], weights=tmp_path / "bomb.pth"))
    assert not (tmp_path / "ran").exists()
