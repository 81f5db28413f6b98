import subprocess
import sys

import pytest
from pydantic import ValidationError

from genzoo.training.config import OptimizerConfig, ScheduleConfig, TrainConfig


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, 90),
        ("90", None),
        ("90s", 90),
        ("2h30m", 9000),
        ("1d 1h", 90000),
        ("1.5h", 5400),
        ("2h30", None),
        ("soon", None),
        ("0s", None),
    ],
)
def test_times(given, seconds):
    if seconds is None:
        with pytest.raises(ValidationError, match="max_time"):
            TrainConfig(max_time=given)
    else:
        config = TrainConfig(max_time=given)
        assert config.max_time == seconds
        assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batchsize": 3}, "did you mean 'batch_size'"),
        ({"optimizer": {"learning_rate": 1}}, "unknown option"),
        ({"schedule": {"name": "cosin"}}, "'cosine'"),
        ({"compile": "on"}, "'max-autotune'"),
        ({"ema": 1}, "less than 1"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"optimizer": {"lr": float("nan")}}, "finite"),
        ({"clip_grad_norm": 0}, "greater than 0"),
        ({"compile": "max-autotune", "grad_accumulation": 2}, "cannot accumulate gradients; use default"),
        ({"activation_checkpointing": True, "compile": "default"}, "not with compile"),
    ],
    ids=str,
)
def test_mistakes(setting, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig.model_validate(setting)


def test_every_option_says_what_it_means():
    for config in (TrainConfig, OptimizerConfig, ScheduleConfig):
        for name, field in config.model_fields.items():
            assert field.description or name in ("optimizer", "schedule"), name


def test_parsing_loads_nothing_slow():
    code = "import sys, genzoo.training.config; print({'torch', 'timm', 'accelerate', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
