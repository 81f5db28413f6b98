import errno
import json
import os
import shutil

import pytest
import torch
from torch import nn

from genzoo.errors import UserError
from genzoo.files import sha256
from genzoo.training import checkpoint


def save(folder, step, value=None, **kwargs):
    tensors = {"weight": torch.full((2, 3), float(step if value is None else value))}
    return checkpoint.save(folder, step, {"model": tensors}, {"step": step}, **{"keep": 9, **kwargs})


def steps(folder):
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


def test_round_trip(tmp_path):
    path = save(tmp_path, 7, metadata={"recipe": "name: x"})
    assert path == checkpoint.newest(tmp_path) and path.name == "step-00000007"
    assert checkpoint.read_tensors(path, "model")["weight"].tolist() == [[7.0] * 3] * 2
    assert checkpoint.read_state(path) == {"step": 7}
    assert b"name: x" in (path / "model.safetensors").read_bytes()[:400]
    assert {file.name for file in path.iterdir()} == {"model.safetensors", "state.json", "manifest.json"}


def test_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    final, synced = tmp_path / "checkpoints/step-00000001", []
    monkeypatch.setattr(checkpoint, "sync", lambda path: synced.append((path.name, final.exists())))
    save(tmp_path, 1)
    files = [(path.name, False) for path in final.iterdir()]
    assert sorted(synced[:-2]) == sorted(files)
    assert synced[-2:] == [(".partial-step-00000001", False), ("checkpoints", True)]


def test_nothing_yet(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        checkpoint.load_model(tmp_path, nn.Linear(3, 2))


def test_keep(tmp_path):
    for step in (1, 2, 3, 10):
        save(tmp_path, step, keep=2)
    assert steps(tmp_path) == [3, 10]


@pytest.mark.parametrize("damage", ["flip", "truncate", "lose", "manifest"])
def test_a_damaged_newest_is_passed_over(tmp_path, caplog, damage):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    file = path / ("manifest.json" if damage == "manifest" else "model.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    {
        "flip": lambda: file.write_bytes(content),
        "truncate": lambda: file.write_bytes(content[:-1]),
        "lose": file.unlink,
        "manifest": lambda: file.write_text("{"),
    }[damage]()
    assert checkpoint.newest(tmp_path).name == "step-00000001"
    assert "step-00000002 is damaged" in caplog.text
    save(tmp_path, 2, value=5)  # training comes by again and replaces it
    assert checkpoint.read_tensors(checkpoint.newest(tmp_path), "model")["weight"][0, 0] == 5
    for path in (tmp_path / "checkpoints").glob("step-*"):
        (path / "state.json").write_text("{}")
    with pytest.raises(UserError, match="no checkpoint is whole"):
        checkpoint.newest(tmp_path)


@pytest.mark.parametrize("name", ["/dev/zero", "../../secret", "link", "pipe", "folder", "\x1b]0;x\x07", ""])
def test_a_manifest_names_files_of_its_own_folder_alone(tmp_path, caplog, name):
    """Whatever else it names is neither opened (the devices and pipes would hang) nor believed."""
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    (tmp_path / "secret").write_text("secret")
    (path / "link").symlink_to(tmp_path / "secret")
    (path / "folder").mkdir()
    os.mkfifo(path / "pipe")
    digests = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**digests, name: sha256(tmp_path / "secret")}))
    assert checkpoint.newest(tmp_path).name == "step-00000001"
    assert "do not agree on" in caplog.text or "No such file" in caplog.text
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize("digests", ["{}", "null", "[]", '{"state.json": 1}'])
def test_a_manifest_of_nothing_is_not_whole(tmp_path, digests):
    save(tmp_path, 1)
    (save(tmp_path, 2) / "manifest.json").write_text(digests)
    assert checkpoint.newest(tmp_path).name == "step-00000001"


def test_tensors_that_the_manifest_does_not_know_are_not_loaded(tmp_path):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    shutil.copy(path / "model.safetensors", path / "ema.safetensors")
    assert checkpoint.newest(tmp_path).name == "step-00000001"


def test_leftovers_of_killed_writes_go(tmp_path):
    save(tmp_path, 1)
    shutil.copytree(tmp_path / "checkpoints/step-00000001", tmp_path / "checkpoints/.partial-step-00000002")
    assert checkpoint.newest(tmp_path).name == "step-00000001"
    save(tmp_path, 2)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step-00000001", "step-00000002"]


