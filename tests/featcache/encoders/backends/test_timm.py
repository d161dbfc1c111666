"""Hub directories of timm, of today's and of older versions, and what is wrong with them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf

from lightalign.featcache.encoders.card import EncoderCard
from lightalign.featcache.encoders.loading import build_encoder
from lightalign.featcache.encoders.pooling import FeaturePooling
from lightalign.featcache.encoders.references import find_card
from lightalign.featcache.errors import SpecError, WeightsMismatchError
from lightalign.featcache.types import Modality

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))


def saved(folder: Path, **options: Any) -> Path:
    """Save a random model as the current timm does."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=5, **options)
    save_for_hf(model, folder, safe_serialization=True)
    return folder


def change(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def card_of(folder: Path) -> EncoderCard:
    return find_card(f"timm:{folder}")


def library_pixels(folder: Path) -> torch.Tensor:
    """Return what timm's own transform of the directory makes of the picture."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    config = timm.data.resolve_model_data_config(model)
    pixels: torch.Tensor = timm.data.create_transform(**config, is_training=False)(PICTURE)
    return pixels


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"img_size": 64},
        {"img_size": (96, 64)},
        {"img_size": (96, 64), "dynamic_img_size": False},
        {"global_pool": "avg"},
        {"in_chans": 3},
        {"drop_rate": 0.1},
        {"reg_tokens": 4},
    ],
    ids=str,
)
def test_what_the_current_timm_saves_is_what_it_loads(options: dict[str, Any], tmp_path: Path):
    """A model that reads any size keeps the size that it was trained at, as timm keeps it."""
    folder = saved(tmp_path / "model", **options)
    card = card_of(folder)
    encoder = build_encoder(card)
    pixels = encoder.preprocess(PICTURE, item_id="x")
    torch.testing.assert_close(pixels, library_pixels(folder), rtol=0, atol=0)
    library: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.inference_mode():
        features = library.forward_features(pixels[None])
        features = library.fc_norm(features)  # the identity, unless the mean is pooled
    torch.testing.assert_close(encoder.encode([pixels]).values, features, rtol=0, atol=1e-5)
    assert card.layout.prefix_tokens == library.num_prefix_tokens


@pytest.mark.parametrize(("class_token", "registers"), [(True, 4), (False, 4), (False, 0)])
def test_a_register_is_no_class_token(class_token: bool, registers: int, tmp_path: Path):
    pooling = {} if class_token else {"global_pool": "avg"}
    folder = saved(tmp_path / "model", class_token=class_token, reg_tokens=registers, **pooling)
    card = card_of(folder)
    assert card.layout.prefix_tokens == class_token + registers
    encoder = build_encoder(card)
    for layout in (encoder.layout(), encoder.layout(-2)):
        if class_token:
            assert FeaturePooling("cls").tokens_per_item(layout, Modality.IMAGE) == 1
            continue
        with pytest.raises(SpecError, match=r"'cls' need a (CLS|class) token, which this encoder"):
            FeaturePooling("cls").tokens_per_item(layout, Modality.IMAGE)
    assert bool(card.note) == (not class_token)


def test_a_classifier_in_the_arguments_does_not_change_the_key(tmp_path: Path):
    folder = saved(tmp_path / "model")
    before = build_encoder(card_of(folder)).identity()
    arguments = json.loads((folder / "config.json").read_text())["model_args"]
    assert arguments.pop("num_classes") == 5
    change(folder, model_args=arguments)
    assert build_encoder(card_of(folder)).identity() == before


def test_a_flat_configuration_of_an_old_timm_is_preprocessed_as_it_says(tmp_path: Path):
    folder = saved(tmp_path / "model")
    flat = {
        "architecture": "test_vit",
        "num_classes": 5,
        "num_features": 64,
        "global_pool": "token",
        "input_size": [3, 160, 160],
        "interpolation": "nearest",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "crop_pct": 0.5,
        "labels": ["a", "b", "c", "d", "e"],
    }
    (folder / "config.json").write_text(json.dumps(flat))
    encoder = build_encoder(card_of(folder))
    described = encoder.identity()["preprocessing"]
    assert isinstance(described, dict)
    expected = {key: flat[key] for key in ("mean", "std", "interpolation", "crop_pct")}
    assert expected.items() <= described.items()
    # by hand: resized to 160 / 0.5 = 320 by the nearest pixel, then the centre of 160
    resized = PICTURE.resize((320, round(320 * 90 / 70)), Image.Resampling.NEAREST)
    top = round((resized.height - 160) / 2)
    part = np.asarray(resized.crop((80, top, 240, top + 160)), dtype=np.float32) / 255
    by_hand = ((part - flat["mean"]) / flat["std"]).transpose(2, 0, 1)
    pixels = encoder.preprocess(PICTURE, item_id="x")
    np.testing.assert_allclose(pixels.numpy(), by_hand, atol=1e-5)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"model_args": {"in_chans": 1}}, r"reads 1 channels, photos have 3"),
        ({"model_args": {"img_size": [64]}}, r"img_size .* one number of pixels or two"),
        ({"model_args": {"img_size": "large"}}, r"img_size .* found 'large'"),
        ({"model_args": {"widht": 8}}, r"cannot build 'test_vit' .*widht"),
        ({"model_args": {"embed_dim": -3}}, r"cannot build 'test_vit'"),
        ({"model_args": [1]}, r"a table as model_args"),
        ({"architecture": 3}, r"a name as architecture"),
        ({"architecture": "vit_of_tomorrow"}, r"has no architecture 'vit_of_tomorrow'"),
        ({"pretrained_cfg": [1]}, r"pretrained_cfg in .* is not a table"),
        ({"pretrained_cfg": {"colour": "red"}}, r"knows no entry 'colour'"),
        ({"pretrained_cfg": {"input_size": [3, 160]}}, r"input_size in .* channels, height"),
        ({"pretrained_cfg": {"input_size": [1, 160, 160]}, "model_args": {}}, r"reads 1 channels"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_one_line_with_the_reason(
    entries: dict[str, Any], reason: str, tmp_path: Path
):
    folder = saved(tmp_path / "model")
    card = card_of(folder)
    change(folder, **entries)
    with pytest.raises(WeightsMismatchError, match=reason) as caught:
        build_encoder(card, weights=folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_folder_with_the_weights_of_another_size_is_refused(tmp_path: Path):
    folder = saved(tmp_path / "model", img_size=64)
    change(folder, model_args={})
    with pytest.raises(WeightsMismatchError, match="pos_embed must have shape") as caught:
        build_encoder(replace(card_of(saved(tmp_path / "other"))), weights=folder)
    assert "\n" not in str(caught.value)


def test_a_list_as_size_in_an_older_folder_is_height_and_width(tmp_path: Path):
    folder = saved(tmp_path / "model", img_size=(96, 64))
    change(folder, model_args={"img_size": [96, 64]}, pretrained_cfg={})
    encoder = build_encoder(card_of(folder))
    assert encoder.preprocess(PICTURE, item_id="x").shape == (3, 96, 64)
    assert encoder.layout().grid == (6, 4)


def test_a_card_with_the_right_count_but_other_rows_is_refused(tmp_path: Path):
    folder = saved(tmp_path / "model", img_size=(96, 64), dynamic_img_size=False)
    card = card_of(folder)
    assert card.layout.grid == (6, 4)
    turned = replace(card, layout=replace(card.layout, grid=(4, 6)))
    with pytest.raises(WeightsMismatchError, match=r"grid = \[4, 6\].*grid = \[6, 4\]"):
        build_encoder(turned)


def test_cells_in_another_order_than_row_by_row_are_refused(tmp_path: Path):
    """Hiera with one pooling less returns the cells of a mask unit one after the other."""
    torch.manual_seed(0)
    options = {"embed_dim": 24, "stages": (1, 1, 1, 1), "q_pool": 2}
    model = timm.create_model("hiera_tiny_224", num_classes=5, **options)
    save_for_hf(model, tmp_path / "model", safe_serialization=True)
    with pytest.raises(WeightsMismatchError, match="not row by row") as caught:
        build_encoder(card_of(tmp_path / "model"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["test_convnext", "test_mambaout"])
def test_earlier_layers_are_maps_read_row_by_row(name: str, tmp_path: Path):
    torch.manual_seed(0)
    model: Any = timm.create_model(name, num_classes=5).eval()
    save_for_hf(model, tmp_path / "model", safe_serialization=True)
    encoder = build_encoder(card_of(tmp_path / "model"))
    pixels = encoder.preprocess(PICTURE, item_id="x")
    (ours,) = encoder.encode_layers([pixels], [-2])
    with torch.inference_mode():
        theirs = model.forward_intermediates(pixels[None], indices=[-2], intermediates_only=True)
    expected = theirs[0].flatten(2).transpose(1, 2)
    torch.testing.assert_close(ours.values, expected, rtol=0, atol=1e-5)
