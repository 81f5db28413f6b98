"""Folders for the Hub: read back without the run, pushed to a fake hub, and refused where they are not what they say."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import genzoo
from genzoo.errors import UserError


def config(hub, **changes):
    """Change keys of config.json; a dotted one goes down into it."""
    tree = json.loads((hub / "config.json").read_text())
    for key, value in changes.items():
        node, *rest = tree, *key.split("__")
        for step in rest[:-1]:
            node = node[step]
        node[rest[-1]] = value
    (hub / "config.json").write_text(json.dumps(tree))
    return tree


def test_a_fresh_process_loads_it_without_the_run(exported, trained, tmp_path):
    x = torch.rand(2, 1, 32, 32)
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import sys, torch, genzoo\n"
        "model = genzoo.load(sys.argv[1], 'cpu')\n"
        "assert not model.training\n"
        "torch.save(model.reconstruct(torch.load(sys.argv[2])).image, sys.argv[3])\n"
        "assert model.sample(3, seed=1).image.shape == (3, 1, 32, 32)\n"
    )
    hub = shutil.copytree(exported, tmp_path / "elsewhere")
    away = trained.rename(trained.with_name("away"))
    try:
        words = [hub, tmp_path / "x.pt", tmp_path / "y.pt"]
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    finally:
        away.rename(trained)
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.load(tmp_path / "y.pt"), genzoo.load(trained, "cpu").reconstruct(x).image)


def test_the_card_says_what_it_is_and_nothing_of_this_machine(exported, trained):
    card = (exported / "README.md").read_text()
    head, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
    assert 'license: "unknown"' in head and 'library_name: "genzoo"' in head
    for said in (
        "# svae_digits",
        "![Images, reconstructed](reconstruction.png)",
        "genzoo.load(",
        "4 images against",
        "arXiv:2202.02738",
        "not said under which terms",
        "1,437 images",
        "not here: the samplers gmm",
    ):
        assert said in body, said
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", body):
        assert (exported / picture).is_file()
    for file in exported.rglob("*"):
        assert b"private-place" not in file.read_bytes(), file
    assert {file.name for file in exported.iterdir()} == {
        "README.md", "config.json", "metrics.json", "model.safetensors", "reconstruction.png", "samples.png"
    }  # fmt: skip
    assert (exported / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_scores_of_another_checkpoint_are_not_on_the_card(trained, tmp_path):
    from genzoo.export.run import export

    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["protocol"]["checkpoint_step"] = 1
    (run / "metrics.json").write_text(json.dumps(metrics))
    folder = export(run, "hf", licence="cc-by-4.0")[0]
    card = (folder / "README.md").read_text()
    assert "None were made of this checkpoint" in card and not (folder / "metrics.json").exists()
    assert 'license: "cc-by-4.0"' in card and "The weights: cc-by-4.0." in card


def test_a_model_without_a_prior_is_not_said_to_sample():
    from genzoo.export.card import card
    from genzoo.recipe import read

    config = {"image_shape": [1, 32, 32], "parts": {}, "genzoo_version": "0", "checkpoint_step": 1}
    for name, has_prior in (("rae_digits", False), ("svae_digits", True)):
        text = card(read(name), config, {"data": {}}, {}, {}, "mit", None, has_prior)
        assert ("model.sample(" in text) == has_prior and "model.reconstruct(" in text


def test_a_score_of_the_model_itself_stands_on_the_card():
    from genzoo.export.card import card
    from genzoo.recipe import read

    config = {"image_shape": [1, 32, 32], "parts": {}, "genzoo_version": "0", "checkpoint_step": 1}
    score = {"metric": "nll", "features": "", "generator": "model", "part": "y", "value": 12.5, "num_samples": 4,
             "num_reference": 4, "reference": "test", "fit_split": None}  # fmt: skip
    text = card(read("svae_digits"), config, {"data": {}}, {"scores": [score]}, {}, "mit", None, True)
    assert "**nll** of the model itself" in text and "12.50" in text


def test_commands_on_images_take_the_folder(call, exported, tmp_path):
    from PIL import Image

    Image.new("L", (32, 32), 100).save(tmp_path / "one.png")
    code, _, err = call("reconstruct", exported, "one.png", "--out", "made")
    assert code == 0 and (tmp_path / "made" / "one.png").is_file(), err
    code, _, err = call("encode", exported, "one.png", "--out", "z.npz")
    assert code == 0, err


class FakeHub:
    """What huggingface_hub does here, in a folder."""

    def __init__(self, root):
        self.root, self.commits, self.known = root, [], True

    def __call__(self, **_):
        return self

    def whoami(self):
        if not self.known:
            raise ConnectionError("no token")
        return {"name": "me"}

    def create_repo(self, repo_id, private, exist_ok):
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        self.private = private
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, repo_id, folder_path, commit_message):
        self.commits.append(commit_message)
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    def snapshot_download(self, repo_id, revision, allow_patterns):
        if not (self.root / repo_id).is_dir():
            raise FileNotFoundError("404")
        self.revision = revision
        return shutil.copytree(self.root / repo_id, self.root / "cache" / repo_id, dirs_exist_ok=True,
                               ignore=lambda _, names: set(names) - set(allow_patterns))  # fmt: skip


@pytest.fixture
def fake(tmp_path, monkeypatch):
    import huggingface_hub

    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("no network is needed"))
    return fake


def test_what_is_pushed_is_loaded_by_its_address(call, trained, fake):
    code, out, err = call("export", trained, "--to", "hf", "--out", "folder", "--push", "me/digits", "--private")
    assert code == 0 and "uploaded to https://huggingface.co/me/digits" in out, err
    assert fake.commits == ["genzoo 0.1.0 export"] and fake.private
    assert 'genzoo.load("hf://me/digits")' in (fake.root / "me" / "digits" / "README.md").read_text()
    model, own = genzoo.load("hf://me/digits@main", "cpu"), genzoo.load(trained, "cpu")
    assert fake.revision == "main"
    z = torch.randn(2, 3)
    assert torch.equal(model.decode(z).image, own.decode(z).image)


def test_commands_take_an_address(call, trained, fake, tmp_path):
    assert call("export", trained, "--to", "hf", "--out", "folder", "--push", "me/digits")[0] == 0
    np.savez("z.npz", z=np.random.default_rng(0).normal(size=(2, 3)))
    for run, out in (("hf://me/digits", "there"), (trained, "here")):
        code, _, err = call("decode", run, "z.npz", "--out", out)
        assert code == 0, err
    for name in ("000000.png", "000001.png"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    code, _, err = call("panels", "hf://me/digits")
    assert code == 2 and "`genzoo panels` needs a run folder" in err
    for words in (["sample", "--num", "1", "--out", "x"], ["eval"], ["report"]):
        code, _, err = call(words[0], "hf://me/digits", *words[1:])
        assert code == 2 and "hf:/me/digits" in err, err


def test_who_is_not_known_is_told_before_anything_is_written(call, trained, fake, tmp_path):
    fake.known = False
    code, _, err = call("export", trained, "--to", "hf", "--out", "folder", "--push", "me/digits")
    assert code == 2 and "hf auth login" in err and not (tmp_path / "folder").exists()


def test_an_upload_that_fails_leaves_the_folder(call, trained, fake, tmp_path):
    fake.upload_folder = lambda **_: (_ for _ in ()).throw(ConnectionError("gone"))
    code, _, err = call("export", trained, "--to", "hf", "--out", "folder", "--push", "me/digits")
    assert code == 2 and "hf upload me/digits folder" in err
    assert genzoo.load(tmp_path / "folder", "cpu")


@pytest.mark.parametrize("address", ["hf://", "hf://name", "hf://a/b/c", "hf://../x@y z", "hf://a/b@"])
def test_addresses_that_are_none(address, fake):
    with pytest.raises(UserError, match="no address of the Hub"):
        genzoo.load(address)


def test_a_repository_that_is_not_there(fake):
    with pytest.raises(UserError, match="cannot be fetched"):
        genzoo.load("hf://me/nothing")


# --- folders that are damaged, or hostile ---


@pytest.mark.parametrize("changes, said", [
    ({"library_name": "transformers"}, "is not of `genzoo export"),
    ({"genzoo_format": 2}, "of another genzoo"),
    ({"image_shape": [1, 32]}, "image_shape"),
    ({"image_shape": [1, 32, -32]}, "image_shape"),
    ({"image_shape": [1, 32, 10**9]}, "image_shape"),
    ({"image_shape": [3, 32, 32]}, "does not hold the model"),
    ({"recipe": 3}, "recipe"),
    ({"recipe": {}}, "recipe.model"),
    ({"recipe__model": [1]}, "recipe.model"),
    ({"recipe__model__encoder": {"name": "os:system"}}, "os:system"),
    ({"recipe__model__encoder": {"name": "../../evil.py"}}, "evil"),
    ({"recipe__model__encoder__base_dim": 3}, "does not hold the model"),
    ({"recipe__model__encoder__base_dim": 4096}, "."),
    ({"recipe__model__latent": {"name": "gaussian", "dim": 65536}}, "does not hold the model"),
    ({"weights_sha256": "0" * 64}, "not what was exported"),
    ({"more": 1}, "more"),
    ({"parts": {"encoders/resnet": 3}}, "parts"),
])  # fmt: skip
def test_settings_that_are_not_the_models(hub, changes, said):
    config(hub, **changes)
    with pytest.raises(UserError, match=re.escape(said)) as error:
        genzoo.load(hub)
    assert str(hub) in str(error.value) and len(str(error.value)) < 2000


def test_plugins_that_a_folder_names_are_not_executed(hub, tmp_path):
    """Also not where a run of this user's has executed the file before."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for name in ("plugins", "evil", "modeling_genzoo", "__init__", "setup"):
        shutil.copy(tmp_path / "evil.py", hub / f"{name}.py")
    config(hub, recipe__plugins=[str(tmp_path / "evil.py"), "evil.py"], parts={"encoders/x": "evil.py"})
    assert genzoo.load(hub)
    assert not (tmp_path / "ran").exists()


