import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorboard", reason="needs the extra genzoo[tensorboard]")


def test_tensorboard_shows_scalars_pictures_and_the_recipe(tmp_path, run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def panel(model, step):
        picture = tmp_path / f"{step}.png"
        Image.fromarray(np.full((4, 6, 3), step, np.uint8)).save(picture)
        return {"sample": picture}

    settings = {"trackers": ["tensorboard"], "panel": panel, "panel_every": 4, "metadata": {"recipe": "name: toy"}}
    run(tmp_path, steps=12, **settings)
    run(tmp_path, steps=20, resume=True, **settings)
    events = EventAccumulator(str(tmp_path / "trackers/genzoo"), {"images": 0, "scalars": 0}).Reload()
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    for name in ("loss", "kl", "mse", "lr"):
        seen = {event.step: event.value for event in events.Scalars(name)}
        assert seen == {line["step"]: pytest.approx(line[name], rel=1e-6) for line in lines}
    pictures = events.Images("sample")
    assert [(event.step, event.height, event.width) for event in pictures] == [(s, 4, 6) for s in (4, 8, 12, 16, 20)]
    text = events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text == "    name: toy"
