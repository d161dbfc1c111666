"""Checkpoints of joint adapters: what is loaded is what was saved, and kinds are told apart."""

import pytest
import safetensors.torch
import torch

from lightalign.adapters import checkpoint, joint_checkpoint
from lightalign.adapters.adapter import build_adapter
from lightalign.adapters.checkpoint import load_adapter, save_adapter
from lightalign.adapters.joint_adapter import build_joint_adapter
from lightalign.adapters.joint_checkpoint import load_joint_adapter, save_joint_adapter
from lightalign.adapters.joint_objective import build_joint_objectives
from lightalign.adapters.objective import build_objective
from lightalign.featcache import config, documents
from lightalign.featcache.errors import LightalignError, SpecError, StoreCorruptError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import IMAGE_TEXT, Modality

WIDTHS = {Modality.IMAGE: 6, Modality.TEXT: 4}
TABLE = {
    "title": "small",
    "kind": "joint",
    "towers": {"both": {"project": {"part": "linear", "out": 8, "per_modality": True}}},
    "joint": {
        "types": {"part": "token-types"},
        "fuse": {"part": "co-attention", "layers": 1, "heads": 2, "feedforward": 12},
        "pool": {"part": "tanh-pool"},
    },
    "heads": {"itm": {"part": "itm"}, "answers": {"part": "answers"}},
    "objective": {"itm": {"weight": 1.0}, "answers": {"weight": 0.5, "loss": "single"}},
    "note": None,
}
DUAL = {
    "towers": {"both": {**TABLE["towers"]["both"], "pool": {"part": "mean-pool"}}},
    "objective": {"part": "clip"},
}
ANSWERS = 3


def save(folder, table=TABLE, *, seed=7, answers=ANSWERS):
    listed = {} if answers is None else {"answers": answers}
    adapter = build_joint_adapter(table, widths=WIDTHS, listed=listed, seed=seed).eval()
    save_joint_adapter(folder, adapter, build_joint_objectives(table["objective"]), table=table)
    return adapter


def scores(adapter):
    tokens = {
        side: Tokens(
            torch.linspace(-1, 1, 2 * 3 * WIDTHS[side]).reshape(2, 3, -1), torch.ones(2, 3).bool()
        )
        for side in IMAGE_TEXT
    }
    return adapter.logits(adapter(tokens))


def test_loaded_joint_adapter_gives_identical_logits(tmp_path):
    saved = scores(save(tmp_path / "run"))
    adapter, objectives, table = load_joint_adapter(tmp_path / "run")
    loaded = scores(adapter)
    assert set(loaded) == {"itm", "answers"}
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)
    assert not adapter.training
    assert objectives.weights == {"itm": 1.0, "answers": 0.5}
    assert objectives.labels == ("matches", "answer")
    assert (table["kind"], table["num_answers"], table["title"]) == ("joint", ANSWERS, "small")
    assert table["widths"] == {"image": 6, "text": 4}


def test_equal_weights_give_equal_bytes(tmp_path):
    for name in ("first", "second"):
        save(tmp_path / name)
    for file in (checkpoint.TABLE_FILE, checkpoint.TENSOR_FILE):
        first, second = ((tmp_path / name / file).read_bytes() for name in ("first", "second"))
        assert first == second


def test_a_joint_adapter_without_answers_names_none(tmp_path):
    table = {**TABLE, "objective": {"itm": {}}}
    save(tmp_path, table, answers=None)
    adapter, _, loaded = load_joint_adapter(tmp_path)
    assert not adapter.listed
    assert "num_answers" not in loaded
    assert list(adapter.heads) == ["itm"]


