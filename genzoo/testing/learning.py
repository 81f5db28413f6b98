"""Checks of objectives and samplers."""

import math

import torch
from torch import nn

from genzoo.errors import UserError
from genzoo.model import Model, ModelConfig
from genzoo.parts import Shape
from genzoo.testing.subject import DoesNotApply, Mismatch, Subject

IMAGE: Shape = (3, 16, 16)
LATENTS: list[Shape] = [(4,), (3, 2, 2)]
NUM_FIT = 200


def _model() -> Model:
    mlp = {"name": "mlp", "hidden_dims": [8]}
    torch.manual_seed(0)
    tree = {"encoder": mlp, "latent": {"name": "gaussian", "dim": 4}, "head": {"name": "single", "decoder": mlp}}
    return Model(ModelConfig.model_validate(tree), IMAGE)


def _images() -> torch.Tensor:
    return torch.rand(4, *IMAGE, generator=torch.Generator().manual_seed(0))


def _terms(objective: nn.Module, model: Model, step: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return objective(model, _images(), torch.tensor(step))


def loss(subject: Subject) -> None:
    """Loss: a dict of finite scalars, all detached but `loss`, at the first and at a late step"""
    objective = subject.build(image_shape=IMAGE)
    for step in (0, 100_000):
        terms = _terms(objective, _model(), step)
        if not isinstance(terms, dict) or "loss" not in terms:
            raise Mismatch(
                "a dict of scalars with the key 'loss'", f"{terms if not isinstance(terms, dict) else list(terms)}"
            )
        for name, term in terms.items():
            if not isinstance(term, torch.Tensor) or term.ndim != 0 or not torch.isfinite(term):
                raise Mismatch(f"a finite 0-d tensor as {name} at step {step}", f"{term}")
            if (name == "loss") != term.requires_grad:
                raise Mismatch("a graph behind 'loss' alone: others are logged, so .detach() them", f"{name}: not so")


def kl_per_image(subject: Subject) -> None:
    """KL: in nats per image, the sum over the latent and the mean over the batch"""
    model = _model()
    terms = _terms(subject.build(image_shape=IMAGE), model)
    if "kl" not in terms:
        raise DoesNotApply("it gives no `kl`")
    expected = model.encode(_images()).kl().flatten(1).sum(1).mean().item()
    if not math.isclose(terms["kl"].item(), expected, rel_tol=1e-3):
        raise Mismatch(f"posterior.kl().flatten(1).sum(1).mean() as kl, {expected:.5g}", f"{terms['kl']:.5g}")


def reaches_the_model(subject: Subject) -> None:
    """Gradients: the loss reaches every parameter of the model and of the objective"""
    objective, model = subject.build(image_shape=IMAGE), _model()
    _terms(objective, model)["loss"].backward()
    for owner, module in (("model", model), ("objective", objective)):
        without = [name for name, p in module.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
        if without:
            raise Mismatch(
                f"a finite gradient for every parameter of the {owner}", f"none for {', '.join(without[:4])}"
            )


def learns(subject: Subject) -> None:
    """Training: 30 steps of Adam on one batch bring the loss, or the error per pixel, down"""
    objective, model = subject.build(image_shape=IMAGE), _model()
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)
    first: dict[str, torch.Tensor] = {}
    for step in range(30):
        terms = _terms(objective, model, step)
        first = first or {name: term.detach().clone() for name, term in terms.items()}
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    # a scale that follows the error (gamma) may keep the loss itself from falling
    if not any(terms[name] < first[name] for name in ("loss", "rec", "mse") if name in first):
        raise Mismatch("a loss below its first value", f"{first['loss']:.5g} at first, {terms['loss']:.5g} at the end")


def evaluation_mode(subject: Subject) -> None:
    """Eval mode: looking at the loss changes no buffer that training relies on"""
    objective, model = subject.build(image_shape=IMAGE).train(False), _model().eval()
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    a, b = _terms(objective, model)["loss"], _terms(objective, model)["loss"]
    if not torch.equal(a, b):
        raise Mismatch("the same loss twice under the same seed in eval mode", f"{a:.7g} and {b:.7g}")
    for name, tensor in objective.state_dict().items():
        if not torch.equal(tensor, before[name]):
            raise Mismatch("a state that only training changes", f"{name} changed in eval mode")


def objective_state(subject: Subject) -> None:
    """State dict: saved as safetensors and loaded into a new objective, the loss is the same"""
    from safetensors.torch import load, save

    objective, model = subject.build(image_shape=IMAGE), _model()
    for step in range(3):
        _terms(objective, model, step)
    other = subject.build(image_shape=IMAGE)
    other.load_state_dict(load(save(objective.state_dict())))
    a, b = _terms(objective, model, 3)["loss"], _terms(other, model, 3)["loss"]
    if not torch.equal(a, b):
        raise Mismatch("the same loss after the round trip (keep what changes in buffers)", f"{a:.7g} and {b:.7g}")


def objective_bfloat16(subject: Subject) -> None:
    """bfloat16: the loss under autocast is float32 and near the exact one"""
    with torch.autocast("cpu", torch.bfloat16):
        rough = _terms(subject.build(image_shape=IMAGE), _model())["loss"]
    exact = _terms(subject.build(image_shape=IMAGE), _model())["loss"]
    if rough.dtype != torch.float32 or not math.isclose(rough.item(), exact.item(), rel_tol=0.1, abs_tol=1e-2):
        raise Mismatch(f"a float32 loss near {exact:.5g}", f"{rough.dtype}, {rough:.5g}")


def _samplers(subject: Subject) -> list[tuple[nn.Module, Shape]]:
    """Samplers for the latents it takes, not fitted."""
    refusals = {shape: subject.refusal(latent_shape=shape) for shape in LATENTS}
    if all(refusals.values()):
        raise Mismatch("a sampler that can be built for some latent shape", next(iter(refusals.values())))
    return [(subject.build(latent_shape=shape), shape) for shape, refusal in refusals.items() if not refusal]


def _fit(sampler: nn.Module, shape: Shape) -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(NUM_FIT, *shape, generator=generator)
    if sampler.needs_fit:
        sampler.fit(mean, torch.rand(mean.shape, generator=generator), 0)


def draws(subject: Subject) -> None:
    """Samples: finite float32 on the CPU, of the latent's shape, any number of them"""
    for sampler, shape in _samplers(subject):
        _fit(sampler, shape)
        for num in (1, 17):
            z = sampler.sample(num, torch.Generator().manual_seed(0))
            if tuple(z.shape) != (num, *shape) or z.dtype != torch.float32 or z.device.type != "cpu":
                raise Mismatch(f"float32 {(num, *shape)} on the CPU", f"{z.dtype} {tuple(z.shape)} on {z.device}")
            if not torch.isfinite(z).all():
                raise Mismatch("finite samples", "some are not")


def sampler_determinism(subject: Subject) -> None:
    """Determinism: the generator alone governs the samples, the seed alone governs the fit"""
    (a, shape), (b, _) = _samplers(subject)[0], _samplers(subject)[0]
    torch.manual_seed(1)
    _fit(a, shape)
    torch.manual_seed(2)
    _fit(b, shape)
    first, again, other = (s.sample(9, torch.Generator().manual_seed(g)) for s, g in ((a, 3), (b, 3), (a, 4)))
    if not torch.allclose(first, again, rtol=1e-4, atol=1e-5):
        raise Mismatch("the same samples from the same seed and generator", f"{(first - again).abs().max():.3g} apart")
    if torch.equal(first, other):
        raise Mismatch("other samples from another generator", "the same: is the generator used?")


def sampler_state(subject: Subject) -> None:
    """State dict: everything `fit` learned is in it"""
    from safetensors.torch import load, save

    sampler, shape = _samplers(subject)[0]
    _fit(sampler, shape)
    other = _samplers(subject)[0][0]
    other.load_state_dict(load(save({name: t.contiguous() for name, t in sampler.state_dict().items()})))
    a, b = (s.sample(9, torch.Generator().manual_seed(3)) for s in (sampler, other))
    if not torch.equal(a, b):
        raise Mismatch(
            "the same samples from a new sampler with the state dict loaded", f"{(a - b).abs().max():.3g} apart"
        )


def unfitted(subject: Subject) -> None:
    """Not fitted: sampling is refused with a UserError"""
    sampler, _ = _samplers(subject)[0]
    if not sampler.needs_fit:
        raise DoesNotApply("it needs no fit")
    try:
        sampler.sample(3, torch.Generator())
    except UserError:
        return
    raise Mismatch("a UserError that says it has not been fitted", "samples")


OBJECTIVES = (loss, kl_per_image, reaches_the_model, learns, evaluation_mode, objective_state, objective_bfloat16)
SAMPLERS = (draws, sampler_determinism, sampler_state, unfitted)
