"""The context of a modality."""

import pytest
import torch

from lightalign.adapters.context import Context
from lightalign.featcache.errors import SpecError
from lightalign.featcache.types import IMAGE_TEXT, Modality


def test_vectors_start_with_a_spread_drawn_per_modality_between_0_1_and_0_6():
    torch.manual_seed(0)
    spreads = torch.tensor(
        [
            [Context(4000, hidden=(), width=2).vectors[m.value].std().item() for m in IMAGE_TEXT]
            for _ in range(40)
        ]
    )
    assert spreads.min() > 0.09
    assert spreads.max() < 0.63
    assert spreads.min() < 0.2
    assert spreads.max() > 0.5
    assert (spreads[:, 0] - spreads[:, 1]).abs().max() > 0.2


def test_context_is_normalised_and_differs_between_modalities():
    context = Context(3, hidden=(64, 128), width=256)
    image, text = context(Modality.IMAGE), context(Modality.TEXT)
    assert image.shape == (256,)
    assert image.mean().abs() < 1e-5
    assert image.std(correction=0).item() == pytest.approx(1.0, abs=1e-2)
    assert not torch.allclose(image, text)


@pytest.mark.parametrize("hidden", [(0,), (64, -1)])
def test_sizes_must_be_positive(hidden):
    with pytest.raises(SpecError, match="must be positive"):
        Context(3, hidden=hidden, width=8)
