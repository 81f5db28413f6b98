import copy

import pytest
import torch
from torch import nn

from genzoo.model import Model, ModelConfig
from genzoo.objectives.elbo import ELBO
from genzoo.training.recompute import blocks, recomputed
from genzoo.training.step import Step

SIZES = {
    "encoder": {"name": "resnet", "base_dim": 4, "num_scales": 2, "embed_dim": 8},
    "latent": {"name": "gaussian", "dim": 3},
    "head": {"name": "split", "decoder": {"name": "resnet", "base_dim": 4}},
}


def gradients(step, images, kept):
    """Of one pass of a training step, with the bytes that are kept for it."""
    torch.manual_seed(5)
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = step(images, torch.tensor(0))["loss"]
        kept.append(sum(storages.values()))
        loss.backward()
    return {name: parameter.grad for name, parameter in step.named_parameters()}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_split_model_has_the_same_gradients_and_buffers_and_keeps_less(precision):
    torch.manual_seed(0)
    model = Model(ModelConfig.model_validate(SIZES), (3, 16, 16))
    objective = ELBO(ELBO.Config(), image_shape=(3, 16, 16))
    plain = Step(model, objective)
    saving = Step(copy.deepcopy(model), copy.deepcopy(objective), activation_checkpointing=True)
    images, kept = torch.randint(0, 256, (40, 16, 16, 3), dtype=torch.uint8), []
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        expected, found = gradients(plain, images, kept), gradients(saving, images, kept)
    assert expected.keys() == found.keys()
    assert all(found[name].equal(expected[name]) for name in expected)
    after, wanted = saving.state_dict(), plain.state_dict()
    assert all(after[name].equal(wanted[name]) for name in wanted)  # BatchNorm's averages took the batch in once
    assert any(name.endswith("num_batches_tracked") and wanted[name] == 1 for name in wanted)
    assert kept[1] < 0.6 * kept[0]
    assert all("forward" not in vars(module) for module in saving.modules())


def test_random_numbers_are_drawn_again_as_they_were():
    block = nn.Sequential(nn.Linear(5, 5), nn.Dropout(), nn.Linear(5, 5))
    x = torch.randn(20, 5)
    results = []
    for chosen in ([], blocks(block)):
        torch.manual_seed(1)
        block.zero_grad()
        with recomputed(chosen):
            y = block(x)
        torch.rand(7)  # what follows the block has random numbers, too
        y.square().sum().backward()
        results.append([torch.rand(()), *(parameter.grad.clone() for parameter in block.parameters())])
    assert blocks(block) == [block]
    assert all(a.equal(b) for a, b in zip(*results, strict=True))


def test_blocks_with_buffers_of_their_own_kind_are_left_alone():
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.register_buffer("calls", torch.zeros(()))

    safe, unsafe = nn.Sequential(nn.BatchNorm1d(2), nn.ReLU()), nn.Sequential(Counting(), nn.ReLU())
    assert blocks(nn.Sequential(safe, unsafe, nn.Linear(2, 2))) == [safe]


def test_batch_norm_that_is_synchronized_is_computed_again_and_counts_once():
    plain = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.SiLU())
    saving = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))  # one process computes it on CPUs, too
    x = torch.randn(5, 3)
    plain(x).square().sum().backward()
    with recomputed(blocks(saving)):
        y = saving(x)
    y.square().sum().backward()
    wanted = dict(plain.named_parameters())
    assert all(parameter.grad.equal(wanted[name].grad) for name, parameter in saving.named_parameters())
    assert all(tensor.equal(saving.state_dict()[name]) for name, tensor in plain.state_dict().items())


def test_a_run_is_the_same(tmp_path, run):
    settings = {"grad_accumulation": 2, "on_nonfinite": "skip"}
    plain = run(tmp_path / "plain", **settings)[0].state_dict()
    saving = run(tmp_path / "saving", activation_checkpointing=True, **settings)[0].state_dict()
    assert all(saving[name].equal(plain[name]) for name in plain)
