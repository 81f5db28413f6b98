"""What is found: by `genzoo plugins`, `list`, `show` and the shell's completion, and what a run remembers of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

import genzoo
from genzoo import registry
from genzoo.cli import cli
from genzoo.errors import UserError
from genzoo.owners import used
from genzoo.plugin_files import load_file
from genzoo.plugins import survey
from genzoo.recipe import read
from genzoo.registry import HEADS

PLUGINS = sorted(file.parent for file in (Path(__file__).parents[2] / "plugins").glob("*/pyproject.toml"))


def test_survey_finds_packages_and_files_sound_and_broken(install, edited, call, tmp_path):
    site = install("acme", "[genzoo.decoders]\nacme/one = acme_parts:One\nacme/two = acme_parts:Two\n")
    (site / "acme_parts.py").write_text("import genzoo\nclass One:\n    '''One.'''\n    Config = genzoo.Config\n")
    install("typo", "[genzoo.decoder]\nthree = typo:Three\n", version="2.0")
    mine, broken = edited(), edited(("import genzoo\n", "1 / 0\n"), name="broken.py")
    by_name = {plugin.name: plugin for plugin in survey((str(mine), str(broken)))}
    assert by_name["acme"].version == "1.0"
    assert by_name["acme"].parts["decoders/acme/one"] == ""
    assert "no class 'Two'; correct its entry point" in by_name["acme"].parts["decoders/acme/two"]
    assert "no kind 'decoder'; did you mean 'decoders'" in by_name["typo"].parts["decoder/three"]
    assert by_name[str(mine)].parts == {"decoders/mine": ""} and by_name[str(mine)].sound
    assert "ZeroDivisionError" in by_name[str(broken)].problem and not by_name[str(broken)].sound

    code, out, _ = call("plugins", "--plugin", mine, "--json")
    assert code == 1
    assert {plugin["name"] for plugin in json.loads(out)} >= {"acme", "typo", str(mine)}
    code, out, _ = call("plugins")
    assert code == 1 and "acme 1.0\n  ok      decoders/acme/one\n  failed  decoders/acme/two: " in out


def test_sound_plugins_exit_zero(edited, call, monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda: ())
    monkeypatch.setattr("genzoo.plugins.entry_points", lambda: ())
    assert call("plugins", "--plugin", edited())[0] == 0
    code, out, _ = call("plugins")
    assert code == 0 and out.startswith("no plugins")


def test_a_wrong_default_is_the_plugins_fault_in_the_survey_too(edited):
    (plugin,) = [p for p in survey((str(edited(("Field(8", 'Field("x"'))),)) if p.source == "file"]
    assert "does not accept its own defaults" in plugin.parts["decoders/mine"]


def test_list_and_show_of_a_plugin_file(edited, call):
    path = edited(("Field(8, ", "Field(8, ge=1, "), ("nothing", "width in pixels"))
    code, out, _ = call("list", "decoder", "m*", "--plugin", path)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["decoders/mine", "decoders/mlp"]
    assert f"{path}" in out and "One dense layer." in out
    code, out, _ = call("show", "decoders/mine", "--plugin", path)
    assert code == 0 and "  dim: int >= 1 = 8\n      width in pixels\n" in out
    code, out, _ = call("show", "decoders/mine", "--plugin", path, "--json")
    assert json.loads(out)["options"] == [
        {"option": "dim", "type": "int >= 1", "default": 8, "description": "width in pixels"}
    ]


def test_show_says_which_part_an_option_takes(call):
    _, out, _ = call("show", "head/split")
    assert "decoder: decoders part | null = null" in out
    assert "trunk: shared | pair" in out


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ([], "reci", {"recipes"}),
        (["recipes"], "", {"ls", "cp", "validate", "diff", "schema"}),
        (["list"], "dec", {"decoders"}),
        (["new"], "sam", {"samplers"}),
        (["show"], "decoders/r", {"decoders/resnet"}),
        (["show"], "svae_d", {"svae_digits"}),
        (["check"], "heads/", {f"heads/{name}" for name in HEADS.names()}),
        (["run"], "vae_mnist", {"vae_mnist", "vae_mnist_cpu"}),
        (["recipes", "validate"], "svae_c", {"svae_cifar10", "svae_celeba"}),
    ],
)
def test_completion(words, incomplete, expected):
    items = BashComplete(cli, {}, "genzoo", "_GENZOO_COMPLETE").get_completions(words, incomplete)
    assert {item.value for item in items} == expected


def test_completion_leaves_files_to_the_shell():
    (item,) = BashComplete(cli, {}, "genzoo", "_GENZOO_COMPLETE").get_completions(["run"], "my_own")
    assert item.type == "file"


def test_the_one_line_of_the_documentation_works():
    environment = os.environ | {"_GENZOO_COMPLETE": "zsh_source"}
    done = subprocess.run([sys.executable, "-m", "genzoo"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "#compdef genzoo" in done.stdout


def test_listing_with_all_example_plugins_is_instant(install):
    """Under 0.6 s of processor time (wall time on an idle machine), and nothing slow imported."""
    import tomllib

    for folder in PLUGINS:
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        points = project["entry-points"]["genzoo.decoders"]
        site = install(project["name"], "[genzoo.decoders]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    code = (
        "import resource, sys; sys.argv = ['genzoo', 'list']\n"
        "from genzoo.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'timm', 'pydantic', 'genzoo_vit'} & set(sys.modules)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(used.ru_utime + used.ru_stime, file=sys.stderr)"
    )
    path = os.pathsep.join([str(site), *map(str, PLUGINS)])
    seconds = []
    for _ in range(3):
        environment = os.environ | {"PYTHONPATH": path}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        seconds.append(float(done.stderr.split()[-1]))
    assert all(f"decoders/{name}" in done.stdout for name in ("convnext", "pixelshuffle", "stylegan", "vit"))
    assert "Transformer over patches" in done.stdout
    assert min(seconds) < 0.6


QUICK = [
    "train.steps=1", "train.batch_size=4", "train.precision=fp32", "evaluation.metrics=[]", "evaluation.num_samples=4",
    "evaluation.num_reference=4", "samplers=[prior]", "model.encoder.base_dim=2", "model.head.decoder.name=mine",
]  # fmt: skip


def test_a_run_remembers_where_its_parts_came_from(edited, tmp_path, call):
    path = edited()
    folder = tmp_path / "run"
    code, _, err = call("run", "vae_digits", *QUICK, "--plugin", path, "--out", folder)
    assert code == 0, err
    assert json.loads((folder / "lock.json").read_text())["plugins"] == {"decoders/mine": str(path)}
    assert genzoo.load(folder).decode is not None
    registry.KINDS["decoders"].forget({"mine"})
    path.unlink()
    (folder / "plugins" / "mine.py").unlink()
    for name in [name for name, module in sys.modules.items() if getattr(module, "__file__", "") == str(path)]:
        del sys.modules[name]
    code, _, err = call("sample", folder, "--num", "1", "--out", tmp_path / "png")
    assert code == 2 and f"plugin {path} is not there: --plugin FILE says where it is now" in err
    assert f"the run's decoders/mine came from {path}, which is not here" in err


def test_a_package_that_claims_a_name_of_genzoos_stops_nothing(install, call, caplog):
    install("acme", "[genzoo.decoders]\nresnet = nosuchmodule:Mine\n")
    code, _, err = call("recipes", "validate", "svae_digits")
    assert code == 0, err
    assert "decoders/resnet of acme 1.0 is not used" in err + caplog.text
    code, out, _ = call("plugins")
    assert code != 0 and "the name is genzoo's own; rename it" in out


def test_a_broken_package_of_another_kind_stops_no_run(install, tmp_path, call):
    """It claims the name of a part that the run uses, for a kind of which the run uses another."""
    install("acme", "[genzoo.heads]\nconv = nosuchmodule:Head\n")
    code, _, err = call("run", "vae_digits", *QUICK, "model.head.decoder.name=conv", "--out", tmp_path / "run")
    assert code == 0, err


def test_a_run_with_a_part_of_a_notebook_says_so(edited, tmp_path, caplog):
    from genzoo.run import run

    load_file(edited())
    mine = registry.DECODERS.get("mine")
    registry.DECODERS.forget({"mine"})
    mine.__module__ = "__main__"
    registry.DECODERS.register("mine")(mine)
    recipe = read("vae_digits", QUICK)
    assert used(recipe) == {"decoders/mine": "__main__"}
    run(recipe, tmp_path / "run")
    assert "decoders/mine is registered in a notebook or script: only there can this run be loaded" in caplog.text
    genzoo.load(tmp_path / "run")
    registry.DECODERS.forget({"mine"})
    with pytest.raises(UserError, match="no decoders part is called 'mine'") as error:
        genzoo.load(tmp_path / "run")
    assert "the run's decoders/mine came from a notebook or script: run its `register` first" in str(error.value)


def test_a_core_part_takes_one_file_and_one_line(own_plugins, monkeypatch, tmp_path, call):
    """A module in a zoo folder and its name in the registry's table: nothing else has to know it."""
    import genzoo.decoders

    monkeypatch.setattr(genzoo.decoders, "__path__", [*genzoo.decoders.__path__, str(tmp_path)])
    source = (Path(genzoo.__file__).parent / "decoders" / "mlp.py").read_text()
    (tmp_path / "new.py").write_text(source.replace("MLPDecoder", "NewDecoder"))
    table = registry.DECODERS._builtin
    monkeypatch.setitem(table, "new", registry.Entry("new", "genzoo.decoders.new:NewDecoder", "genzoo"))
    code, out, err = call("recipes", "validate", "vae_digits", "model.head.decoder.name=new")
    assert code == 0 and "decoders/new" in out, err
    sys.modules.pop("genzoo.decoders.new")
