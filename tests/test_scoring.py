"""`genzoo.fid` in Python: the entries and the refusals of the command; and what both say of the files they found."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

import genzoo
from genzoo.errors import UserError

A, B = (np.random.default_rng(seed).integers(0, 256, (n, 9, 11, 3), np.uint8) for seed, n in ((0, 12), (1, 14)))
METRICS = "fd,kid,precision_recall,density_coverage,memorization"
BATCHES = (slice(0, 5), slice(5, 10), slice(10, None))
IN_MEMORY = {
    "uint8 array": lambda x: x,
    "tensor b c h w in [0, 1]": lambda x: torch.from_numpy(x).permute(0, 3, 1, 2) / 255,
    "list of batches": lambda x: [torch.from_numpy(x[rows]) for rows in BATCHES],
    "loader of (images, labels)": lambda x: torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(x).permute(0, 3, 1, 2), torch.arange(len(x))), 4
    ),
    "generator": lambda x: (x[rows].astype(np.uint16) * 257 for rows in BATCHES),
}


@pytest.fixture
def sides(tmp_path, monkeypatch, pixels):
    """The same images as folders a, b and files a.npy, b.npy of the working directory; statistics in known.npz."""
    monkeypatch.chdir(tmp_path)
    for name, images in (("a", A), ("b", B)):
        (tmp_path / name).mkdir()
        for k, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{k:02}.png")
        np.save(f"{name}.npy", images)
    np.savez("known.npz", mu=np.zeros(4), sigma=np.eye(4))
    return tmp_path


def command(call, *words):
    code, out, err = call("fid", *words, "--features", "pixels", "--json")
    assert code == 0, err
    return json.loads(out)["scores"]


@pytest.mark.parametrize("names", [("a", "b"), ("a.npy", "b"), ("a", "known.npz")])
def test_paths_give_the_entries_of_the_command(sides, call, names):
    options = {} if "known.npz" in names else {"metric": METRICS, "bootstrap": 3, "num": 10, "seed": 4}
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    assert genzoo.fid(*names, features="pixels", **options) == command(call, *names, *words)


@pytest.mark.parametrize("form", IN_MEMORY)
def test_images_in_memory_give_the_entries_of_their_file(sides, call, form):
    expected = command(call, "a.npy", "b.npy", "--metric", METRICS)
    made = genzoo.fid(IN_MEMORY[form](A), IN_MEMORY[form](B), METRICS, features="pixels")
    for entry in (
        *expected,
        *made,
    ):  # the names are those of the files, or of what was given; digests and all else equal
        entry.update(generator="", reference="")
    assert made == expected


MISTAKES = {
    "nowhere": (("nowhere", "b"), {}),
    "the same images": (("a", "a"), {}),
    "too few": (("a", "b"), {"num": 3}),
    "unknown metric": (("a", "b"), {"metric": "fdd"}),
    "a metric of a model": (("a", "b"), {"metric": "nll"}),
    "no bars": (("a", "b"), {"metric": "kid", "bootstrap": 3}),
    "no images": (("a", "known.npz"), {"metric": "kid"}),
    "a mode that is not this extractor's": (("a", "b"), {"mode": "clean"}),
    "no part": (("mnist", "b"), {}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_refusals_are_those_of_the_command(sides, call, mistake):
    names, options = MISTAKES[mistake]
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    code, _, err = call("fid", *names, *words, "--features", "pixels")
    with pytest.raises(UserError) as refusal:
        genzoo.fid(*names, features="pixels", **options)
    assert code == 2 and f"genzoo: {refusal.value}" in err


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            A / 127.5 - 1,
            r"ndarray has values from -1 to 1; images in floats are in \[0, 1\]: from \[-1, 1\], \(x \+ 1\)",
        ),
        (A.astype(np.float32), r"from \[0, 255\], x / 255"),
        (A.astype(np.int64), "is int64, not uint8"),
        (A[0, 0], r"has the shape \(11, 3\), not b h w c"),
        ([A[:4], A[4:, :5]], "list gives images of different sizes"),
        ([], "list gives no images"),
        (iter([np.full((1, 8, 8, 3), np.nan)]), "has values that are not finite"),
    ],
)
def test_what_is_no_image_is_refused(values, message, pixels):
    with pytest.raises(UserError, match=message):
        genzoo.fid(values, B, features="pixels")


def test_without_a_metric_fid_takes_what_goes_with_the_features_and_says_so(sides, call, caplog):
    with caplog.at_level(logging.INFO, "genzoo"):
        (entry,) = genzoo.fid(A, B, features="pixels")
    assert entry["metric"] == "fd" and "metric: fd, on pixels features" in caplog.messages
    caplog.clear()
    assert call("fid", "a", "b", "--features", "pixels")[1].startswith("fd ")
    assert "metric: fd, on pixels features" in caplog.messages


def test_what_the_files_are_is_told(sides, call, caplog):
    """Turned by EXIF, with hidden colours, of unusual names; and what was passed over, by reason and number."""
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in ("phone.jpg", "other.jfif"):
        Image.fromarray(A[0]).save(sides / "a" / name, "JPEG", exif=turned)
    hidden = np.dstack([A[1], np.zeros((9, 11), np.uint8)])
    Image.fromarray(hidden).save(sides / "a" / "clear.png")
    Image.fromarray(A[2, ..., 0]).save(sides / "a" / "grey.png")
    for name in ("notes.txt", "more.txt", ".hidden.png", "README", "film.mp4"):
        (sides / "a" / name).write_text("no image")
    (sides / "a" / ".thumbnails").mkdir()
    assert call("fid", "a", "b", "--features", "pixels")[0] == 0
    told = "\n".join(caplog.messages)
    assert "a: 2 of 16 files carry an EXIF mark that says how to turn them: scored as they are stored" in told
    assert "a: 1 of 16 files have transparency: scored without it, the colours below count" in told
    (line,) = (line for line in caplog.messages if line.startswith("a: count"))
    assert "count 16" in line and "formats PNG (14) JPEG (2)" in line and "modes RGB (14) RGBA (1) L (1)" in line
    assert line.endswith("passed over .txt (2) hidden (1) without a suffix (1) and 2 more"), line
    (line,) = (line for line in caplog.messages if line.startswith("b: count"))
    assert "passed over" not in line and "b: 14" in told and told.count("EXIF") == 1


def test_a_run_whose_path_has_colons_is_taken_everywhere(call, tmp_path, pixels):
    run = "runs/2026-01-01T10:00:00"
    small = ["train.steps=2", "train.batch_size=4", "train.precision=fp32", "model.encoder.base_dim=2",
             "model.encoder.embed_dim=8", "model.latent.dim=3", "model.head.decoder.base_dim=2", "report=false",
             "samplers.1.num_components=2", "evaluation={num_samples: 4, num_reference: 4, allow_few: true}",
             "evaluation.metrics=[{name: fd, features: pixels}]"]  # fmt: skip
    code, _, err = call("run", "svae_digits", *small, "--out", run)
    assert code == 0, err
    assert genzoo.load(run).image_shape == (1, 32, 32)
    for words in (["eval", run], ["sample", run, "--num", 3, "--out", "drawn"]):
        code, _, err = call(*words)
        assert code == 0, err
    assert len(list((tmp_path / "drawn").iterdir())) == 3
    entries = [
        command(call, side, "digits:test", "--num", 6)[0]
        for side in (run, f"{run}:prior", f"{run}:gmm", f"{run}:gmm:y2")
    ]
    assert [entry["sampler_name"] for entry in entries] == ["prior", "prior", "gmm", "gmm"]
    assert [entry["part"] for entry in entries] == ["y", "y", "y", "y2"]
    assert entries[0]["value"] == entries[1]["value"] and len({entry["value"] for entry in entries}) == 3
    assert genzoo.fid(f"{run}:gmm", "digits:test", features="pixels", num=6) == [entries[2]]
    code, _, err = call("fid", f"{run}:gnn", "digits:test", "--features", "pixels")
    assert code == 2 and "has no sampler 'gnn'" in err
