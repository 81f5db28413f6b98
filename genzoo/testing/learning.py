"""Checks of objectives, terms and priors."""

import math

import torch
from torch import nn

from genzoo.layers import per_image
from genzoo.model import Model
from genzoo.testing.partners import IMAGE, images, small_model
from genzoo.testing.subject import DoesNotApply, Mismatch, Subject, close
from genzoo.testing.wiring import some

NUM_FIT = 200


def _model(part: object) -> Model:
    return small_model(getattr(part, "needs", ()))


def _scalars(part: nn.Module, model: Model, step: int = 0) -> dict[str, torch.Tensor]:
    """What an objective, or a term over the pass that an objective has charged, gives."""
    torch.manual_seed(1)
    x = images()
    made = model(x)
    made.loss = (made.composition.image - x).square().sum()
    return part(made, x, torch.tensor(step), model)


def loss(subject: Subject) -> None:
    """Loss: a dict of finite scalars, all detached but `loss`, at the first and at a late step"""
    part = subject.build(image_shape=IMAGE)
    for step in (0, 100_000):
        terms = _scalars(part, _model(part), step)
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
    objective = subject.build(image_shape=IMAGE)
    model = _model(objective)
    terms = _scalars(objective, model)
    posterior = model.encode(images())
    if "kl" not in terms or getattr(posterior, "kl_is_estimate", False):
        raise DoesNotApply("it gives no `kl`, or one that is estimated")
    expected = per_image(model.kl(posterior, posterior.mean)).item()
    if not math.isclose(terms["kl"].item(), expected, rel_tol=1e-3):
        raise Mismatch(f"the sum of model.kl(posterior, z) over the latent as kl, {expected:.5g}", f"{terms['kl']:.5g}")


def reaches_the_model(subject: Subject) -> None:
    """Gradients: the loss reaches every parameter of the model and of the objective"""
    objective = subject.build(image_shape=IMAGE)
    model = _model(objective)
    _scalars(objective, model)["loss"].backward()
    for owner, module in (("model", model), ("objective", objective)):
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        without = [name for name, p in trained.items() if p.grad is None or not torch.isfinite(p.grad).all()]
        if without:
            raise Mismatch(
                f"a finite gradient for every parameter of the {owner}", f"none for {', '.join(without[:4])}"
            )


def learns(subject: Subject) -> None:
    """Training: 30 steps of Adam on one batch bring the loss, or the error per pixel, down"""
    objective = subject.build(image_shape=IMAGE)
    model = _model(objective)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)
    first: dict[str, torch.Tensor] = {}
    for step in range(30):
        terms = _scalars(objective, model, step)
        first = first or {name: term.detach().clone() for name, term in terms.items()}
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    # a scale that follows the error (gamma) may keep the loss itself from falling
    if not any(terms[name] < first[name] for name in ("loss", "rec", "mse") if name in first):
        raise Mismatch("a loss below its first value", f"{first['loss']:.5g} at first, {terms['loss']:.5g} at the end")


def evaluation_mode(subject: Subject) -> None:
    """Eval mode: looking at the loss changes no buffer that training relies on"""
    objective = subject.build(image_shape=IMAGE).train(False)
    model = _model(objective).eval()
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    a, b = _scalars(objective, model)["loss"], _scalars(objective, model)["loss"]
    if not torch.equal(a, b):
        raise Mismatch("the same loss twice under the same seed in eval mode", f"{a:.7g} and {b:.7g}")
    for name, tensor in objective.state_dict().items():
        if not torch.equal(tensor, before[name]):
            raise Mismatch("a state that only training changes", f"{name} changed in eval mode")


def objective_state(subject: Subject) -> None:
    """State dict: saved as safetensors and loaded into a new objective, the loss is the same"""
    from safetensors.torch import load, save

    objective = subject.build(image_shape=IMAGE)
    model = _model(objective).eval()
    for step in range(3):
        _scalars(objective, model, step)
    other = subject.build(image_shape=IMAGE)
    other.load_state_dict(load(save(objective.state_dict())))
    a, b = _scalars(objective, model, 3)["loss"], _scalars(other, model, 3)["loss"]
    if not torch.equal(a, b):
        raise Mismatch("the same loss after the round trip (keep what changes in buffers)", f"{a:.7g} and {b:.7g}")