def test_a_part_that_is_not_here_is_said_with_where_it_came_from(hub):
    config(hub, recipe__model__head__decoder={"name": "far/away"}, parts={"decoders/far/away": "genzoo-far 1.2"})
    with pytest.raises(UserError, match=r"decoders/far/away came from genzoo-far 1\.2, which is not here"):
        genzoo.load(hub)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"library_name": ', "[" * 100_000, "\xff\xfe", "\0", '{"a": 1' + " " * (1 << 20) + "}"],
)
def test_settings_that_are_no_settings(hub, text):
    (hub / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.json is (damaged|not of)"):
        genzoo.load(hub)


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def damage_bit(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def damage_header(path):
    path.write_bytes((1 << 60).to_bytes(8, "little") + path.read_bytes()[8:])


def damage_pickle(path):
    torch.save({"a": torch.zeros(3)}, path)


def damage_more(path):
    save_file({**load_file(path), "more": torch.zeros(3)}, path)


def damage_missing(path):
    save_file(dict(list(load_file(path).items())[1:]), path)


def damage_gone(path):
    path.unlink()


def damage_folder(path):
    path.unlink()
    path.mkdir()


def damage_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def damage_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [damage_cut, damage_bit, damage_header, damage_pickle, damage_more, damage_missing,
                                    damage_gone, damage_folder, damage_device, damage_pipe])  # fmt: skip
def test_weights_that_are_not_the_models(hub, damage):
    damage(hub / "model.safetensors")
    with pytest.raises(
        UserError, match=r"model\.safetensors (is damaged|does not hold|is not what was exported)"
    ) as error:
        genzoo.load(hub)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [damage_device, damage_pipe])
def test_settings_that_would_never_end(hub, damage):
    damage(hub / "config.json")
    with pytest.raises(UserError):
        genzoo.load(hub)


def test_links_into_a_cache_are_followed(hub, tmp_path):
    """As the Hub's client lays its files out."""
    (tmp_path / "blobs").mkdir()
    for name in ("config.json", "model.safetensors"):
        (hub / name).rename(tmp_path / "blobs" / name)
        (hub / name).symlink_to(tmp_path / "blobs" / name)
    assert genzoo.load(hub)
