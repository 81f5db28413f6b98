"""`genzoo fid A B` below the command line: sides of every kind, the cache, and clean-fid's own numbers."""

import json
import shutil
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from cleanfid import fid as cleanfid
from PIL import Image
from torch import Tensor, nn

from genzoo import sides
from genzoo.errors import UserError
from genzoo.evaluation import scorer
from genzoo.evaluation.compare import compare
from genzoo.evaluation.config import EvaluationConfig
from genzoo.evaluation.extraction import statistics_of
from genzoo.evaluation.extractor import make_extractor
from genzoo.evaluation.images import BATCH_VALUES, Images, from_array, spread
from genzoo.evaluation.statistics import cache_path, cached, write_statistics
from genzoo.evaluation.work import Work
from genzoo.features import inception
from genzoo.features.inception import Inception
from genzoo.files import sha256
from genzoo.frechet import Statistics, frechet_distance

DIM = 12


class Net(nn.Module):
    """Random weights behind the interface of the published Inception file, with few features."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 11, stride=6), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, DIM)
        )

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        return self.layers((nn.functional.interpolate(x, size=[299, 299]) - 128) / 128)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "inception-2015-12-05.pt"
    torch.jit.script(Net()).save(path)
    inception.trusted.add(sha256(path))
    return path


def metrics(weights, *names, mode="clean"):
    features = {"name": "inception", "weights": weights, "mode": mode}
    return EvaluationConfig(metrics=[{"name": name, "features": features} for name in names or ["fid"]]).metrics


def open_side(name, num=None):
    if name == "noise:test":
        noise = np.random.default_rng(5).integers(0, 256, (20, 9, 9, 1), dtype=np.uint8)
        return from_array(name, noise, num)
    return sides.side(str(name), num)


def draw(seed, num, sizes, mode="RGB"):
    """Smooth pictures, two sides of which differ."""
    rng = np.random.default_rng(seed)
    for k in range(num):
        small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        yield small.resize(sizes[k % len(sizes)], Image.BICUBIC).convert(mode)


def write(folder, images, suffix="png"):
    for k, image in enumerate(images):
        path = folder / f"part{k % 3}" / f"{k:03d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return folder


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("sizes", [[(32, 32)], [(320, 310)], [(20, 44), (301, 400), (299, 299)]])
@pytest.mark.parametrize(
    "mode, suffix, container",
    [
        ("RGB", "png", "folder"),
        ("L", "png", "zip"),
        ("RGB", "jpg", "zip"),
        ("L", "jpg", "folder"),
        ("RGBA", "png", "zip"),
    ],
)
def test_equals_clean_fid(weights, tmp_path, container, mode, suffix, sizes):
    a = write(tmp_path / "a", draw(0, 15, sizes, mode), suffix)
    b = write(tmp_path / "b", draw(1, 14, sizes, mode), suffix)
    if container == "zip":
        a, b = zipped(a, tmp_path / "a.zip"), zipped(b, tmp_path / "b.zip")
    net = torch.jit.load(weights)
    theirs = cleanfid.compute_fid(
        str(a),
        str(b),
        mode="clean",
        num_workers=0,
        batch_size=1 if len(sizes) > 1 else 8,
        device=torch.device("cpu"),
        custom_feat_extractor=lambda x: net.layers((x - 128) / 128),
        verbose=False,
    )
    [entry] = compare(open_side(a), open_side(b), metrics(weights))
    assert abs(entry["value"] - theirs) <= 1e-3 * max(1, theirs)
    assert theirs > 1e-4
    assert (entry["num_samples"], entry["num_reference"]) == (15, 14)


def test_value_does_not_depend_on_batch_order_names_or_workers(weights, tmp_path, monkeypatch):
    pictures = list(draw(0, 20, [(16, 16), (30, 20)]))
    a, shuffled = write(tmp_path / "a", pictures), write(tmp_path / "shuffled", pictures[::-1])
    b = write(tmp_path / "b", draw(1, 20, [(16, 16)]))
    values = []
    for side, size, workers in ((a, 64, 2), (a, 1, 1), (a, 5, 11), (shuffled, 7, 3)):
        monkeypatch.setattr("os.cpu_count", lambda workers=workers: workers)
        monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / f"cache{size}"))  # else the first would be kept
        values.append(compare(open_side(side), open_side(b), metrics(weights), work=Work(batch_size=size))[0]["value"])
    np.testing.assert_allclose(values, values[0], rtol=1e-6)
    with pytest.raises(UserError, match="the same images"):
        compare(open_side(a), open_side(shuffled), metrics(weights))


class OneStep(nn.Module):
    """Features that offer nothing but the call."""

    def __init__(self, features):
        super().__init__()
        self.features, self.dim, self.protocol = features, features.dim, {**features.protocol, "one_step": True}

    def forward(self, images):
        return self.features(images)


@pytest.mark.parametrize("mode, name", [("clean", "fid"), ("clean", "kid"), ("legacy_tensorflow", "fid")])
def test_images_of_many_sizes_share_the_batches_of_the_network(weights, tmp_path, monkeypatch, mode, name):
    sides = [write(tmp_path / "ab"[k], draw(k, 21, [(16 + k, 60 - k) for k in range(21)])) for k in (0, 1)]
    seen = []
    original = Inception.of_resized
    monkeypatch.setattr(Inception, "of_resized", lambda self, x: seen.append(len(x)) or original(self, x))

    def score():
        made = compare(*map(open_side, sides), metrics(weights, name, mode=mode), work=Work(batch_size=8))
        return made[0]["value"]

    value, [_, *batches] = score(), seen  # the first call is the constructor's
    assert batches == (2 * [8, 8, 5] if mode == "clean" else 42 * [1])
    monkeypatch.setattr(scorer, "make_extractor", lambda *given: OneStep(make_extractor(*given)))
    seen.clear()
    assert score() == pytest.approx(value, rel=1e-6)
    assert seen == 43 * [1]


def test_statistics_are_made_once_for_the_same_content_and_protocol(tmp_path, released, monkeypatch):
    pixels = released
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    protocol = {"name": "pixels", "side": 2, "gain": 1.0, "weights_sha256": "none", "network": "pixels"}
    pixel_metric = EvaluationConfig(metrics=[{"name": "fd", "features": "pixels"}]).metrics
    a = write(tmp_path / "a", draw(0, 12, [(16, 16)]))
    b = write(tmp_path / "b", draw(1, 12, [(16, 16)]))
    first = compare(open_side(a), open_side(b), pixel_metric)
    assert pixels.num_seen == 24
    assert (
        compare(open_side(write(tmp_path / "copy", draw(0, 12, [(16, 16)]))), open_side(b), pixel_metric)[0]["value"]
        == first[0]["value"]
    )
    assert pixels.num_seen == 24
    path = cache_path(open_side(a).digest, protocol)
    path.write_bytes(b"damaged")
    assert cached(open_side(a).digest, protocol) is None
    assert compare(open_side(a), open_side(b), pixel_metric)[0]["value"] == pytest.approx(first[0]["value"])
    assert cached(open_side(a).digest, protocol).n == 12


def test_reference_statistics_in_three_layouts(weights, tmp_path):
    features = metrics(weights)[0].features
    extractor = make_extractor(features, "cpu")
    a, b = (open_side(write(tmp_path / side, draw(k, 20, [(16, 16)]))) for k, side in enumerate("ab"))
    expected = compare(a, b, metrics(weights))[0]["value"]
    statistics = statistics_of(b, extractor)
    write_statistics(tmp_path / "ours.npz", statistics, extractor.protocol)
    mu, sigma = statistics.mean.numpy(), statistics.cov.numpy()
    np.savez(tmp_path / "pytorch_fid.npz", mu=mu, sigma=sigma)
    np.savez(tmp_path / "adm.npz", arr_0=np.zeros((2, 4, 4, 3), np.uint8), mu=mu, sigma=sigma, mu_s=mu, sigma_s=sigma)
    for layout, num in (("ours", 20), ("pytorch_fid", None), ("adm", None)):
        [entry] = compare(a, open_side(tmp_path / f"{layout}.npz"), metrics(weights))
        assert entry["value"] == pytest.approx(expected, rel=1e-6)
        assert entry["num_reference"] == num
    with pytest.raises(UserError, match="kid needs images"):
        compare(a, open_side(tmp_path / "ours.npz"), metrics(weights, "kid"))
    write_statistics(tmp_path / "other.npz", statistics, {**extractor.protocol, "mode": "legacy_tensorflow"})
    with pytest.raises(UserError, match=r"other features.*mode"):
        compare(a, open_side(tmp_path / "other.npz"), metrics(weights))
    np.savez(tmp_path / "small.npz", mu=mu[:3], sigma=sigma[:3, :3])
    with pytest.raises(UserError, match="3 dimensions"):
        compare(a, open_side(tmp_path / "small.npz"), metrics(weights))


def test_images_in_an_npz_and_in_a_dataset(pixels, tmp_path):
    metric = EvaluationConfig(metrics=[{"name": "fd", "features": "pixels"}]).metrics
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "adm.npz", images)
    np.savez(tmp_path / "ours.npz", images=images[:25], labels=np.zeros(25))
    entry = compare(open_side(tmp_path / "adm.npz"), open_side("noise:test", num=15), metric)[0]
    extractor = pixels(pixels.Config(name="pixels"))
    noise = np.random.default_rng(5).integers(0, 256, (20, 9, 9, 1), dtype=np.uint8)[spread(20, 15)]
    sides = [Statistics.of(extractor(torch.from_numpy(x).permute(0, 3, 1, 2))) for x in (images, noise)]
    assert entry["value"] == pytest.approx(frechet_distance(*sides), rel=1e-6)
    assert open_side(tmp_path / "ours.npz").num == 25


def test_what_was_found_is_told(tmp_path):
    folder = write(tmp_path / "a", draw(0, 6, [(16, 16), (8, 20)]))
    write(tmp_path / "a" / "deep", draw(0, 2, [(16, 16)], "L"), "jpg")
    found = open_side(folder).found
    assert found["count"] == 8 and found["sizes"] == {"16x16": 5, "8x20": 3}
    assert found["modes"] == {"RGB": 6, "L": 2} and found["lossy"] == 2 and found["duplicates"] == 0
    (folder / "again.png").write_bytes((folder / "part0" / "000.png").read_bytes())
    assert open_side(folder).found["duplicates"] == 1
    json.dumps(found)


def test_what_makes_a_number_meaningless_is_refused_in_one_sentence(weights, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("none")
    with pytest.raises(UserError, match="no image files"):
        open_side(empty)
    with pytest.raises(UserError, match="did you mean 'empty'"):
        open_side(tmp_path / "emty")
    a, b = write(tmp_path / "a", draw(0, 9, [(16, 16)])), write(tmp_path / "b", draw(1, 9, [(16, 16)]))
    with pytest.raises(UserError, match=r"9 .* images for 12 feature dimensions"):
        compare(open_side(a), open_side(b), metrics(weights))
    [entry] = compare(open_side(a), open_side(b), metrics(weights), allow_few=True)
    assert entry["value"] > 0 and "singular" in entry["few"]
    (a / "broken.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UserError, match=r"1 of 10 files cannot be used.*broken.png"):
        open_side(a)
    (a / "broken.png").unlink()
    whole = (a / "part0" / "000.png").read_bytes()
    (a / "part0" / "000.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"000.png cannot be decoded"):
        compare(open_side(a), open_side(b), metrics(weights), allow_few=True)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(a / "part0" / "000.tiff")
    with pytest.raises(UserError, match="32-bit numbers of unknown range"):
        open_side(a)
    np.savez(tmp_path / "objects.npz", images=np.array([{}], dtype=object))
    np.savez(tmp_path / "floats.npz", images=np.full((3, 4, 4, 3), 9.0))
    np.savez(tmp_path / "flat.npz", x=np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(b"PK")
    for name, message in {
        "objects": "neither statistics",
        "floats": "in floats are in \\[0, 1\\]",
        "flat": "neither statistics",
        "cut": "not a readable",
    }.items():
        with pytest.raises(UserError, match=message):
            open_side(tmp_path / f"{name}.npz")


def test_images_of_an_npz_are_streamed(tmp_path, released, monkeypatch):
    """Statistics of a file much larger than what is held of it; compressed or not, every second image or all."""
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    metric = EvaluationConfig(metrics=[{"name": "fd", "features": "pixels"}]).metrics
    images = np.random.default_rng(0).integers(0, 256, (3000, 8, 8, 3), dtype=np.uint8)
    images = images.repeat(8, axis=1).repeat(8, axis=2)  # 37 MB
    np.savez(tmp_path / "stored.npz", images=images, mu=np.zeros(3))
    np.savez_compressed(tmp_path / "packed.npz", images)
    expected = from_array("all", images), from_array("some", images, 700)
    for name in ("stored", "packed"):
        tracemalloc.start()
        whole, some = open_side(tmp_path / f"{name}.npz"), open_side(tmp_path / f"{name}.npz", num=700)
        made = [compare(side, open_side("noise:test"), metric)[0]["value"] for side in (whole, some)]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (whole.digest, some.digest) == (expected[0].digest, expected[1].digest)
        shutil.rmtree(tmp_path / "cache")
        assert made == pytest.approx(
            [compare(side, open_side("noise:test"), metric)[0]["value"] for side in expected], rel=1e-6
        )
        assert peak < 20 << 20  # a few blocks of the file and a batch
    np.savez(tmp_path / "fortran.npz", images=np.asfortranarray(np.zeros((2, 3, 4, 3), np.uint8)))
    with pytest.raises(UserError, match="Fortran"):
        open_side(tmp_path / "fortran.npz")


def test_many_shapes_do_not_pile_up(pixels):
    """No more images wait for others of their shape than fill a few batches."""
    num = 400
    read = lambda index: (np.full((60 + k, 700, 3), k % 256, np.uint8) for k in index)  # noqa: E731
    images = Images("many", num, "digest", read)
    seen, waiting = [], 0
    for index, batch in images.batches(64):
        assert batch.shape[2] == 60 + int(index[0])
        seen += index.tolist()
        waiting = max(waiting, max(seen) + 1 - len(seen))
    assert sorted(seen) == list(range(num))
    assert waiting * 60 * 700 * 3 < 5 * BATCH_VALUES
    [large] = {
        len(index)
        for index, _ in Images("x", 5, "d", lambda i: (np.zeros((4000, 4000, 3), np.uint8) for _ in i)).batches(64)
    }
    assert large == 1  # 48 MB each
