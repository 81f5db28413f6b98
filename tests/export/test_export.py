"""`genzoo export`: what it writes, what it refuses, and that nothing half-done stays."""

import json
import threading

import pytest
import torch

import genzoo
from genzoo.errors import UserError
from genzoo.export import files
from genzoo.export.run import export

pytest.importorskip("onnxruntime", reason="the extra export is not installed")


def test_the_command_writes_graphs_and_says_how_near_they_are(call, trained):
    code, out, err = call("export", trained, "--to", "torch")
    assert code == 0, err
    folder = trained / "export" / "torch"
    assert {path.name for path in folder.iterdir()} == {"encoder.pt2", "decoder.pt2", "about.json"}
    assert "from the model at most, 1e-04 is allowed" in out and "image batch x 1 x 32 x 32 -> mean batch x 3" in out
    assert "not exported: samplers/gmm" in out
    about = json.loads((folder / "about.json").read_text())
    assert about["checkpoint_step"] == 2 and about["image"] == {"channels": 1, "height": 32, "width": 32, "mode": "L"}
    assert about["prior"] == {"graph": "decoder", "z": "standard normal numbers"}
    x = torch.rand(3, 1, 32, 32)
    mean = torch.export.load(folder / "encoder.pt2").module()(image=x)["mean"]
    assert torch.allclose(mean, genzoo.load(trained, "cpu").encode(x).mean, atol=1e-4)
    code, _, err = call("export", trained, "--to", "torch")
    assert code == 2 and "exists: choose another place with --out" in err


def test_onnx_graphs_of_a_run(call, trained, tmp_path):
    import onnxruntime

    code, out, err = call("export", trained, "--to", "onnx", "--out", "graphs", "--json")
    assert code == 0, err
    about = json.loads(out)
    assert about["graphs"]["decoder"]["outputs"].keys() == {"y", "sigma", "y1", "y2"}
    z = torch.randn(2, 3)
    made = onnxruntime.InferenceSession(tmp_path / "graphs" / "decoder.onnx").run(["y"], {"z": z.numpy()})[0]
    assert torch.allclose(torch.from_numpy(made), genzoo.load(trained, "cpu").decode(z).image, atol=1e-4)


def test_nothing_half_done_stays(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "difference", lambda graph, run: (_ for _ in ()).throw(UserError("others")))
    with pytest.raises(UserError, match="others"):
        export(trained, "torch", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_write_one_folder_one_is_refused(tmp_path):
    from genzoo.files import making

    gate, ends = threading.Barrier(2), []

    def write(name):
        try:
            with making(tmp_path / "out") as part:
                (part / name).write_text(name)
                gate.wait()
            ends.append("written")
        except UserError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=write, args=[name]) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends)[1] == "written" and "exists" in sorted(ends)[0]
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize("words, said", [
    (["--to", "onnx", "--push", "a/b"], "--to hf"),
    (["--to", "hf", "--push", "no repository"], "not the name of a repository"),
    (["--to", "hf", "--push", "name"], "OWNER/NAME"),
    (["--to", "onnx", "--out", "taken"], "exists"),
    (["--to", "onnx", "--out", "taken/file/inside"], "no folder"),
])  # fmt: skip
def test_mistakes_are_told_before_the_work(call, trained, tmp_path, words, said, monkeypatch):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    monkeypatch.setattr("genzoo.export.run.loaded", lambda *_: pytest.fail("it went to work"))
    code, _, err = call("export", trained, *words)
    assert code == 2 and said in err and err.count("\n") == 1
    assert (tmp_path / "taken" / "file").read_text() == "mine"


def test_no_run_no_export(call):
    code, _, err = call("export", "nowhere", "--to", "onnx")
    assert code == 2 and "not a run folder" in err


def test_the_package_that_is_missing_is_named(call, trained, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = call("export", trained, "--to", "onnx", "--out", "out")
    assert code == 2 and "pip install 'genzoo[export]'" in err
