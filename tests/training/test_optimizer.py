import math

import pytest
import torch
from torch import nn

from genzoo.errors import UserError
from genzoo.training.config import OptimizerConfig, ScheduleConfig
from genzoo.training.optimizer import check_optimizer, make_optimizer, make_schedule


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"name": "adamm"}, "no optimizer of timm's; did you mean 'adam'"),
        ({"name": "adahessian"}, "second-order"),
        ({"name": "fusedadam"}, "cannot be used here: "),
        ({"name": "sgd", "betas": [0.9, 0.9]}, "betas: sgd has no such option"),
        ({"name": "adam", "momentum": 0.5}, "momentum: adam has no such option"),
        ({"name": "adam", "betas": [0.9]}, "takes 2 values, not 1"),
    ],
    ids=str,
)
def test_refused_before_training(setting, message):
    with pytest.raises(UserError, match=message):
        check_optimizer(OptimizerConfig.model_validate(setting))


def test_fused_where_there_is_one():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    optimizer = make_optimizer(module, OptimizerConfig(name="adamw", lr=0.1, weight_decay=0.3, betas=(0.5, 0.6)))
    assert isinstance(optimizer, torch.optim.AdamW) and all(group["fused"] for group in optimizer.param_groups)
    decays = {tuple(p.shape): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {(2, 1, 3, 3): 0.3, (2,): 0.0}
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.6)
    assert "fused" not in make_optimizer(module, OptimizerConfig(name="lamb")).param_groups[0]


def test_nothing_is_compiled_unasked():
    def compiled(**options):
        optimizer = make_optimizer(nn.Linear(2, 2), OptimizerConfig(name="kron"), **options)
        return [name for name, value in vars(optimizer).items() if hasattr(value, "__wrapped__")]

    assert compiled(compiled=True) and not compiled()


def rates(config, steps=100, lr=2.0):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = make_schedule(optimizer, ScheduleConfig.model_validate(config), lr, steps)
    values = []
    for step in range(steps):
        schedule.step_update(step)
        values.append(optimizer.param_groups[0]["lr"])
    return values


def test_schedules():
    assert rates({}) == [2.0] * 100
    warm = rates({"warmup_steps": 10})
    assert warm[:10] == pytest.approx([0.2 + 0.18 * step for step in range(10)]) and warm[10:] == [2.0] * 90
    cosine = rates({"name": "cosine", "warmup_steps": 10, "min_lr": 0.1})
    assert cosine[10:] == pytest.approx([0.1 + 0.95 * (1 + math.cos(math.pi * step / 100)) for step in range(10, 100)])
    assert rates({"name": "poly"}) == pytest.approx([2 - 0.02 * step for step in range(100)])
    assert rates({"name": "poly", "power": 2})[50] == pytest.approx(0.5)
    assert rates({"name": "step", "decay_steps": 40, "decay_rate": 0.5})[39:41] == [2.0, 1.0]
    tanh = rates({"name": "tanh"})
    assert tanh[0] > 1.9 and tanh[-1] < 0.1 and sorted(tanh, reverse=True) == tanh


class Critic(nn.Module):
    def __init__(self, lr=None, betas=None):
        super().__init__()
        self.net, self.lr, self.betas = nn.Linear(3, 1), lr, betas

    def param_groups(self):
        return [{"params": list(self.net.parameters()), "lr": self.lr, "betas": self.betas}]


def test_a_part_may_have_groups_of_its_own_whose_rates_the_schedule_scales():
    critic = Critic(lr=4e-3, betas=(0.5, 0.9))
    module = nn.ModuleList([nn.Linear(2, 2), critic])
    optimizer = make_optimizer(module, OptimizerConfig(lr=1e-3))
    *_, own = optimizer.param_groups
    assert (
        own["betas"] == (0.5, 0.9)
        and own["lr"] == 4e-3
        and {*map(id, own["params"])} == {*map(id, critic.parameters())}
    )
    everyone = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(everyone) == sorted(map(id, module.parameters()))
    schedule = make_schedule(optimizer, ScheduleConfig(name="cosine"), 1e-3, 100)
    schedule.step_update(50)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates[-1] / rates[0] == pytest.approx(4)
    plain = make_optimizer(nn.ModuleList([nn.Linear(2, 2), Critic()]), OptimizerConfig(lr=1e-3))
    assert {group["lr"] for group in plain.param_groups} == {1e-3}


def test_a_group_asks_for_what_the_optimizer_has():
    with pytest.raises(UserError, match="sgd has no betas"):
        make_optimizer(nn.ModuleList([Critic(betas=(0.5, 0.9))]), OptimizerConfig(name="sgd"))
