"""Exported graphs are the model, for every architecture that ships, at batches of any size."""

import json

import pytest
import torch

from genzoo.config import build, parts_in
from genzoo.densities import StandardNormal
from genzoo.errors import UserError
from genzoo.export import graphs
from genzoo.export.run import write_graphs
from genzoo.model import Model, ModelConfig
from genzoo.recipe import read
from genzoo.recipe_file import shipped
from genzoo.registry import DATASETS

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
SMALL = {"base_dim": 4, "embed_dim": 8, "num_codes": 8, "dim": 4, "num_pseudo_inputs": 4, "num_components": 4,
         "num_scales": 2, "num_levels": 2}  # fmt: skip
RECIPES = {name: read(name) for name in shipped()}


def smaller(tree):
    if isinstance(tree, list):
        return [smaller(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    return {key: SMALL.get(key, smaller(value)) if value is not None else None for key, value in tree.items()}


def covering():
    """A few recipes in which every part of a model is that is in any."""
    left = {name: {(one.kind, one.name) for one in parts_in(recipe.model)} for name, recipe in RECIPES.items()}
    chosen = []
    while most := max(left.values(), key=len):
        chosen.append(next(name for name, parts in left.items() if parts == most))
        left = {name: parts - most for name, parts in left.items()}
    return chosen


def model_of(recipe, small=True, size=None):
    torch.manual_seed(0)
    c, h, w = build(DATASETS, recipe.data).image_shape
    tree = recipe.model.model_dump(mode="json")
    config = ModelConfig.model_validate(smaller(tree)) if small else recipe.model
    model = Model(config, (c, size or h, size or w))
    with torch.no_grad():
        for _ in range(2):  # running averages, codes and scales are those of no fresh model
            model.train()(torch.rand(8, *model.image_shape))
    return model.eval()


def check(model, recipe, folder, target):
    about = write_graphs(model, recipe, folder, target)
    assert {"encoder", "decoder"} <= about["graphs"].keys()
    for name, graph in about["graphs"].items():
        assert graph["largest_difference"] <= 1e-4, name
        assert (folder / graph["file"]).is_file()
    return about


@pytest.mark.parametrize("name", [name for name in covering() if name not in ("rvq_digits", "lfq_digits")])
def test_onnx_graphs_are_the_model(name, tmp_path):
    recipe = RECIPES[name]
    model = model_of(recipe, size=8)
    about = check(model, recipe, tmp_path, "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["image"]
    assert session.get_inputs()[0].shape == ["batch", *model.image_shape]
    x = torch.rand(5, *model.image_shape)
    found = dict(zip([one.name for one in session.get_outputs()], session.run(None, {"image": x.numpy()}), strict=True))
    with torch.no_grad():
        posterior = model.encode(x)
        mean, due = posterior.mean, model.decode(posterior.mean)
    assert torch.allclose(torch.from_numpy(found["mean"]), mean, atol=1e-4)
    session = onnxruntime.InferenceSession(tmp_path / "decoder.onnx", providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    assert names == ["y", *due.parts]
    for part, made in zip(names, session.run(None, {"z": mean.numpy()}), strict=True):
        assert torch.allclose(torch.from_numpy(made), {"y": due.image, **due.parts}[part], atol=1e-4), part
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["genzoo.preprocessing"]) == about["preprocessing"]


@pytest.mark.parametrize("name", ["split_vq_digits"])
def test_exported_programs_are_the_model(name, tmp_path):
    recipe = RECIPES[name]
    model = model_of(recipe, size=8)
    check(model, recipe, tmp_path, "torch")
    x = torch.rand(4, *model.image_shape)
    program = torch.export.load(tmp_path / "encoder.pt2").module()
    assert torch.allclose(program(image=x)["mean"], model.encode(x).mean, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("target", ["onnx", "torch"])
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_at_its_own_size(name, target, tmp_path):
    check(model_of(RECIPES[name], small=False), RECIPES[name], tmp_path, target)


def test_drawing_says_how_the_prior_is_drawn_from():
    for name, (graph, inputs) in {
        "svae_digits": ("decoder", {"z"}),
        "vmf_digits": ("decoder", {"z"}),
        "vq_digits": ("decoder_from_codes", {"codes"}),
        "vamp_digits": ("prior", {"noise", "uniform"}),
        "mog_digits": ("prior", {"noise", "uniform"}),
    }.items():
        made = graphs.exports(model_of(RECIPES[name], size=8))
        assert made.drawing["graph"] == graph and made.drawing.keys() - {"graph"} == inputs, name
        assert graph in made.graphs and made.graphs[graph].example(2).keys() == inputs
    made = graphs.exports(model_of(RECIPES["rae_digits"], size=8))
    assert made.drawing == {} and "no prior" in made.left_out and made.graphs.keys() == {"encoder", "decoder"}


def test_the_mixture_graph_draws_from_the_prior():
    """Means and shares of its latents are those of the prior's own draws."""
    model = model_of(RECIPES["mog_digits"], size=8)
    with torch.no_grad():
        model.prior.mean.mul_(5)
        model.prior.logits.copy_(torch.tensor([3.0, 0, 1, 0]))
        model.prior.logvar.fill_(-4)
    graph = graphs.exports(model).graphs["prior"]
    seen = []
    expand = graph.module.latent.expand
    graph.module.latent.expand = lambda z: seen.append(z) or expand(z)
    graph.module(**graph.example(4000))
    own = model.sample_prior(4000, torch.Generator().manual_seed(1))
    assert torch.allclose(seen[0].mean(0), own.mean(0), atol=0.4)
    assert torch.allclose(seen[0].std(0), own.std(0), atol=0.4)


def test_a_graph_that_is_not_the_model_is_refused():
    graph = graphs.exports(model_of(RECIPES["svae_digits"], size=8)).graphs["decoder"]
    assert graphs.difference(graph, lambda inputs: graph.module(**inputs)) == 0
    with pytest.raises(UserError, match="from the model"):
        graphs.difference(graph, lambda inputs: {k: v + 2e-4 for k, v in graph.module(**inputs).items()})
    with pytest.raises(UserError, match="shapes"):
        graphs.difference(graph, lambda inputs: {k: v[:1, :, :1] for k, v in graph.module(**inputs).items()})
    with pytest.raises(UserError, match="nan"):
        graphs.difference(graph, lambda inputs: {k: v * torch.nan for k, v in graph.module(**inputs).items()})


def test_codes_may_differ_where_rounding_decides():
    graph = graphs.exports(model_of(RECIPES["vq_digits"], size=8)).graphs["encoder"]

    def flipped(num):
        def run(inputs):
            made = graph.module(**inputs)
            made["codes"].flatten()[:num] += 1
            made["mean"][0] += 1
            return made

        return run

    assert graphs.difference(graph, flipped(1)) == 0
    with pytest.raises(UserError, match="codes"):
        graphs.difference(graph, flipped(4))


def test_a_model_that_cannot_be_traced_is_said(tmp_path):
    graph = graphs.exports(model_of(RECIPES["vae_digits"], size=8)).graphs["decoder"]

    class Odd(torch.nn.Module):
        def forward(self, z):
            return {"y": z if z.sum() > 0 else -z}

    with pytest.raises(UserError, match="cannot be exported as a graph"):
        graphs.traced(graphs.Graph(Odd(), graph.example))


def test_only_a_standard_normal_prior_is_said_to_be_one():
    made = graphs.exports(model_of(RECIPES["kl_digits"], size=8))
    assert made.drawing == {"graph": "decoder", "z": "standard normal numbers"}
    model = model_of(RECIPES["kl_digits"], size=8)
    model.latent.prior = type("Odd", (), {"sample": StandardNormal(model.latent_shape).sample})()
    made = graphs.exports(model)
    assert made.drawing == {} and "its prior has no graph" in made.left_out
