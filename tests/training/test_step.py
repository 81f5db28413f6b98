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


def test_batch_norm_cannot_be_synchronized_on_cpus(toy):
    with pytest.raises(UserError, match=r"train\.sync_batch_norm: .* GPUs only"):
        synchronize_batch_norm(Step(*toy, channels_last=True), torch.device("cpu"), 2)
