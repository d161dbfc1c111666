"""Checkpoints: what is loaded is what was saved, and damage is told from absence."""

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightalign.adapters import checkpoint
from lightalign.adapters.adapter import build_adapter, outline_adapter
from lightalign.adapters.checkpoint import load_adapter, save_adapter
from lightalign.adapters.objective import build_objective
from lightalign.adapters.preset import DUAL, list_presets, read_preset
from lightalign.featcache import config, documents
from lightalign.featcache.errors import (
    LightalignError,
    RunNotFoundError,
    SpecError,
    StoreCorruptError,
)
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import IMAGE_TEXT, Modality

WIDTHS = {Modality.IMAGE: 6, Modality.TEXT: 4}
TABLE = {
    "title": "small",
    "towers": {
        "both": {
            "project": {"part": "linear", "out": 4, "per_modality": True},
            "fuse": {"part": "add-fusion", "hidden": (5,)},
            "pool": {"part": "mean-pool"},
        }
    },
    "objective": {"part": "clip", "scale_init": 10.0},
    "note": None,
}


def save(folder, table=TABLE, seed=7):
    adapter = build_adapter(table["towers"], widths=WIDTHS, seed=seed).eval()
    objective = build_objective(table["objective"])
    with torch.no_grad():
        objective.log_scale.fill_(1.5)
    save_adapter(folder, adapter, objective, table=table)
    return adapter


def embed(adapter, modality):
    values = torch.linspace(-1, 1, 2 * 3 * WIDTHS[modality]).reshape(2, 3, -1)
    return adapter.embed(Tokens(values, torch.ones(2, 3, dtype=torch.bool)), modality)


def test_loaded_adapter_gives_identical_embeddings(tmp_path):
    saved = save(tmp_path / "run")
    loaded, objective, table = load_adapter(tmp_path / "run")
    for modality in IMAGE_TEXT:
        assert torch.equal(embed(loaded, modality), embed(saved, modality))
    assert objective.log_scale.item() == 1.5
    assert not loaded.training
    assert table["title"] == "small"
    assert table["widths"] == {"image": 6, "text": 4}


def test_saving_again_replaces_and_leaves_no_temporary_files(tmp_path):
    save(tmp_path, seed=7)
    newer = save(tmp_path, seed=8)
    loaded, _, _ = load_adapter(tmp_path)
    assert torch.equal(embed(loaded, Modality.TEXT), embed(newer, Modality.TEXT))
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names == {"adapter.toml", "adapter.safetensors"}


@pytest.mark.parametrize("name", ["adapter.toml", "adapter.safetensors"])
def test_missing_file_is_named(tmp_path, name):
    save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(RunNotFoundError, match=f"{name} is not there"):
        load_adapter(tmp_path)


def test_missing_folder_is_no_run(tmp_path):
    with pytest.raises(RunNotFoundError, match="no trained adapter in"):
        load_adapter(tmp_path / "nowhere")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_tensors_are_reported(tmp_path, share):
    save(tmp_path)
    path = tmp_path / "adapter.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(StoreCorruptError, match="not a whole safetensors file"):
        load_adapter(tmp_path)


def test_flipped_bit_is_reported(tmp_path):
    save(tmp_path)
    path = tmp_path / "adapter.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"is damaged.*checksum"):
        load_adapter(tmp_path)


def test_table_of_another_adapter_is_reported(tmp_path):
    save(tmp_path)
    path = tmp_path / "adapter.toml"
    path.write_text(path.read_text().replace("add-fusion", "mul-fusion"))
    with pytest.raises(StoreCorruptError, match=r"was saved with another adapter.toml"):
        load_adapter(tmp_path)


def test_title_may_be_edited(tmp_path):
    save(tmp_path)
    path = tmp_path / "adapter.toml"
    path.write_text(path.read_text().replace("small", "tiny"))
    assert load_adapter(tmp_path)[2]["title"] == "tiny"


def test_broken_table_is_reported(tmp_path):
    save(tmp_path)
    (tmp_path / "adapter.toml").write_text("towers = [")
    with pytest.raises(LightalignError, match=r"adapter.toml is not valid TOML"):
        load_adapter(tmp_path)


