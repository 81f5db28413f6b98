import json


def read_log(folder):
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def test_a_run(tmp_path, run):
    seen = []
    model, _, result = run(
        tmp_path, panel=lambda module, step: seen.append((step, module.training)), panel_every=8, ema=None
    )
    lines = read_log(tmp_path)
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20]
    assert seen == [(8, False), (16, False), (20, False)]
    assert lines[-1]["images"] == 200 and lines[-1]["loss"] < lines[0]["loss"]
    assert result["steps"] == 20 and result["precision"] == "fp32" and result["device"] == "cpu"
    assert result["num_parameters"] == sum(p.numel() for p in model.parameters())
    assert not model.training
