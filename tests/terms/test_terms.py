"""Terms against hand computation; critic and model do not move each other."""

import copy

import pytest
import torch

from genzoo.config import build
from genzoo.parts import Composition, Pass
from genzoo.registry import TERMS
from genzoo.testing.partners import IMAGE, images, small_model


def make(name, **options):
    torch.manual_seed(0)
    return build(TERMS, TERMS.get(name).Config.model_validate({"name": name, **options}), image_shape=IMAGE)


def charge(term, model, step=10):
    torch.manual_seed(1)
    x = images()
    made = model(x)
    made.loss = (made.composition.image - x).square().sum()
    return made, term(made, x, torch.tensor(step), model)


ADVERSARIES = [{"loss": "hinge"}, {"loss": "non_saturating", "r1": 2.0}, {"loss": "hinge", "adaptive": True}]


@pytest.mark.parametrize("options", ADVERSARIES, ids=str)
def test_one_backward_pass_is_two_separate_games(options):
    """The model's gradient is that of its share alone, the critic's that of its own loss alone: exactly."""
    term = make("adversarial", critic={"name": "conv", "base_dim": 2}, weight=0.5, **options)
    model = small_model().train()
    twin, rival = copy.deepcopy(model), copy.deepcopy(term)
    charge(term, model)[1]["loss"].backward()

    x = images()
    torch.manual_seed(1)
    made = twin(x)
    image = made.composition.image
    score = rival.critic(image)
    share = -score.mean() if options["loss"] == "hinge" else torch.nn.functional.softplus(-score).mean()
    scale = 1.0
    if options.get("adaptive"):
        of_loss = torch.autograd.grad((image - x).square().sum(), image, retain_graph=True)[0].norm()
        scale = of_loss / (torch.autograd.grad(share, image, retain_graph=True)[0].norm() + 1e-6)
    gradients = torch.autograd.grad(0.5 * scale * share, [p for p in twin.parameters()], allow_unused=True)
    for p, expected in zip(model.parameters(), gradients, strict=True):
        assert (p.grad is None) == (expected is None)
        assert p.grad is None or torch.equal(p.grad, expected)

    rival = copy.deepcopy(make("adversarial", critic={"name": "conv", "base_dim": 2}, weight=0.5, **options))
    real_x = x.clone().requires_grad_()
    real, fake = rival.critic(real_x), rival.critic(image.detach())
    if options["loss"] == "hinge":
        loss = (1 - real).relu().mean() + (1 + fake).relu().mean()
    else:
        loss = torch.nn.functional.softplus(-real).mean() + torch.nn.functional.softplus(fake).mean()
        slope = torch.autograd.grad(real.sum(), real_x, create_graph=True)[0]
        loss = loss + slope.square().flatten(1).sum(1).mean()  # r1 / 2 = 1
    loss.backward()
    for p, expected in zip(term.critic.parameters(), rival.critic.parameters(), strict=True):
        torch.testing.assert_close(p.grad, expected.grad, rtol=1e-6, atol=1e-8)
    for own, expected in zip(term.critic.buffers(), rival.critic.buffers(), strict=True):
        assert torch.equal(own, expected)  # the model's look at the critic leaves its averages


def test_before_its_start_nothing_moves():
    term, model = make("adversarial", critic={"name": "conv", "base_dim": 2}, start=100), small_model()
    charge(term, model, step=99)[1]["loss"].backward()
    assert not any(p.grad.any() for p in (*term.parameters(), *model.parameters()) if p.grad is not None)
    charge(term, model, step=100)[1]["loss"].backward()
    assert any(p.grad.any() for p in term.parameters()) and any(p.grad.any() for p in model.head.parameters())


