"""Cards derived of models whose configuration does not say it all open them, or say why not."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from lightalign.featcache.backends import build_encoder
from lightalign.featcache.errors import SpecError
from lightalign.featcache.kinds import POOLED
from lightalign.featcache.references import find_card
from lightalign.featcache.types import Item, Modality

from .conftest import clip, save_vision, write_tokenizer
from .transformers_families import save

WORDS = [11, 0, 1, 2, 12]  # of the vocabulary in conftest.py: [CLS] a dog runs [SEP]


def tokens_of(reference: str, item: Item) -> torch.Tensor:
    """Return the tokens of an item by the encoder of a derived card, which opens the model."""
    card = find_card(reference)
    encoder = build_encoder(card)
    (values,) = encoder.encode([encoder.prepare(item)]).values
    assert values.shape[1] == card.width
    return values


@pytest.mark.parametrize(
    ("family", "width", "positions"),
    [
        ("altclip", 768, 26),  # what the tokens are projected to; those after the padding id, 13
        ("reformer", 64, 32),  # two streams of 32, joined
        ("data2vec-text", 32, 26),
        ("opt", 32, 40),
    ],
)
def test_the_card_of_a_text_model_has_the_width_of_its_tokens(
    family: str, width: int, positions: int, tmp_path: Path
):
    folder = tmp_path / "model"
    model = save(family, folder, Modality.TEXT)
    reference = f"hf:{folder}#text" if family == "altclip" else f"hf:{folder}"
    card = find_card(reference)
    assert (card.width, card.layout.max_tokens) == (width, positions)
    library = getattr(model, "text_model", model)
    with torch.inference_mode():
        expected = library(input_ids=torch.tensor([WORDS])).last_hidden_state[0]
    tokens = tokens_of(reference, Item(id="t", text="a dog runs"))
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-5)


def test_a_projection_of_another_width_is_that_of_the_tokens(tmp_path: Path):
    """As OPT-350m has it, whose blocks are wider than what it gives."""
    config = transformers.OPTConfig(
        vocab_size=20, hidden_size=32, ffn_dim=64, num_hidden_layers=1, num_attention_heads=4,
        word_embed_proj_dim=16, max_position_embeddings=40,
    )  # fmt: skip
    transformers.OPTModel(config).save_pretrained(tmp_path / "model")
    write_tokenizer(tmp_path / "model")
    reference = f"hf:{tmp_path / 'model'}"
    assert tokens_of(reference, Item(id="t", text="a dog")).shape == (4, 16)


@pytest.fixture
def wrapped(tmp_path: Path) -> Path:
    """Return the folder of a model of timm as transformers saves it."""
    config = transformers.TimmWrapperConfig(architecture="test_vit", do_pooling=False)
    torch.manual_seed(0)
    transformers.TimmWrapperModel(config).save_pretrained(tmp_path / "a model")
    return tmp_path / "a model"


def test_a_model_of_timm_that_transformers_saved_is_asked_for_by_timm(wrapped: Path):
    with pytest.raises(SpecError) as refused:
        find_card(f"hf:{wrapped}")
    message = str(refused.value)
    assert message == f"{wrapped} is a model of timm: take --encoder 'timm:{wrapped}'"
    (reference,) = shlex.split(message.partition("--encoder ")[2])
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    encoder = build_encoder(find_card(reference))
    pixels = encoder.preprocess(Image.fromarray(noise), item_id="i")
    library: Any = transformers.AutoModel.from_pretrained(wrapped).eval()
    with torch.inference_mode():
        expected = library(pixel_values=pixels[None]).last_hidden_state
    torch.testing.assert_close(encoder.encode([pixels]).values, expected, rtol=0, atol=1e-5)


def test_a_pair_may_lie_in_a_folder_that_the_list_of_modules_names(tmp_path: Path):
    """As `clip-ViT-B-32` of sentence-transformers does; its vector is what CLIP projects."""
    inside = tmp_path / "0_CLIPModel"
    inside.mkdir()
    model = save_vision(inside, clip()) and transformers.CLIPModel.from_pretrained(inside)
    write_tokenizer(inside)
    kind = "sentence_transformers.models.CLIPModel"
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": kind}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(SpecError, match="reads images and texts: say which half"):
        find_card(f"hf:{tmp_path}")
    image = build_encoder(find_card(f"hf:{tmp_path}#image"))
    pixels = image.preprocess(Image.new("RGB", (32, 32), (9, 200, 80)), item_id="i")
    text = build_encoder(find_card(f"hf:{tmp_path}#text"))
    ids = text.prepare(Item(id="t", text="a dog"))
    with torch.inference_mode():
        seen = model.get_image_features(pixel_values=pixels[None])
        read = model.get_text_features(input_ids=torch.tensor([ids]))
    for encoder, item, expected in ((image, pixels, seen), (text, ids, read)):
        (vectors,) = encoder.encode_layers([item], [POOLED])
        expected = getattr(expected, "pooler_output", expected)
        torch.testing.assert_close(vectors.values[:, 0], expected, rtol=0, atol=1e-5)
