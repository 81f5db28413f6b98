"""Code runs only when told: every command on a stranger's recipe and run leaves its plugin file alone."""

from __future__ import annotations

import importlib.util
import json
import os
import py_compile
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import genzoo
from genzoo import plugin_files
from genzoo.errors import UserError
from genzoo.recipe import read
from genzoo.registry import KINDS
from genzoo.sampling import drawn

PLUGIN = '''import pathlib
pathlib.Path({mark!r}).write_text("executed")
import genzoo
from genzoo.decoders.mlp import MLPDecoder


@genzoo.DECODERS.register("evil")
class Evil(MLPDecoder):
    """A dense layer."""

    class Config(MLPDecoder.Config):
        pass
'''
QUICK = [
    "train.steps=1", "train.batch_size=4", "train.precision=fp32", "samplers=[prior]", "evaluation.num_samples=4",
    "evaluation.num_reference=4", "evaluation.allow_few=true", "evaluation.metrics=[fd]", "model.latent.dim=3",
    "model.encoder.base_dim=2", "model.encoder.embed_dim=8", "model.head.decoder.name=evil",
]  # fmt: skip


@pytest.fixture
def forgotten(monkeypatch):
    """What has been executed is forgotten, as in another process."""

    def forget():
        for path, digest in list(plugin_files.executed.items()):
            plugin_files._forget(plugin_files._module_of(digest), path)
        plugin_files.executed.clear()

    yield forget
    forget()


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "mark"


@pytest.fixture
def plugin(tmp_path, mark, forgotten):
    path = tmp_path / "theirs" / "evil.py"
    path.parent.mkdir()
    path.write_text(PLUGIN.format(mark=str(mark)))
    return path


@pytest.fixture
def recipe(plugin):
    path = plugin.with_name("recipe.yaml")
    path.write_text("name: theirs\ndata: digits\nplugins: [evil.py]\nmodel: {head: {name: split, decoder: evil}}\n")
    return path


@pytest.fixture
def run(plugin, mark, call, forgotten, tmp_path, monkeypatch):
    """A run with that plugin, as its own user made it; `mark` and all memory of it are gone."""
    code, _, err = call("run", "vae_digits", *QUICK, "--plugin", plugin, "--out", tmp_path / "run")
    assert code == 0 and mark.exists(), err
    mark.unlink()
    forgotten()
    return tmp_path / "run"


@pytest.fixture
def stranger(run, monkeypatch, tmp_path):
    """The same run in the hands of somebody else, whose cache knows nothing of it."""
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "other"))
    return run