@pytest.mark.parametrize(("loss", "chance"), [("hinge", 2.0), ("non_saturating", 2 * torch.tensor(2.0).log().item())])
def test_a_critic_that_has_won_is_said_with_the_remedy(loss, chance):
    term, model = make("adversarial", critic={"name": "conv", "base_dim": 2}, loss=loss), small_model()
    for layer in term.critic[1:].modules():
        for parameter in layer.parameters(recurse=False):
            torch.nn.init.zeros_(parameter)  # it can tell nothing
    _, scalars = charge(term, model)
    assert scalars["critic"].item() == pytest.approx(chance)
    assert term.diagnosis({name: value.item() for name, value in scalars.items()}) == ""
    assert "r1" in term.diagnosis({"critic": 0.02 * chance}) and "has won" in term.diagnosis({"critic": 0.02 * chance})


def test_the_critic_asks_for_a_rate_of_its_own():
    (group,) = make("adversarial", lr=3e-4, betas=[0.5, 0.9]).param_groups()
    assert group["lr"] == 3e-4 and group["betas"] == (0.5, 0.9) and len(group["params"]) > 4


def maps(value):
    made = Composition(torch.zeros(2, *IMAGE), maps={"sigma": value})
    return Pass(None, None, made)


def test_total_variation_and_high_frequency_of_known_maps():
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    board = ((rows + columns) % 2).float().expand(2, 1, 16, 16)
    half = (columns >= 8).float().expand(2, 1, 16, 16)
    flat = torch.full((2, 1, 16, 16), 0.3)
    tv, hf = (make(name, weight=2.0) for name in ("total_variation", "high_frequency"))
    x, step = images(num=2), torch.tensor(0)
    assert tv(maps(flat), x, step, None)["loss"] == 0
    assert tv(maps(half), x, step, None)["loss"] == 2 * 16
    assert tv(maps(board), x, step, None)["loss"] == 2 * 2 * 16 * 15
    assert hf(maps(flat), x, step, None)["loss"] == pytest.approx(0, abs=1e-9)
    assert hf(maps(board), x, step, None)["loss"] == pytest.approx(2 * 0.25 * 256)
    assert 0 < hf(maps(half), x, step, None)["loss"] < 2 * 0.1 * 256


def test_gradient_penalty_is_the_jacobians_norm():
    model = small_model().eval()
    term = make("gradient_penalty", weight=1.0)
    made, _ = charge(term, model)
    jacobian = torch.autograd.functional.jacobian(lambda z: model.decode(z).image.sum(0), made.z)  # c h w b d
    exact = jacobian.square().sum((0, 1, 2, 4)).mean()
    values = []
    for seed in range(400):
        torch.manual_seed(seed)
        values.append(term(made, images(), torch.tensor(0), model)["loss"].detach())
    values = torch.stack(values)
    assert (values.mean() - exact).abs() < 5 * values.std() / 20


@pytest.mark.parametrize("of", ["means", "draws"])
def test_dip_by_numpy(of):
    model = small_model()
    made, terms = charge(make("dip", weight=3.0, diagonal=5.0, of=of), model)
    mean, variance = made.posterior.mean.detach().double(), made.posterior.variance.detach().double()
    covariance = torch.cov(mean.T, correction=0) + (variance.mean(0).diag() if of == "draws" else 0)
    apart = sum(covariance[i, j] ** 2 for i in range(4) for j in range(4) if i != j)
    expected = 3 * (apart + 5 * sum((covariance[i, i] - 1) ** 2 for i in range(4)))
    assert terms["loss"].item() == pytest.approx(float(expected), rel=1e-4)


def test_perceptual_is_nothing_for_the_same_image_and_its_network_is_hidden():
    term, x = make("perceptual", size=32, weight=1.0), images()
    state = torch.get_rng_state()
    assert term(Pass(None, None, Composition(x)), x, torch.tensor(0), None)["loss"] == 0
    assert torch.equal(torch.get_rng_state(), state)  # building the network draws nothing of the step's numbers
    other = x.flip(2).requires_grad_()
    loss = term(Pass(None, None, Composition(other)), x, torch.tensor(0), None)["loss"]
    loss.backward()
    assert loss > 0.1 and other.grad.isfinite().all() and other.grad.any()
    assert not list(term.parameters()) and not term.state_dict()
    with pytest.raises(Exception, match="gives no maps"):
        make("perceptual", features="inception")
