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


class Net(nn.Module):
    """Random weights behind the interface of the published file: `layers` on resized, normalised images."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 24, 9, stride=5), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(216, 2048)
        )

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        return self.layers((x - 128) / 128)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / "inception-2015-12-05.pt"
    torch.jit.script(Net()).save(path)
    return path


@pytest.mark.parametrize("size", [(32, 32), (299, 299), (400, 250)])
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_clean_fids_own_path(weights, size, channels):
    images = torch.randint(0, 256, (3, channels, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    ours = Inception(Inception.Config(weights=weights))
    resizer = build_resizer("clean")
    theirs = InceptionV3W(str(weights.parent), download=False, resize_inside=False)
    arrays = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    resized = torch.from_numpy(np.stack([resizer(array) for array in arrays])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = theirs(resized)
    torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-5)


def test_other_weights_are_marked(weights):
    protocol = Inception(Inception.Config(weights=weights)).protocol
    assert protocol["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert "not comparable" in protocol["note"]


def test_without_a_network_the_error_says_which_file_goes_where(monkeypatch, tmp_path):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(inception, "URL", (tmp_path / "nowhere.pt").as_uri())
    with pytest.raises(UserError) as error:
        Inception.fetch(Inception.Config())
    assert str(tmp_path / "weights" / "inception-2015-12-05.pt") in str(error.value) and "weights" in str(error.value)
    assert not list(tmp_path.rglob("*.pt"))


def test_the_download_is_verified_and_kept(monkeypatch, tmp_path, weights):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(inception, "URL", weights.as_uri())
    with pytest.raises(UserError, match="its sha256 is"):
        Inception.fetch(Inception.Config())
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", hashlib.sha256(weights.read_bytes()).hexdigest())
    Inception.fetch(Inception.Config())
    assert "note" not in Inception(Inception.Config()).protocol
    (tmp_path / "weights" / "inception-2015-12-05.pt").write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        Inception(Inception.Config())


def test_another_file_is_refused(tmp_path):
    (tmp_path / "other.pt").write_bytes(b"no TorchScript")
    with pytest.raises(UserError, match="not the TorchScript InceptionV3"):
        Inception(Inception.Config(weights=tmp_path / "other.pt"))
    with pytest.raises(UserError, match="no Inception file"):
        Inception.fetch(Inception.Config(weights=tmp_path / "absent.pt"))