def objective_bfloat16(subject: Subject) -> None:
    """bfloat16: the loss under autocast is float32 and near the exact one"""
    part = subject.build(image_shape=IMAGE)
    with torch.autocast("cpu", torch.bfloat16):
        rough = _scalars(part, _model(part))["loss"]
    part = subject.build(image_shape=IMAGE)
    exact = _scalars(part, _model(part))["loss"]
    if rough.dtype != torch.float32 or not math.isclose(rough.item(), exact.item(), rel_tol=0.1, abs_tol=1e-2):
        raise Mismatch(f"a float32 loss near {exact:.5g}", f"{rough.dtype}, {rough:.5g}")


def weighted(subject: Subject) -> None:
    """Weight: the loss for the model is proportional to `weight`"""
    if "weight" not in type(subject.config).model_fields:
        raise Mismatch("an option `weight`", f"options {', '.join(type(subject.config).model_fields)}")
    gradients = []
    for weight in (0.5, 1.0):
        torch.manual_seed(0)
        term = type(subject.build(image_shape=IMAGE))(
            subject.config.model_copy(update={"weight": weight}), image_shape=IMAGE
        )
        term.load_state_dict(subject.build(image_shape=IMAGE).state_dict())
        model = _model(term)
        _scalars(term, model, 100_000)["loss"].backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    half, whole = gradients
    if not whole or not any(g.any() for g in whole):
        raise Mismatch("a gradient for some parameter of the model", "none")
    if any(not close(2 * a, b) for a, b in zip(half, whole, strict=True)):
        raise Mismatch("twice the gradient for the model with twice the weight", "another one")


def trained_or_hidden(subject: Subject) -> None:
    """Parameters: each is trained by the loss; frozen networks are kept out of the module tree (in a tuple)"""
    term = subject.build(image_shape=IMAGE)
    frozen = [name for name, p in term.named_parameters() if not p.requires_grad]
    if frozen:
        raise Mismatch("no frozen parameters in the module tree: they would be in every checkpoint", some(frozen))
    _scalars(term, _model(term), 100_000)["loss"].backward()
    without = [name for name, p in term.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    if without:
        raise Mismatch("a finite gradient for every parameter of the term", f"none for {some(without)}")


def _prior_model(subject: Subject) -> Model:
    return small_model(prior=subject.config)


def density(subject: Subject) -> None:
    """Prior: finite log densities, draws by the generator alone, likelier than draws from elsewhere"""
    model = _prior_model(subject).eval()
    a, b, c = (model.sample_prior(NUM_FIT, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    if tuple(a.shape) != (NUM_FIT, *model.latent_shape) or not torch.isfinite(a).all():
        raise Mismatch(f"finite draws {(NUM_FIT, *model.latent_shape)}", f"{tuple(a.shape)}")
    if not torch.equal(a, b) or torch.equal(a, c):
        raise Mismatch("draws that the generator governs, and nothing else", "others")
    own, elsewhere = model.log_prior(a), model.log_prior(a + 20)
    if tuple(own.shape) != (NUM_FIT,) or own.dtype != torch.float32 or not torch.isfinite(own).all():
        raise Mismatch(f"finite float32 log densities {(NUM_FIT,)}", f"{own.dtype} {tuple(own.shape)}")
    if own.mean() <= elsewhere.mean():
        raise Mismatch("a density that is higher at its own draws than elsewhere", "a lower one")


def prior_trains(subject: Subject) -> None:
    """Gradients: the KL reaches every parameter of the prior and of the encoder"""
    model = _prior_model(subject)
    made = model(images())
    per_image(model.kl(made.posterior, made.z)).backward()
    owners = {"prior": model.prior, "encoder": model.encoder}
    without = [f"{owner}.{name}" for owner, part in owners.items() for name, p in part.named_parameters()
               if p.requires_grad and (p.grad is None or not torch.isfinite(p.grad).all())]  # fmt: skip
    if without:
        raise Mismatch("a finite gradient for every parameter", f"none for {some(without)}")


def prior_state(subject: Subject) -> None:
    """State dict: saved as safetensors and loaded into a new model, the density is the same"""
    from safetensors.torch import load, save

    model, other = _prior_model(subject).eval(), _prior_model(subject).eval()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    other.load_state_dict(load(save(model.state_dict())))
    z = model.encode(images()).mean
    if not torch.equal(model.log_prior(z), other.log_prior(z)):
        raise Mismatch("the same density after the round trip", "another one")


TERMS = (loss, weighted, trained_or_hidden, evaluation_mode, objective_state, objective_bfloat16)
PRIORS = (density, prior_trains, prior_state)
OBJECTIVES = (loss, kl_per_image, reaches_the_model, learns, evaluation_mode, objective_state, objective_bfloat16)
