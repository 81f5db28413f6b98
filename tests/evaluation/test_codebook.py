"""Use of codes: counted over all images, level by level."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genzoo import codes
from genzoo.evaluation.codebook import codebook_usage


def latent(num_codes):
    """A latent whose z are its codes."""
    return SimpleNamespace(num_codes=num_codes, codes=lambda z: z.long(), state_dict=dict)


@pytest.mark.parametrize("grid", [(4, 5), (3, 4, 5)])
def test_every_position_of_every_image_counts(grid, monkeypatch):
    monkeypatch.setattr(codes, "BATCH", 7)
    z = torch.randint(3, 40, (50, *grid), generator=torch.Generator().manual_seed(0)).float()
    levels = codebook_usage(latent(64), z)["codebook"]
    rows = z.numpy().reshape(50, -1, 20)
    assert len(levels) == rows.shape[1]
    for k, level in enumerate(levels):
        values, counts = np.unique(rows[:, k], return_counts=True)
        shares = np.sort(counts / counts.sum())[::-1]
        assert level["num_used"] == len(values) and level["num_drawn"] == counts.sum() and level["num_codes"] == 64
        assert level["perplexity"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
        assert level["shares"][: len(shares)] == pytest.approx(shares, rel=1e-3) and not any(
            level["shares"][len(shares) :]
        )


@pytest.mark.parametrize("codes, perplexity", [(torch.zeros(9, 2, 2), 1), (torch.arange(16.0).view(4, 2, 2), 16)])
def test_perplexity_of_one_code_and_of_all_alike(codes, perplexity):
    assert codebook_usage(latent(16), codes)["codebook"][0]["perplexity"] == pytest.approx(perplexity)


def test_a_continuous_latent_has_no_codebook():
    assert codebook_usage(SimpleNamespace(), torch.zeros(3, 4)) == {}


@pytest.mark.parametrize("levels, said", [([64], ""), ([5], "5 of 64 are in use"), ([64, 3], "3 of 64 of level 2")])
def test_codes_that_collapsed_are_said_with_the_remedy(levels, said):
    codes = torch.stack([torch.arange(960.0).view(60, 4, 4) % num for num in levels], 1)
    few = latent(64)
    few.for_more_codes = "raise model.latent.this"
    found = codebook_usage(few, codes)
    assert bool(said) == ("note" in found)
    if said:
        assert said in found["note"] and "raise model.latent.this, or use fewer codes" in found["note"]