@pytest.mark.parametrize(
    "words",
    [
        ["show", "RECIPE"],
        ["show", "RECIPE", "seed=1", "--json"],
        ["recipes", "validate", "RECIPE"],
        ["recipes", "diff", "RECIPE", "svae_digits"],
        ["recipes", "diff", "svae_digits", "RECIPE"],
        ["recipes", "cp", "RECIPE", "DIR/copy.yaml"],
        ["fid", "DIR", "DIR", "--metric", "fd", "--allow-few"],
        ["fid", "DIR:prior", "DIR", "--metric", "fd", "--allow-few"],
        ["stats", "DIR", "--out", "s.npz", "--features", "efficientnet_lite0"],
        ["neighbors", "DIR", "DIR", "--out", "n.png"],
        ["eval", "DIR"],
        ["sample", "DIR", "--num", "1", "--out", "o"],
        ["compare", "DIR", "DIR"],
        ["list"],
        ["plugins"],
        ["data", "ls"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_command_executes_what_a_recipe_names(words, recipe, mark, call):
    for k in range(3):
        Image.fromarray(np.full((8, 8, 3), 50 * k, np.uint8)).save(recipe.with_name(f"{k}.png"))
    code, _, err = call(*(w.replace("RECIPE", str(recipe)).replace("DIR", str(recipe.parent)) for w in words))
    assert not mark.exists() and "evil" not in KINDS["decoders"].entries
    if words[0] in ("show", "recipes") and words[1] != "cp":
        assert code == 2
        assert f"plugin {recipe.with_name('evil.py')} was not executed" in err and "--plugin " in err
    if words[0] == "fid" and ":" not in words[1]:
        # a folder of pictures with a recipe in it is a folder of pictures
        assert "theirs: count 3, " in err or "hold the same images" in err


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "RUN"],
        ["sample", "RUN", "--num", "1", "--out", "o"],
        ["fid", "RUN", "digits:test", "--metric", "fd", "--num", "2", "--allow-few"],
        ["neighbors", "RUN", "digits:test", "--out", "n.png", "--num", "4"],
        ["stats", "RUN", "--out", "s.npz", "--num", "4", "--features", "efficientnet_lite0"],
        ["recipes", "diff", "RUN", "svae_digits"],
        ["show", "RUN/recipe.yaml"],
        ["recipes", "validate", "RUN/recipe.yaml"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_strangers_run_is_loaded_with_the_plugin_that_is_given_alone(words, stranger, plugin, mark, call):
    words = [word.replace("RUN", str(stranger)) for word in words]
    code, _, err = call(*words)
    copy = stranger / "plugins" / "evil.py"
    assert code == 2 and not mark.exists()
    assert f"plugin {copy} was not executed" in err and f"--plugin {copy}" in err
    code, _, err = call(*words, "--plugin", plugin)
    assert code == (1 if "diff" in words else 0), err
    assert mark.exists()


def test_python_says_it_too(stranger, plugin, mark):
    with pytest.raises(UserError, match=r"evil\.py was not executed"):
        genzoo.load(stranger)
    with pytest.raises(UserError, match=r"evil\.py was not executed"):
        drawn(stranger, 2)
    assert not mark.exists()
    model = genzoo.load(stranger, plugins=[str(plugin)])
    assert mark.exists() and type(model.head.decoder).__name__ == "Evil"


def test_ones_own_run_loads_wherever_its_plugin_is_now(run, plugin, mark, call, tmp_path):
    """By the copy in the run folder, whose content this user's run has recorded."""
    plugin.unlink()
    moved = run.rename(tmp_path / "moved")
    assert type(genzoo.load(moved).head.decoder).__name__ == "Evil" and mark.exists()
    lock = json.loads((moved / "lock.json").read_text())
    assert lock["plugin_files"] == {str(plugin): plugin_files.digest_of(moved / "plugins" / "evil.py")}


def test_a_plugin_may_have_another_name_now(run, plugin, mark, call):
    renamed = plugin.rename(plugin.with_name("renamed.py"))
    code, _, err = call("sample", run, "--num", "1", "--out", "o", "--plugin", renamed)
    assert code == 0 and mark.exists(), err


def test_an_edited_copy_is_not_executed(run, plugin, mark, call):
    copy = run / "plugins" / "evil.py"
    copy.write_text(copy.read_text() + "\n# edited\n")
    plugin.unlink()
    code, _, err = call("sample", run, "--num", "1", "--out", "o")
    assert code == 2 and f"plugin {copy} was not executed" in err and not mark.exists()
    copy.unlink()
    code, _, err = call("sample", run, "--num", "1", "--out", "o")
    assert code == 2 and f"plugin {plugin} is not there: --plugin FILE says where it is now" in err


def test_run_executes_what_its_recipe_names_and_says_so(recipe, mark, caplog):
    read(recipe, execute=True)
    assert mark.exists() and f"plugin {recipe.with_name('evil.py')} is executed, as {recipe} names it" in caplog.text


def test_a_plugin_that_moved_and_one_that_changed(run, plugin, mark, call, caplog):
    other = plugin.parent.parent / "evil.py"
    plugin.rename(other)
    resume = ["run", run / "recipe.yaml", "train.steps=2", "--out", run, "--resume"]
    other.write_text(other.read_text() + "\n# changed\n")
    code, _, err = call(*resume, "--plugin", other)
    assert code == 0, err
    assert "is not the one that" in caplog.text and "was begun with: that one is kept as" in caplog.text
    copies = {path.name for path in (run / "plugins").iterdir()}
    assert len(copies) == 2 and "evil.py" in copies
    assert (run / "plugins" / "evil.py").read_text().endswith("# changed\n")


def test_no_cached_bytecode_is_executed(run, plugin, mark, tmp_path):
    """A `__pycache__` that came with a file whose source is trusted may hold any other code."""
    source = tmp_path / "bad.py"
    source.write_text(f"open({str(tmp_path / 'bytecode')!r}, 'w')\n")
    for file in (plugin, run / "plugins" / "evil.py"):
        cached = importlib.util.cache_from_source(str(file))
        py_compile.compile(str(source), cached, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    genzoo.load(run)
    assert mark.exists() and not (tmp_path / "bytecode").exists()


def test_a_folder_is_one_plugin(tmp_path, forgotten, monkeypatch):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    folder, run = tmp_path / "mine", tmp_path / "run"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .part import Evil\n")
    (folder / "part.py").write_text(PLUGIN.format(mark=str(tmp_path / "mark")))
    text = f"name: a\nplugins: [{folder}]\nmodel: {{head: {{name: split, decoder: evil}}}}\n"
    (tmp_path / "a.yaml").write_text(text)
    run.mkdir()
    (run / "recipe.yaml").write_text(text)
    with pytest.raises(UserError, match="mine was not executed"):
        read(tmp_path / "a.yaml")
    read(tmp_path / "a.yaml", execute=True)
    kept = plugin_files.keep(run, [str(folder)])
    assert {path.name for path in (run / "plugins" / "mine").iterdir()} == {"__init__.py", "part.py"}
    assert kept == {str(folder): plugin_files.digest_of(run / "plugins" / "mine")}
    forgotten()
    shutil.rmtree(folder)
    read(run / "recipe.yaml")
    forgotten()
    (run / "plugins" / "mine" / "more.py").write_text("")
    with pytest.raises(UserError, match="mine was not executed"):
        read(run / "recipe.yaml")


@pytest.mark.parametrize("listed", ["/dev/zero", "/", "/proc/kmsg", "evil.txt", "x" * 5000])
def test_what_is_no_code_is_not_even_read(tmp_path, listed):
    (tmp_path / "evil.txt").write_text("")
    (tmp_path / "a.yaml").write_text(
        f"name: a\nplugins: ['{listed}']\nmodel: {{head: {{name: split, decoder: evil}}}}\n"
    )
    with pytest.raises(UserError, match="is not there: --plugin FILE says"):
        read(tmp_path / "a.yaml")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "a.yaml").write_text("name: a\nplugins: [pipe.py]\nmodel: {head: {name: split, decoder: evil}}\n")
    with pytest.raises(UserError, match="is not there"):
        read(tmp_path / "a.yaml")


def test_a_record_of_another_user_counts_for_nothing(run, plugin, mark, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(UserError, match="was not executed"):
        genzoo.load(run)
    assert not mark.exists() and "genzoo_plugin_evil" not in "".join(sys.modules)
