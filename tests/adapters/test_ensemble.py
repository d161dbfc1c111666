"""An ensemble is one adapter whose cosines are the mean of its members' cosines."""

import pytest
import torch

from lightalign.adapters.adapter import build_adapter
from lightalign.adapters.checkpoint import MEMBERS, load_adapter, save_adapter
from lightalign.adapters.ensemble import ensemble_of
from lightalign.adapters.objective import build_objective
from lightalign.featcache.errors import SpecError, StoreCorruptError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import Modality

WIDTHS = {Modality.IMAGE: 6, Modality.TEXT: 4}
TOWERS = {
    "both": {
        "pool": {"part": "mean-pool", "per_modality": True},
        "project": {"part": "linear", "per_modality": True, "out": 8},
        "head": {"part": "mlp", "hidden": 5, "out": 8},
    }
}
OBJECTIVE = {"part": "clip"}


def members(count=3):
    return [build_adapter(TOWERS, widths=WIDTHS, seed=seed).eval() for seed in range(count)]


def rows(side, count=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 3, WIDTHS[side], generator=generator)
    mask = torch.ones(count, 3, dtype=torch.bool)
    mask[0, 2] = False
    return Tokens(values, mask)


def cosines(adapter):
    with torch.no_grad():
        image, text = (adapter.embed(rows(side), side) for side in WIDTHS)
    return image.double() @ text.double().T


def test_a_cosine_of_the_ensemble_is_the_mean_of_those_of_its_members():
    each = members()
    expected = torch.stack([cosines(member) for member in each]).mean(dim=0)
    adapter = ensemble_of(each)
    assert adapter.out_width == 24
    assert (cosines(adapter) - expected).abs().max() < 1e-6


def test_rows_that_are_pooled_already_give_the_same():
    adapter = ensemble_of(members())
    side = Modality.IMAGE
    pooled = adapter.pool(rows(side), side)
    assert pooled.num_steps == 1
    torch.testing.assert_close(adapter.embed(pooled, side), adapter.embed(rows(side), side))


def test_an_ensemble_is_saved_in_one_file_and_loaded_as_any_adapter(tmp_path):
    adapter = ensemble_of(members())
    table = {"towers": TOWERS, "objective": OBJECTIVE, MEMBERS: 3}
    save_adapter(tmp_path, adapter, build_objective(OBJECTIVE), table=table)
    loaded, _, read = load_adapter(tmp_path)
    assert read[MEMBERS] == 3
    assert torch.equal(cosines(loaded), cosines(adapter))


def test_another_number_of_members_than_was_saved_is_refused(tmp_path):
    table = {"towers": TOWERS, "objective": OBJECTIVE, MEMBERS: 3}
    save_adapter(tmp_path, ensemble_of(members()), build_objective(OBJECTIVE), table=table)
    path = tmp_path / "adapter.toml"
    path.write_text(path.read_text().replace("members = 3", "members = 2"))
    with pytest.raises(StoreCorruptError, match=r"was saved with another adapter\.toml"):
        load_adapter(tmp_path)


def test_adapters_of_other_widths_are_no_ensemble():
    other = build_adapter(TOWERS, widths={**WIDTHS, Modality.TEXT: 3}, seed=0)
    with pytest.raises(SpecError, match="the same widths"):
        ensemble_of([*members(1), other])
