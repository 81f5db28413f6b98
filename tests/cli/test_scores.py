"""`genzoo fid`, `stats`, `neighbors`, `compare`, `cache`: what they print, write and refuse."""

import io
import json
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import genzoo as package
from genzoo.cli import cli
from genzoo.errors import UserError, plain
from genzoo.files import sha256
from genzoo.registry import FEATURES, Entry
from genzoo.testing.features import Pixels

ROOT = Path(package.__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def pixels():
    FEATURES._builtin["pixels"] = Entry("pixels", Pixels, "genzoo")
    yield
    del FEATURES._builtin["pixels"]


def genzoo(*words):
    """stdout; a user's mistake is raised, anything else fails the test with its traceback."""
    done = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    if isinstance(done.exception, UserError | click.ClickException):
        raise done.exception
    if done.exception:
        raise AssertionError(f"{words} ends in a traceback") from done.exception
    return done.stdout


def folder(path, seed, num=12, size=(8, 8)):
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True)
    for k in range(num):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path / f"{k}.png")
    return path


@pytest.fixture
def sides(tmp_path):
    return folder(tmp_path / "a", 0), folder(tmp_path / "b", 1, num=14)


def test_several_scores_of_two_folders(sides):
    words = ("fid", *sides, "--features", "pixels", "--metric", "fd,kid,precision_recall,memorization,fd_infinity")
    scores = json.loads(genzoo(*words, "--allow-few", "--bootstrap", 3, "--json"))["scores"]
    names = ["fd", "kid", "precision", "recall", "memorization", "authenticity", "fd_infinity"]
    assert [score["metric"] for score in scores] == names
    assert scores[0]["bootstrap_error"] > 0 and scores[0]["protocol"]["name"] == "pixels"
    assert all(score["num_samples"] == 12 and score["num_reference"] == 14 for score in scores)
    lines = genzoo(*words, "--allow-few").splitlines()
    assert len(lines) == 7 and lines[0].startswith(f"fd {scores[0]['value']:.4f}")


def test_exported_statistics_are_a_reference(sides, tmp_path):
    a, b = sides
    value = json.loads(genzoo("fid", a, b, "--metric", "fd", "--features", "pixels", "--json"))["scores"][0]["value"]
    genzoo("stats", b, "--out", tmp_path / "b.npz", "--features", "pixels")
    words = ("fid", a, tmp_path / "b.npz", "--metric", "fd", "--features", "pixels", "--json")
    assert json.loads(genzoo(*words))["scores"][0]["value"] == pytest.approx(value, rel=1e-6)
    with pytest.raises(UserError, match="holds statistics only"):
        genzoo(*words, "--metric", "kid")
    with pytest.raises(UserError, match=r"written as \.npz"):
        genzoo("stats", b, "--out", tmp_path / "b.pt", "--features", "pixels")


def test_the_cache_is_listed_and_emptied(sides, tmp_path, monkeypatch):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "own"))
    genzoo("fid", *sides, "--metric", "fd", "--features", "pixels")
    listed = genzoo("cache", "ls").splitlines()
    assert len(listed) == 2 and all("images  pixels" in line for line in listed)
    first = next((tmp_path / "own" / "statistics").glob("*.npz"))
    first.write_bytes(b"PK damaged")
    assert "damaged" in genzoo("cache", "ls")
    assert genzoo("cache", "rm", first.stem[:12]) == "1 removed\n"
    with pytest.raises(UserError, match="no cached statistics start with"):
        genzoo("cache", "rm", first.stem[:12])
    genzoo("cache", "rm", "all")
    assert genzoo("cache", "ls") == ""


def test_neighbors_are_drawn(sides, tmp_path):
    out = genzoo("neighbors", *sides, "--out", tmp_path / "n.png", "--features", "pixels", "--columns", 3)
    assert "3 samples nearest" in out and Image.open(tmp_path / "n.png").size[0] > 200
    with pytest.raises(UserError, match=r"written as \.png"):
        genzoo("neighbors", *sides, "--out", tmp_path / "n.jpg", "--features", "pixels")


@pytest.mark.parametrize(
    "words, message",
    [
        (["--metric", "fjd"], "no metrics part is called 'fjd'"),
        (["--metric", "fid", "--features", "pixels"], "name: fd, features: pixels"),
        (["--features", "x:y"], "timm:NAME"),
        (["--metric", "kid", "--features", "pixels", "--bootstrap", "3"], "error bars"),
        (["--metric", "fd", "--features", "pixels", "--mode", "clean"], "unknown option"),
        (["--metric", "fd", "--features", "pixels", "--num", "3"], "3 .* images for 4 feature dimensions"),
        (["--metric", "fid", "--weights", "none.pt"], "no Inception file"),
    ],
)
def test_mistakes_are_told_in_a_sentence(sides, words, message):
    with pytest.raises(UserError, match=message):
        genzoo("fid", *sides, *words)