def test_too_little_space_is_seen_before_anything_is_written(tmp_path, monkeypatch):
    save(tmp_path, 1, keep=1)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="a checkpoint needs 1 MB and 1,000 bytes are free"):
        save(tmp_path, 2, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_a_disk_that_fills_up_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    save(tmp_path, 1, keep=1)

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match="make room and go on with --resume"):
        save(tmp_path, 2, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert checkpoint.newest(tmp_path).name == "step-00000001"


def test_tied_and_strided_weights(tmp_path):
    tied = torch.arange(6.0).reshape(2, 3)
    image = torch.arange(48.0).reshape(1, 3, 4, 4).to(memory_format=torch.channels_last)
    groups = {"model": {"a": tied, "b": tied, "half": tied[1], "image": image}, "objective": {}}
    read = checkpoint.read_tensors(checkpoint.save(tmp_path, 1, groups, {}, keep=1), "model")
    assert all(read[name].equal(tensor) for name, tensor in groups["model"].items())


def test_any_optimizer_state_survives():
    tree = {
        "state": {0: {"step": 3, "q": [torch.ones(2), None]}, 5: {}},
        "param_groups": [{"betas": (0.9, 0.99), "params": [0], "kept_in": torch.bfloat16}],
    }
    tensors = {}
    packed = json.loads(json.dumps(checkpoint.pack(tree, "", tensors)))
    assert list(tensors) == ["state.0.q.0"]
    read = checkpoint.unpack(packed, tensors)
    assert read["state"][0]["q"][0] is tensors["state.0.q.0"] and read["state"][0]["q"][1] is None
    assert read["state"][5] == {} and read["param_groups"] == tree["param_groups"]


def test_load_model_prefers_the_average_and_refuses_another_model(tmp_path):
    model = nn.Linear(3, 2, bias=False)
    save(tmp_path, 1)
    assert checkpoint.load_model(tmp_path, model) == 1 and model.weight[0, 0] == 1
    groups = {"model": {"weight": torch.ones(2, 3)}, "ema": {"weight": torch.full((2, 3), 0.5)}}
    checkpoint.save(tmp_path, 2, groups, {"step": 2}, keep=2)
    assert checkpoint.load_model(tmp_path, model) == 2 and model.weight[0, 0] == 0.5
    with pytest.raises(
        UserError, match=r"(?s)step-00000002 was made by another recipe: its ema does not fit.*size mismatch"
    ):
        checkpoint.load_model(tmp_path, nn.Linear(4, 2, bias=False))


def test_the_best_is_kept_beside_the_newest_with_its_own_optimizer_state(tmp_path):
    for step, loss in enumerate((5.0, 1.0, 3.0, None, 1.0, 2.0), start=1):
        groups = {name: {"value": torch.tensor(float(step))} for name in ("model", "optimizer")}
        scalars = {} if loss is None else {"loss": loss}
        checkpoint.save(tmp_path, step, groups, {"step": step, "scalars": scalars}, keep=2, keep_best="loss")
    assert steps(tmp_path) == [2, 5, 6]
    best = checkpoint.best(tmp_path, "loss")
    assert best.name == "step-00000002" and checkpoint.best(tmp_path, "mse") is None
    assert [checkpoint.read_tensors(best, group)["value"] for group in ("model", "optimizer")] == [2, 2]
    (best / "state.json").write_text("{")
    assert checkpoint.best(tmp_path, "loss").name == "step-00000005"
    assert checkpoint.newest(tmp_path).name == "step-00000006"


@pytest.mark.parametrize("keep_best", [None, "loss"])
def test_damaged_ones_beyond_it_never_push_a_whole_one_out(tmp_path, keep_best):
    for step in (5, 10, 15):
        tensors = {"model": {"weight": torch.ones(2)}}
        checkpoint.save(tmp_path, step, tensors, {"step": step, "scalars": {"loss": -step}}, keep=3)
    for step in (10, 15):
        (tmp_path / f"checkpoints/step-{step:08d}/model.safetensors").write_bytes(b"")
    checkpoint.save(tmp_path, 8, tensors, {"step": 8, "scalars": {"loss": 0}}, keep=1, keep_best=keep_best)
    assert steps(tmp_path) == ([5, 8] if keep_best else [8])
    assert checkpoint.newest(tmp_path).name == "step-00000008"


def rewritten(path, change):
    """The optimizer's groups of a checkpoint, changed, and digests that agree."""
    state = json.loads((path / "state.json").read_text())
    change([group["dict"] for group in dict(state["optimizer"]["dict"])["param_groups"]])
    (path / "state.json").write_text(json.dumps(state))
    files = [file for file in path.iterdir() if file.name != "manifest.json"]
    (path / "manifest.json").write_text(json.dumps({file.name: sha256(file) for file in files}))


def test_the_optimizers_settings_are_the_recipes_whatever_a_checkpoint_says(tmp_path, run):
    whole, *_ = run(tmp_path / "whole", steps=6)
    run(tmp_path / "half", steps=6, max_time=None, checkpoint_every=3, keep=2)
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "step-00000006")

    def lie(groups):
        for entry in (entry for group in groups for entry in group if entry[0] != "params"):
            entry[1] = "x"

    rewritten(tmp_path / "half" / "checkpoints" / "step-00000003", lie)
    resumed, *_ = run(tmp_path / "half", steps=6, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_what_no_optimizer_writes_is_no_checkpoint(tmp_path, run):
    run(tmp_path, steps=3)
    rewritten(tmp_path / "checkpoints" / "step-00000003", lambda groups: groups[0].append(["step", "x"]))
    with pytest.raises(UserError, match=r"not what training writes .*step.* no number"):
        run(tmp_path, steps=6, resume=True)
