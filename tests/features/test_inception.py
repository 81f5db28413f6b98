import hashlib

import numpy as np
import pytest
import torch
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.resize import build_resizer
from torch import Tensor, nn

from genzoo.errors import UserError
from genzoo.features import inception
from genzoo.features.inception import Inception

NAME = "inception-2015-12-05.pt"


class Net(nn.Module):
    """Random weights behind the interface of the published file: `layers` on resized, normalised images."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 24, 9, stride=5), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(216, 2048)
        )

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        x = nn.functional.interpolate(x, size=[299, 299], mode="bilinear")
        return self.layers((x - 128) / 128)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / NAME
    torch.jit.script(Net()).save(path)
    inception.trusted.add(hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def rgb(channels, size, seed=1):
    """Images b c h w, and as clean-fid's loader hands them on: h w 3."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (3, channels, *size), dtype=torch.uint8, generator=generator)
    return images, images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def cleanfid_features(model, mode, arrays):
    """What clean-fid's dataset and `get_batch_features` do with them."""
    resizer = build_resizer(mode)
    resized = torch.stack([torch.from_numpy(np.array(resizer(array))).permute(2, 0, 1).float() for array in arrays])
    with torch.no_grad():
        return model(resized)


@pytest.mark.parametrize("size", [(32, 32), (299, 299), (400, 250)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["clean", "legacy_tensorflow"])
def test_equals_clean_fids_own_path(weights, size, channels, mode):
    images, arrays = rgb(channels, size)
    ours = Inception(Inception.Config(weights=weights, mode=mode))
    theirs = InceptionV3W(str(weights.parent), download=False, resize_inside=mode == "legacy_tensorflow")
    assert ours.dim == 2048
    torch.testing.assert_close(ours(images), cleanfid_features(theirs, mode, arrays), rtol=1e-4, atol=1e-5)


def test_legacy_pytorch_equals_clean_fids_own_path(monkeypatch, tmp_path):
    torch.manual_seed(0)
    from cleanfid import inception_pytorch

    state = {}

    def remember(net):
        """Random weights of a size that keeps the signal alive through the network."""
        for name, value in net.state_dict().items():
            fan_in = value[0].numel() if value.ndim > 1 else 1
            state[name] = torch.randn_like(value) * (2 / fan_in) ** 0.5 if value.ndim > 1 else value
        return state

    original = nn.Module.load_state_dict
    monkeypatch.setattr(inception_pytorch, "load_state_dict_from_url", lambda *a, **k: None)
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda net, given: original(net, given or remember(net)))
    theirs = inception_pytorch.InceptionV3(output_blocks=[3], resize_input=False).eval()
    monkeypatch.undo()
    torch.save(state, tmp_path / "weights.pth")

    ours = Inception(Inception.Config(weights=tmp_path / "weights.pth", mode="legacy_pytorch"))
    images, arrays = rgb(3, (40, 60))
    expected = cleanfid_features(lambda x: theirs(x / 255)[0].flatten(1), "legacy_pytorch", arrays)
    assert expected.std() > 1e-3
    torch.testing.assert_close(ours(images), expected, rtol=1e-3, atol=1e-4)
    assert "bilinear" in ours.protocol["resize"]


def test_other_weights_are_marked(weights):
    protocol = Inception(Inception.Config(weights=weights)).protocol
    assert protocol["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert "not comparable" in protocol["note"]


def test_without_a_network_the_error_says_which_file_goes_where(monkeypatch, tmp_path):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(inception, "TORCHSCRIPT", ((tmp_path / NAME).as_uri(), "0" * 64))
    with pytest.raises(UserError) as error:
        Inception.fetch(Inception.Config())
    assert str(tmp_path / "weights" / NAME) in str(error.value) and "weights" in str(error.value)
    assert not list(tmp_path.rglob("*.pt"))


def test_the_download_is_verified_and_kept(monkeypatch, tmp_path, weights):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(inception, "TORCHSCRIPT", (weights.as_uri(), "0" * 64))
    with pytest.raises(UserError, match="its sha256 is"):
        Inception.fetch(Inception.Config())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "TORCHSCRIPT", (weights.as_uri(), digest))
    Inception.fetch(Inception.Config())
    assert "note" not in Inception(Inception.Config()).protocol
    (tmp_path / "weights" / NAME).write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        Inception(Inception.Config())


def test_another_file_is_refused(tmp_path):
    (tmp_path / "other.pt").write_bytes(b"no TorchScript")
    with pytest.raises(UserError, match="not the published Inception file"):
        Inception(Inception.Config(weights=tmp_path / "other.pt"))
    inception.trusted.add(hashlib.sha256(b"no TorchScript").hexdigest())
    with pytest.raises(UserError, match="not the InceptionV3"):
        Inception(Inception.Config(weights=tmp_path / "other.pt"))
    with pytest.raises(UserError, match="no Inception file"):
        Inception.fetch(Inception.Config(weights=tmp_path / "absent.pt"))


class Trap(nn.Module):
    """A program that leaves a mark."""

    def __init__(self, mark: str):
        super().__init__()
        self.mark, self.layers = mark, nn.Flatten()

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        written = torch.from_file(self.mark, True, 4, dtype=torch.uint8)
        return x.new_zeros(len(x), 2048) + written.sum()


@pytest.mark.parametrize("mode", ["clean", "legacy_tensorflow", "legacy_pytorch"])
def test_no_program_of_an_unknown_file_is_run(tmp_path, mode):
    mark = tmp_path / "mark"
    torch.jit.script(Trap(str(mark))).save(tmp_path / NAME)
    with pytest.raises(UserError, match=r"not the published Inception file|not the InceptionV3"):
        Inception(Inception.Config(weights=tmp_path / NAME, mode=mode))
    assert not mark.exists()
    if mode == "legacy_tensorflow":  # it would have: this test can fail
        inception.trusted.add(hashlib.sha256((tmp_path / NAME).read_bytes()).hexdigest())
        Inception(Inception.Config(weights=tmp_path / NAME, mode=mode))
        assert mark.exists()