def run_folder(path, value, **changes):
    path.mkdir()
    entry = {"metric": "fd", "features": "pixels", "generator": "prior", "part": "y", "value": value}
    entry |= {"num_samples": 10, "num_reference": 10, "protocol": {"weights_sha256": "none"}, **changes}
    (path / "metrics.json").write_text(json.dumps({"scores": [entry]}))
    return path


def test_compare_marks_the_best_and_refuses_to_rank_across_protocols(tmp_path):
    a, b = run_folder(tmp_path / "one", 3.25), run_folder(tmp_path / "two", 1.5)
    c = run_folder(tmp_path / "three", 0.5, num_samples=4)
    alike, apart = genzoo("compare", a, b), genzoo("compare", a, b, c)
    assert "1.5*" in alike and "3.25 " in alike and "≠" not in alike
    assert "*" not in apart and apart.count("≠ num_samples: one 10; three 4") == 1
    assert "0.5*" in genzoo("compare", a, b, c, "--across")
    [row] = json.loads(genzoo("compare", a, c, "--json"))
    assert row["ranks"] == {} and row["differs"] == {"num_samples": {"one": 10, "three": 4}}
    with pytest.raises(UserError, match="no run has a score 'kid'"):
        genzoo("compare", a, b, "--metric", "kid")
    with pytest.raises(UserError, match="two runs or more"):
        genzoo("compare", a)
    with pytest.raises(UserError, match=r"no metrics.json"):
        genzoo("compare", a, tmp_path)
    (b / "metrics.json").write_text("[]")
    with pytest.raises(UserError, match="holds no scores that can be read"):
        genzoo("compare", a, b)


def test_compare_says_a_difference_once_and_tells_the_options_of_samplers_apart(tmp_path):
    def run(name, num_components, num_samples):
        entries = [
            {"metric": metric, "features": "pixels", "generator": generator, "part": part, "value": 1.0,
             "num_samples": num_samples, "sampler": {"num_fit": 9}}
            for metric in ("fd", "kid") for generator in ("prior", "gmm") for part in ("y", "y1")
        ]  # fmt: skip
        samplers = {"prior": {}, "gmm": {"num_components": num_components}} if num_components else None
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(
            json.dumps({"protocol": {"samplers": samplers}, "scores": entries})
        )
        return tmp_path / name

    def differences(*folders):
        return [line for line in genzoo("compare", *folders).splitlines() if line.startswith("≠")]

    ten, hundred, few, old = run("ten", 10, 5), run("hundred", 100, 5), run("few", 100, 3), run("old", None, 5)
    assert differences(ten, hundred) == ["≠ sampler_options.num_components: ten 10; hundred 100 (fd gmm, kid gmm)"]
    ranked = {
        (row["metric"], row["generator"]): row["ranks"] for row in json.loads(genzoo("compare", ten, hundred, "--json"))
    }
    assert ranked["fd", "prior"] == {"ten": 1, "hundred": 1} and ranked["fd", "gmm"] == {}
    assert differences(ten, few) == [
        "≠ num_samples: ten 5; few 3", "≠ sampler_options.num_components: ten 10; few 100 (fd gmm, kid gmm)"
    ]  # fmt: skip
    assert not differences(ten, old)  # which does not say its options


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=6)
FILES = st.lists(
    st.tuples(
        st.sampled_from(["", "a/", "a/b c/", "ü/", ".hidden/", "__MACOSX/"]),
        NAMES,
        st.sampled_from(["png", "PNG", "jpg", "gif", "bmp", "tif", "webp", "ppm", "txt", "npz"]),
        st.sampled_from(["RGB", "L", "1", "P", "RGBA", "LA", "I;16", "CMYK", "cut", "empty", "text", "flipped"]),
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
    ),
    max_size=10,
)


