"""Weights in files and directories of every kind, complete or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from lightalign.featcache.encoders.loading import build_encoder, load_encoder
from lightalign.featcache.encoders.weights import Weights
from lightalign.featcache.errors import (
    WeightsMismatchError,
    WeightsNotFoundError,
)


def test_a_bare_file_belongs_to_the_cards_own_model(tiny, tmp_path):
    torch.manual_seed(0)
    card = tiny.image_card("timm", width=64, grid=(10, 10), prefix=1)
    state = timm.create_model("test_vit", num_classes=7).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"model": state}, tmp_path / "w.pth")
    first = build_encoder(card, weights=tmp_path / "w.safetensors")
    second = build_encoder(card, weights=tmp_path / "w.pth")
    assert first.identity() == second.identity()
    assert first.identity()["preprocessing"]["input_size"] == [3, 160, 160]


def test_a_directory_with_weights_alone_belongs_to_the_cards_own_model(tiny, tmp_path):
    """timm's own hub cache holds no config.json."""
    torch.manual_seed(0)
    card = tiny.image_card("timm", width=64, grid=(10, 10), prefix=1)
    state = timm.create_model("test_vit", num_classes=7).state_dict()
    (tmp_path / "snapshot").mkdir()
    save_file(state, tmp_path / "snapshot" / "model.safetensors")
    save_file(state, tmp_path / "w.safetensors")
    bare = build_encoder(card, weights=tmp_path / "w.safetensors")
    found = load_encoder(card, Weights(files=tmp_path / "snapshot", origin="hub cache"))
    assert found.identity() == bare.identity()


def test_a_pickle_with_code_is_not_run(tiny, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").touch, ())

    torch.save({"weights": Trap()}, tmp_path / "w.pth")
    card = tiny.image_card("timm", width=64, grid=(10, 10), prefix=1)
    with pytest.raises(WeightsMismatchError, match="cannot read weights"):
        build_encoder(card, weights=tmp_path / "w.pth")
    assert not (tmp_path / "sprung").exists()


def test_tensors_under_other_names_are_matched_by_order_and_shape(tiny, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=7)
    state = model.state_dict()
    by_name = tiny.image_card("timm", width=64, grid=(10, 10), prefix=1)
    by_order = replace(by_name, weights=replace(by_name.weights, mapping="by-order"))
    save_file(state, tmp_path / "named.safetensors")
    renamed = {f"_{index:03d}": value for index, value in enumerate(state.values())}
    torch.save(renamed, tmp_path / "ordered.pth")
    expected = build_encoder(by_name, weights=tmp_path / "named.safetensors").identity()
    assert build_encoder(by_order, weights=tmp_path / "ordered.pth").identity() == expected
    assert build_encoder(by_order, weights=tmp_path / "named.safetensors").identity() == expected
    with pytest.raises(WeightsMismatchError, match="missing"):
        build_encoder(by_name, weights=tmp_path / "ordered.pth")


def test_tensors_in_another_order_are_refused(tiny, tmp_path):
    card = tiny.image_card("timm", width=64, grid=(10, 10), prefix=1)
    card = replace(card, weights=replace(card.weights, mapping="by-order"))
    values = list(timm.create_model("test_vit", num_classes=7).state_dict().values())
    torch.save({f"_{index}": v for index, v in enumerate(values[::-1])}, tmp_path / "w.pth")
    with pytest.raises(WeightsMismatchError, match="must have shape"):
        build_encoder(card, weights=tmp_path / "w.pth")
    torch.save({f"_{index}": v for index, v in enumerate(values[:-5])}, tmp_path / "w.pth")
    with pytest.raises(WeightsMismatchError, match="matched by order and must be"):
        build_encoder(card, weights=tmp_path / "w.pth")


def test_transformers_needs_a_directory(tiny, tmp_path):
    card, folder = tiny.built("transformers bert")
    with pytest.raises(WeightsMismatchError, match="needs its directory"):
        build_encoder(card, weights=folder / "model.safetensors")


def test_a_transformers_directory_serves_a_timm_card(tiny):
    card, folder = tiny.built("transformers vit")
    encoder = build_encoder(replace(card, backend="timm"), weights=folder)
    assert encoder.identity() == tiny.opened("transformers vit").identity()


def test_a_timm_card_brings_the_preprocessing_that_a_directory_lacks(tiny, tmp_path):
    _, folder = tiny.copied("transformers vit", tmp_path)
    (folder / "preprocessor_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "image_size": 160}))
    state = load_file(folder / "model.safetensors")
    state["embeddings.position_embeddings"] = torch.zeros(1, 101, 32)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    card = tiny.image_card("timm", width=32, grid=(10, 10), prefix=1)
    identity = build_encoder(card, weights=folder).identity()
    assert identity["model"] == "ViTModel"
    assert identity["preprocessing"]["library"] == "timm"
    assert identity["preprocessing"]["input_size"] == [3, 160, 160]


def test_a_transformers_card_needs_its_image_processor(tiny, tmp_path):
    card, folder = tiny.copied("transformers vit", tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsNotFoundError, match=r"has no preprocessor_config\.json"):
        build_encoder(card, weights=folder)


def test_code_from_the_hub_is_never_run(tiny, tmp_path):
    card, folder = tiny.copied("transformers vit", tmp_path)
    config = {"model_type": "unheard-of", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(WeightsMismatchError, match="cannot read the configuration") as caught:
        build_encoder(card, weights=folder)
    assert "\n" not in str(caught.value)


def test_a_config_that_is_not_json_is_named(tiny, tmp_path):
    card, folder = tiny.copied("timm vit", tmp_path)
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsMismatchError, match=r"config\.json is not valid JSON"):
        build_encoder(card, weights=folder)


def test_an_architecture_that_timm_does_not_have_is_named(tiny, tmp_path):
    card, folder = tiny.copied("timm vit", tmp_path)
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_enormous"}))
    with pytest.raises(WeightsMismatchError, match="has no architecture 'vit_enormous'"):
        build_encoder(card, weights=folder)


def test_a_text_model_is_no_image_encoder(tiny):
    with pytest.raises(WeightsMismatchError, match="reads images, but BertModel"):
        build_encoder(tiny.built("transformers vit")[0], weights=tiny.built("transformers bert")[1])
