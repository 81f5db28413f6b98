import pytest
import torch
from torch import nn

from genzoo.errors import UserError
from genzoo.training.step import Step, synchronize_batch_norm


def test_batch_norm_is_synchronized_between_gpus_with_the_same_state(toy):
    step = Step(*toy, channels_last=True)
    before = {name: tensor.clone() for name, tensor in step.state_dict().items()}
    assert synchronize_batch_norm(step, torch.device("cpu"), 1) is step
    assert any(type(module) is nn.BatchNorm2d for module in step.modules())
    made = synchronize_batch_norm(step, torch.device("cuda"), 2)
    assert made.model is toy[0]  # the model that is saved
    assert not any(type(module) is nn.BatchNorm2d for module in made.modules())
    assert any(type(module) is nn.SyncBatchNorm for module in toy[0].modules())
    after = made.state_dict()
    assert after.keys() == before.keys() and all(after[name].equal(before[name]) for name in before)


class Says(nn.Module):
    def __init__(self, name, low):
        super().__init__()
        self.name, self.low = name, low

    def diagnosis(self, means):
        return f"{self.name} is {means[self.low]}" if means[self.low] < 1 else ""


def test_each_part_has_its_say_on_its_own_scalars(toy):
    terms = {"one": Says("one", "x"), "two": Says("two", "loss"), "silent": nn.Identity()}
    step = Step(toy[0], Says("all", "kl"), terms)
    means = {"kl": 5.0, "x": 0.1, "one": 3.0, "one.x": 0.5, "two": 0.25, "silent": 0.0}
    assert step.diagnoses(means) == ["one is 0.5", "two is 0.25"]
    assert step.diagnoses({**means, "kl": 0.0, "one.x": 2.0, "two": 2.0}) == ["all is 0.0"]


def test_batch_norm_cannot_be_synchronized_on_cpus(toy):
    with pytest.raises(UserError, match=r"train\.sync_batch_norm: .* GPUs only"):
        synchronize_batch_norm(Step(*toy, channels_last=True), torch.device("cpu"), 2)