def image_bytes(suffix, mode, size):
    image = Image.effect_noise(size, 60)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 200)
    elif mode in Image.MODES:
        image = image.convert(mode)
    stream = io.BytesIO()
    image.save(stream, format=Image.registered_extensions().get(f".{suffix.lower()}", "PNG"))
    data = bytearray(stream.getvalue())
    if mode == "flipped":
        data[len(data) // 2] ^= 0xFF
    return {"cut": data[: len(data) // 2], "empty": b"", "text": b"hello"}.get(mode, bytes(data))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(FILES, st.sampled_from(["folder", "zip", "cut zip", "file"]))
def test_any_folder_ends_in_a_number_or_in_one_sentence(tmp_path_factory, files, kind):
    root = tmp_path_factory.mktemp("fuzz")
    (root / "side").mkdir()
    for where, stem, suffix, mode, size in files:
        try:
            data = image_bytes(suffix, mode, size)
        except (OSError, KeyError, ValueError):
            continue  # this format cannot hold this mode
        path = root / "side" / where / f"{stem}.{suffix}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError:
            continue  # this file system cannot hold this name
    side = root / "side"
    if "zip" in kind:
        side = root / "side.zip"
        with zipfile.ZipFile(side, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted((root / "side").rglob("*")):
                archive.write(file, file.relative_to(root / "side"))
        if kind == "cut zip":
            data = side.read_bytes()
            side.write_bytes(data[: len(data) * 2 // 3])
    elif kind == "file":
        side = next((path for path in sorted(side.rglob("*")) if path.is_file()), side)
    reference = folder(root / "reference", 7, num=6)
    metrics = "fd,kid,precision_recall" if len(files) > 6 else "fd"
    try:
        made = genzoo("fid", side, reference, "--features", "pixels", "--metric", metrics, "--allow-few", "--json")
        assert all(np.isfinite(score["value"]) for score in json.loads(made)["scores"])
    except UserError as error:
        message = str(error).replace(plain(str(side)), "SIDE")  # as the user typed it
        assert len(message.splitlines()) == 1 and len(message) < 600, message


PROCESS = """
import sys
sys.path.insert(0, {tests!r})
from test_scores import compared
print("RESULT", compared())
"""


def compared():
    """JSON of this process, their number, and the scores that they make together."""
    from genzoo.evaluation.compare import compare
    from genzoo.evaluation.config import EvaluationConfig
    from genzoo.evaluation.images import from_array
    from genzoo.evaluation.work import Work
    from genzoo.launch import launched

    FEATURES._builtin["pixels"] = Entry("pixels", Pixels, "genzoo")
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)
    sides = from_array("a", images[:33]), from_array("b", images[33:])
    wide = {"name": "pixels", "side": 8}  # more dimensions than there are images
    metrics = [{"name": name, "features": on} for name, on in (("fd", "pixels"), ("fd", wide), ("kid", wide))]
    processes = launched()
    options = {"allow_few": True, "work": Work(batch_size=5, processes=processes)}
    scores = compare(*sides, EvaluationConfig(metrics=metrics).metrics, **options)
    return json.dumps([processes.rank, processes.num, [score["value"] for score in scores]])


def test_two_processes_make_the_numbers_of_one(tmp_path, monkeypatch):
    """Statistics of more images than dimensions are summed, of fewer gathered; rows of other metrics are gathered."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"GENZOO_CACHE": str(tmp_path / "two"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    shared |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    command = [sys.executable, "-c", PROCESS.format(tests=str(Path(__file__).parent))]
    started = [
        subprocess.Popen(
            command, env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank}, stdout=-1, stderr=-1, text=True
        )
        for rank in "01"
    ]
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "one"))
    alone = json.loads(compared())
    for rank, process in enumerate(started):
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        made = json.loads(out.partition("RESULT")[2])
        assert made[:2] == [rank, 2]
        np.testing.assert_allclose(made[2], alone[2], rtol=1e-6)
    assert alone[:2] == [0, 1] and min(alone[2][:2]) > 0
    kept = [sorted(path.name for path in (tmp_path / which).rglob("*.npz")) for which in ("one", "two")]
    assert kept[0] == kept[1] and len(kept[0]) == 2  # of the narrow features; the wide ones are kept whole


class Net(nn.Module):
    """Random weights behind the interface of the published Inception file, with few features."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(27, 6))

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        return self.layers(x)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "net.pt"
    torch.jit.script(Net()).save(path)
    return path


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node=2"],
    "accelerate": ["accelerate.commands.launch", "--num_processes=2", "--cpu", "--main_process_port=0"],
}


def launched(launcher, cache, *words):
    """Exit code, stdout, stderr of two processes, as users start them."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GENZOO_CACHE": str(cache)}
    command = [sys.executable, "-m", *LAUNCHERS[launcher], "-m", "genzoo", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_changes_no_value(sides, weights, tmp_path, launcher):
    trust = ("--trust-weights", sha256(weights))
    words = (*trust, "fid", *sides, "--metric", "fid,kid", "--weights", weights, "--json")
    code, out, err = launched(launcher, tmp_path / launcher, *words)
    assert code == 0, err
    alone, shared = json.loads(genzoo(*words))["scores"], json.loads(out)["scores"]
    assert [score["metric"] for score in shared] == ["fid", "kid"] and alone[0]["value"] > 1e-3
    for one, other in zip(alone, shared, strict=True):
        for key in ("value", "standard_error"):
            assert (other.pop(key, 0) or 0) == pytest.approx(one.pop(key, 0) or 0, rel=1e-6)
        assert one == other
    assert err.count("count 12") == 1


def test_launched_processes_end_with_one_message(sides, weights, tmp_path):
    """Of a mistake that all of them see, and of a file that only the second one decodes while the first one waits."""
    trust, words = ("--trust-weights", sha256(weights)), ("--metric", "fid", "--weights", weights)
    code, out, err = launched("torchrun", tmp_path, *trust, "fid", sides[0], tmp_path / "none", *words)
    assert code != 0 and not out and err.count("genzoo: there is no ") == 1 and "another process" not in err
    second = sorted(sides[0].iterdir())[1]
    second.write_bytes(second.read_bytes()[:100])
    code, out, err = launched("torchrun", tmp_path, *trust, "fid", *sides, *words)
    assert code != 0 and not out and err.count(f"{second} cannot be decoded") == 1 and "another process" not in err
