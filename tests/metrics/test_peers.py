"""Our formulas on the same features as torch-fidelity's and torchmetrics', where those are installed."""

import pytest
import torch

from genzoo.frechet import Statistics, frechet_distance
from genzoo.metrics.kid import kernel_distance
from genzoo.metrics.precision_recall import precision_recall
from genzoo.neighbors import radii


@pytest.fixture
def sides():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(120, 10, generator=generator)
    return real, 1.2 * torch.randn(90, 10, generator=generator) + 0.3


def test_torch_fidelity(sides):
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kernel_mmd
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    real, fake = sides
    known = [fid_features_to_statistics(side.double()) for side in sides]
    theirs = fid_statistics_to_metric(*known, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(*map(Statistics.of, sides)) == pytest.approx(theirs, rel=1e-6)

    theirs = kernel_mmd(real[:90].double().numpy(), fake.double().numpy(), kid_kernel="poly",
                        kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1)  # fmt: skip
    ours = kernel_distance(real[:90], fake, num_subsets=1, subset_size=90, seed=0)["value"]
    assert ours == pytest.approx(float(theirs), rel=1e-4)

    theirs = calculate_precision_recall_full(fake, real, neighborhood=3)
    assert precision_recall(real, fake, radii(real, 3), radii(fake, 3)) == pytest.approx(theirs, abs=1e-6)


def test_torchmetrics(sides):
    fid = pytest.importorskip("torchmetrics.image.fid")
    moments = [value for side in sides for value in (side.double().mean(dim=0), side.double().T.cov())]
    theirs = float(fid._compute_fid(*moments))
    assert frechet_distance(*map(Statistics.of, sides)) == pytest.approx(theirs, rel=1e-6)