def test_foreign_tensor_file_is_reported(tmp_path):
    save(tmp_path)
    safetensors.torch.save_file({"weight": torch.ones(2)}, tmp_path / "adapter.safetensors")
    with pytest.raises(StoreCorruptError, match="checksum"):
        load_adapter(tmp_path)


def test_adapter_that_its_table_does_not_describe_is_reported(tmp_path):
    other = {**TABLE, "towers": {"both": {**TABLE["towers"]["both"], "fuse": {"part": "norm"}}}}
    adapter = build_adapter(other["towers"], widths=WIDTHS, seed=0)
    save_adapter(tmp_path, adapter, build_objective({"part": "clip"}), table=TABLE)
    with pytest.raises(StoreCorruptError, match=r"does not fit its table: .* should have shape"):
        load_adapter(tmp_path)


@pytest.mark.parametrize("key", ["towers", "objective"])
def test_table_without_structure_is_not_saved(tmp_path, key):
    table = {name: value for name, value in TABLE.items() if name != key}
    adapter = build_adapter(TABLE["towers"], widths=WIDTHS, seed=0)
    with pytest.raises(SpecError, match=rf"no \[{key}\]"):
        save_adapter(tmp_path, adapter, build_objective({"part": "clip"}), table=table)


def reseal(folder, change):
    """Change the table of a checkpoint, and make its checksum right, as an attacker would."""
    table = documents.tomllib.loads((folder / "adapter.toml").read_text())
    change(table)
    (folder / "adapter.toml").write_text(config.to_toml(table))
    tensors = safetensors.torch.load_file(folder / "adapter.safetensors")
    hashes = {
        "table": checkpoint.table_hash(table),
        "tensors": checkpoint.tensor_hash(tensors),
    }
    metadata = {checkpoint.HASHES: config.canonical_json(hashes)}
    safetensors.torch.save_file(tensors, folder / "adapter.safetensors", metadata)


@pytest.mark.parametrize("number", [10**9, 2**24, 2**40, 2**62, 0, -1])
@pytest.mark.parametrize(
    "place", [("widths", "image"), ("towers", "both", "project", "out"), ("hidden",)]
)
def test_a_table_of_huge_numbers_is_refused_before_anything_is_allocated(
    tmp_path, place, number, monkeypatch
):
    save(tmp_path)

    def change(table):
        if place == ("hidden",):
            table["towers"]["both"]["fuse"]["hidden"] = [number]
            return
        *outer, last = place
        for key in outer:
            table = table[key]
        table[last] = number

    reseal(tmp_path, change)
    monkeypatch.setattr(checkpoint, "build_adapter", None)  # it is not to come to that
    with pytest.raises(LightalignError) as caught:
        load_adapter(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("part", "count"),
    [("heads", "heads"), ("residual-mlp", "blocks"), ("transformer", "layers")],
)
def test_a_part_of_a_thousand_million_modules_is_not_begun(part, count):
    towers = {"both": {"map": {"part": part, count: 10**9}}}
    with pytest.raises(SpecError, match=rf"{count} must be at most 1,000, found 1000000000"):
        build_adapter(towers, widths={Modality.IMAGE: 8, Modality.TEXT: 8}, seed=0)


def test_an_adapter_that_memory_cannot_hold_is_refused():
    towers = {"both": {"pool": {"part": "mean-pool"}, "project": {"part": "linear", "out": 2**30}}}
    with pytest.raises(SpecError, match=r"\[towers\] describes an adapter of 38.7 GB"):
        # 9 numbers of 4 bytes for each of 2 ** 30 features
        build_adapter(towers, widths={Modality.IMAGE: 8, Modality.TEXT: 8}, seed=0)


@pytest.mark.parametrize(
    "name", [name for name in list_presets(DUAL) if "towers" in read_preset(name)]
)
def test_an_outline_has_the_names_and_shapes_of_the_adapter(name):
    widths = {Modality.IMAGE: 64, Modality.TEXT: 64}
    towers = read_preset(name)["towers"]
    shapes = [
        {key: value.shape for key, value in adapter.state_dict().items()}
        for adapter in (
            build_adapter(towers, widths=widths, seed=0),
            outline_adapter(towers, widths=widths),
        )
    ]
    assert shapes[0] == shapes[1]