def test_a_joint_folder_is_no_adapter_that_embeds(tmp_path):
    save(tmp_path)
    with pytest.raises(SpecError, match=r"holds a joint adapter, which reads") as caught:
        load_adapter(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_of_an_adapter_that_embeds_is_no_joint_one(tmp_path):
    adapter = build_adapter(DUAL["towers"], widths=WIDTHS, seed=0)
    save_adapter(tmp_path, adapter, build_objective(DUAL["objective"]), table=DUAL)
    with pytest.raises(SpecError, match=r"holds an adapter that embeds each side alone") as caught:
        load_joint_adapter(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_table_of_an_unknown_kind_is_refused_by_both(tmp_path):
    save(tmp_path)
    path = tmp_path / "adapter.toml"
    path.write_text(path.read_text().replace('"joint"', '"triple"', 1))
    for load in (load_adapter, load_joint_adapter):
        with pytest.raises(SpecError, match="kind must be 'dual' or 'joint', found 'triple'"):
            load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [("heads = 2", "heads = 4"), ("num_answers = 3", "num_answers = 4"),
     ('part = "tanh-pool"', 'part = "mean-pool"'), ("weight = 0.5", "weight = 0.7")],
)  # fmt: skip
def test_a_table_that_has_changed_is_reported(tmp_path, old, new):
    save(tmp_path)
    path = tmp_path / "adapter.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(StoreCorruptError, match=r"joint steps, heads, objective or widths have"):
        load_joint_adapter(tmp_path)


def test_a_title_may_be_edited(tmp_path):
    save(tmp_path)
    path = tmp_path / "adapter.toml"
    path.write_text(path.read_text().replace("small", "tiny"))
    assert load_joint_adapter(tmp_path)[2]["title"] == "tiny"


def test_a_flipped_bit_is_reported(tmp_path):
    save(tmp_path)
    path = tmp_path / "adapter.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"is damaged.*checksum"):
        load_joint_adapter(tmp_path)


@pytest.mark.parametrize("key", ["towers", "joint", "heads", "objective"])
def test_a_table_without_structure_is_not_saved(tmp_path, key):
    adapter = build_joint_adapter(TABLE, widths=WIDTHS, listed={"answers": ANSWERS}, seed=0)
    table = {name: value for name, value in TABLE.items() if name != key}
    with pytest.raises(SpecError, match=rf"no \[{key}\]"):
        save_joint_adapter(
            tmp_path, adapter, build_joint_objectives(TABLE["objective"]), table=table
        )


def reseal(folder, change):
    """Change the table of a checkpoint, and make its checksum right, as an attacker would."""
    table = documents.tomllib.loads((folder / "adapter.toml").read_text())
    change(table)
    (folder / "adapter.toml").write_text(config.to_toml(table))
    tensors = safetensors.torch.load_file(folder / "adapter.safetensors")
    hashes = {"table": checkpoint.table_hash(table), "tensors": checkpoint.tensor_hash(tensors)}
    metadata = {checkpoint.HASHES: config.canonical_json(hashes)}
    safetensors.torch.save_file(tensors, folder / "adapter.safetensors", metadata)


@pytest.mark.parametrize("number", [10**9, 2**40, 2**62, 0, -1])
@pytest.mark.parametrize(
    "place",
    [
        ("num_answers",),
        ("widths", "image"),
        ("joint", "types", "count"),
        ("joint", "fuse", "feedforward"),
        ("joint", "fuse", "layers"),
        ("towers", "both", "project", "out"),
    ],
)
def test_huge_and_negative_numbers_are_refused_before_anything_is_allocated(
    tmp_path, place, number, monkeypatch
):
    save(tmp_path)

    def change(table):
        *outer, last = place
        for key in outer:
            table = table[key]
        table[last] = number

    reseal(tmp_path, change)
    monkeypatch.setattr(joint_checkpoint, "build_joint_adapter", None)  # not to come to that
    with pytest.raises(LightalignError) as caught:
        load_joint_adapter(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("key", "value"),
    [("joint", {"fuse": 3}), ("heads", []), ("objective", {"part": "clip"}), ("widths", {"a": 1})],
)
def test_a_table_of_wrong_types_is_refused(tmp_path, key, value):
    save(tmp_path)
    reseal(tmp_path, lambda table: table.update({key: value}))
    with pytest.raises(LightalignError) as caught:
        load_joint_adapter(tmp_path)
    assert "\n" not in str(caught.value)
