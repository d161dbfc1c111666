"""A mask of positives that is made in parts is the mask."""

import numpy as np
import pytest
import torch

from lightalign.adapters.objective import PairBatch, build_objective
from lightalign.adapters.objectives import siglip
from lightalign.adapters.positives import Positives
from lightalign.pipelines.inputs.pairs import partner_links


def links() -> Positives:
    """Return pairs (0, 1), (2, 0) and (2, 3), in no order."""
    rows, columns = torch.tensor([2, 0, 2]), torch.tensor([3, 1, 0])
    return Positives(rows, columns, (3, 4))


MASK = torch.tensor([[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]) > 0


def test_rows_are_made_where_they_are_asked_for():
    assert torch.equal(links()[:], MASK)
    assert torch.equal(links()[1:3], MASK[1:3])
    assert torch.equal(links().T[2:], MASK.T[2:])


def test_pairs_of_a_mask_are_its_pairs():
    assert torch.equal(Positives.of(MASK)[:], MASK)
    assert Positives.of(links()).columns.tolist() == [3, 1, 0]


def test_an_objective_without_blocks_gets_a_tensor():
    assert torch.equal(links().as_mask(None), MASK)
    assert isinstance(links().as_mask(12), Positives)


def test_partners_are_found_wherever_they_are():
    """Of 7 and 5 the first row belongs to both, of which 5 is there twice; 9 is not there."""
    found = partner_links([(5, 7), (9,), ()], np.array([7, 5, 6, 5]))
    assert found[:].tolist() == [[True, True, False, True], [False] * 4, [False] * 4]


@pytest.mark.parametrize("part", ["clip", "siglip"])
def test_a_loss_in_blocks_is_that_of_the_tensor(part, monkeypatch):
    objective = build_objective({"part": part})  # whose module would keep the patched number
    for module in ("lightalign.adapters.blocks", siglip.__name__):
        monkeypatch.setattr(f"{module}.MOST_LOGITS", 10)
    owners = torch.arange(9) % 4
    image, text = torch.randn(4, 6), torch.randn(9, 6)
    sparse = Positives(owners, torch.arange(9), (4, 9))
    assert torch.equal(
        objective(PairBatch(image, text, sparse)).total,
        objective(PairBatch(image, text, sparse[:])).total,
    )
