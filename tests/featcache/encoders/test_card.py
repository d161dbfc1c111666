"""Every card is read, and says what the architecture really gives."""

import subprocess
import sys

import pytest
import timm
import torch

from lightalign.featcache.encoders.card import (
    EncoderCard,
    Layout,
    list_encoders,
    parse_card,
    read_card,
)
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.types import Modality

CARDS = list_encoders()
TIMM_CARDS = [card for card in CARDS if card.backend == "timm"]

# Patch size and width as the papers' tables of variants give them; all read 224 px.
HUB_VISION = {
    "dinov2-vits14": (14, 384),
    "dinov2-vitb14": (14, 768),
    "dinov2-vitl14": (14, 1024),
    "clip-vit-b32": (32, 768),
    "clip-vit-b16": (16, 768),
    "clip-vit-l14": (14, 1024),
}
TEXT_WIDTHS = {
    "distilbert": 768,
    "bert-base": 768,
    "roberta-base": 768,
    "albert-base-v2": 768,
    "deberta-v3-base": 768,
    "minilm": 384,
    "mpnet": 768,
    "bge-large": 1024,
    "gte-large": 1024,
    "clip-text-b32": 512,
    "clip-text-b16": 512,
    "clip-text-l14": 768,
    "siglip-text-b16": 768,
}
TABLE = {
    "title": "A card",
    "modality": "text",
    "backend": "toy",
    "model": "hashed-words",
    "width": 8,
    "licence": "Apache-2.0",
    "source": "nowhere",
    "layout": {"ragged": True, "max_tokens": 4},
}


@pytest.mark.parametrize("card", TIMM_CARDS, ids=lambda card: card.name)
def test_timm_cards_give_the_width_and_tokens_of_their_architecture(card: EncoderCard):
    with torch.device("meta"):
        model = timm.create_model(card.model, pretrained=False, num_classes=0).eval()
        features = model.forward_features(torch.zeros(1, *model.pretrained_cfg["input_size"]))
    if features.ndim == 4:
        features = features.flatten(2).transpose(1, 2)
    assert features.shape == (1, card.layout.tokens_per_item, card.width)
    assert card.layout.prefix_tokens == getattr(model, "num_prefix_tokens", 0)


@pytest.mark.parametrize("name", HUB_VISION)
def test_hub_vision_cards_have_the_grid_of_their_patch_size(name: str):
    patch, width = HUB_VISION[name]
    card = read_card(name)
    assert card.layout == Layout(prefix_tokens=1, grid=(224 // patch, 224 // patch))
    assert card.width == width


def test_text_cards_are_ragged_and_have_the_published_width():
    cards = [card for card in CARDS if card.modality is Modality.TEXT and card.backend != "toy"]
    assert {card.name: card.width for card in cards} == TEXT_WIDTHS
    assert all(card.layout.tokens_per_item is None for card in cards)


def test_an_encoder_that_needs_weights_can_fetch_them():
    without = [card.name for card in CARDS if not card.weights.needed]
    assert without == ["toy-image", "toy-text"]


def test_revisions_are_whole_commits():
    revisions = [card.weights.revision for card in CARDS if card.weights.revision is not None]
    assert revisions
    assert all(len(revision) == 40 and int(revision, 16) for revision in revisions)


def test_an_unknown_encoder_lists_the_close_names():
    with pytest.raises(UnknownNameError, match=r"no encoder named 'dino-vit16'; close: \['dino-v"):
        read_card("dino-vit16")


def test_a_path_is_not_a_name():
    with pytest.raises(UnknownNameError):
        read_card("../encoders/minilm")


def test_an_unknown_key_is_refused():
    with pytest.raises(SpecError, match="encoder card mine: unknown key 'widht'"):
        parse_card("mine", {**TABLE, "widht": 8})


def test_an_unknown_modality_lists_the_known():
    with pytest.raises(SpecError, match=r"modality must be one of \['image', 'text'\]"):
        parse_card("mine", {**TABLE, "modality": "smell"})


def test_an_unknown_mapping_is_refused():
    with pytest.raises(SpecError, match=r"weights\.mapping must be one of"):
        parse_card("mine", {**TABLE, "weights": {"hub": "a/b", "mapping": "by-luck"}})


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        (["model", "width", "layout"], "lacks model, width and layout"),
        (["modality", "width"], "lacks modality and width"),
        (["backend"], "lacks backend"),
    ],
)
def test_what_a_card_lacks_is_named(lacking, told):
    table = {key: value for key, value in TABLE.items() if key not in lacking}
    with pytest.raises(SpecError, match=f"encoder card mine {told}$"):
        parse_card("mine", table)


def test_a_wrong_layout_is_told_as_the_card_has_it():
    with pytest.raises(SpecError, match=r"; found grid = \[4, 4\], ragged = true$"):
        parse_card("mine", {**TABLE, "layout": {"grid": [4, 4], "ragged": True}})
    with pytest.raises(SpecError, match=r"; found neither$"):
        parse_card("mine", {**TABLE, "layout": {}})


@pytest.mark.parametrize(
    "layout", [{}, {"grid": [4]}, {"ragged": True}, {"grid": [4, 4], "ragged": True}]
)
def test_a_layout_is_a_grid_or_ragged_text(layout: dict[str, object]):
    with pytest.raises(SpecError, match="layout must have"):
        parse_card("mine", {**TABLE, "layout": layout})


def test_reading_cards_does_not_import_torch():
    code = (
        "import sys; from lightalign.featcache.encoders import loading as backends, card, weights; "
        "card.list_encoders(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
