"""Pooled features are the library's own: projections of pairs, poolers, and nothing untrained."""

import json

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

from lightalign.featcache.encoders.card import read_card
from lightalign.featcache.encoders.loading import build_encoder
from lightalign.featcache.encoders.pooling import POOLED, FeaturePooling
from lightalign.featcache.errors import SpecError
from lightalign.featcache.types import Item, Modality

from ...conftest import (
    PROCESSOR,
    SMALL,
    TEXT_CARD,
    TEXTS,
    VISION_CARD,
    WORDS,
    image_card,
    save_text,
)

PAIRS = ["clip", "siglip"]
SIGLIP_CARD = image_card("huggingface", width=32, grid=(2, 2), prefix=0)


def pair(name):
    """Return a model of two towers whose text tower ends a text with id 12, [SEP]."""
    torch.manual_seed(0)
    vision = {**SMALL, "image_size": 32, "patch_size": 16}
    text = {**SMALL, "vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": 12}
    text |= {"pad_token_id": 13, "bos_token_id": 11}
    if name == "clip":
        config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)
        return transformers.CLIPModel(config)
    text["projection_size"] = 32
    return transformers.SiglipModel(
        transformers.SiglipConfig(vision_config=vision, text_config=text)
    )


@pytest.fixture(scope="module", params=PAIRS)
def saved_pair(request, tmp_path_factory):
    folder = save_text(tmp_path_factory.mktemp("pair") / "pair", pair(request.param).eval())
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return request.param, folder


def pooled(encoder, items) -> torch.Tensor:
    prepared = [encoder.prepare(item) for item in items]
    (tokens,) = encoder.encode_layers(prepared, [POOLED])
    kept = FeaturePooling("pooled").reduce(tokens, encoder.layout(POOLED))
    assert kept.mask.tolist() == [[True]] * len(items)
    return kept.values[:, 0]


def pair_outputs(folder, encoders, tiny):
    """Return what the library makes of the same images and texts, and the items themselves."""
    image, text = encoders
    images = [Item(id=f"i{seed}", data=tiny.photo(seed)) for seed in range(3)]
    texts = [Item(id=f"t{index}", text=value) for index, value in enumerate(TEXTS)]
    model = transformers.AutoModel.from_pretrained(folder).eval()
    ids = [text.prepare(item) for item in texts]
    longest = 16 if "Siglip" in type(model).__name__ else max(map(len, ids))
    padded = torch.tensor([row + [13] * (longest - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    inputs = {} if "Siglip" in type(model).__name__ else {"attention_mask": mask}
    pixels = torch.stack([image.prepare(item) for item in images])
    with torch.no_grad():
        output = model(input_ids=padded, pixel_values=pixels, **inputs)
    return output, images, texts, model


def test_pooled_features_of_a_pair_give_its_embeddings_and_its_zero_shot_logits(saved_pair, tiny):
    name, folder = saved_pair
    cards = (VISION_CARD if name == "clip" else SIGLIP_CARD, TEXT_CARD)
    encoders = [build_encoder(card, weights=folder) for card in cards]
    output, images, texts, model = pair_outputs(folder, encoders, tiny)
    found = [pooled(*one) for one in zip(encoders, (images, texts), strict=True)]
    units = [torch.nn.functional.normalize(one, dim=1) for one in found]
    torch.testing.assert_close(units[0], output.image_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(units[1], output.text_embeds, rtol=0, atol=1e-5)
    logits = model.logit_scale.exp() * units[0] @ units[1].T
    if name == "siglip":
        logits = logits + model.logit_bias
    torch.testing.assert_close(logits, output.logits_per_image, rtol=0, atol=1e-4)


def test_pooled_features_of_a_pair_change_no_other_and_have_a_key_of_their_own(saved_pair, tiny):
    _, folder = saved_pair
    encoder = build_encoder(TEXT_CARD, weights=folder)
    before, identity = encoder.identity(), encoder.identity_at(POOLED)
    prepared = [encoder.prepare(Item(id="t", text=text)) for text in TEXTS]
    alone = encoder.encode(prepared)
    last, vectors, earlier = encoder.encode_layers(prepared, [-1, POOLED, -2])
    torch.testing.assert_close(last.values[last.mask], alone.values[alone.mask])
    assert vectors.values.shape[1] == 1
    assert earlier.values.shape == last.values.shape
    assert encoder.identity() == before
    assert identity.pop("pooled")["weights"] != before["weights"]
    assert identity == before


def test_a_tower_that_was_saved_with_its_projection_projects(tiny, tmp_path):
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(**SMALL, image_size=32, patch_size=16, projection_dim=8)
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    model.save_pretrained(tmp_path / "tower")
    (tmp_path / "tower" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    encoder = build_encoder(VISION_CARD, weights=tmp_path / "tower")
    item = Item(id="i", data=tiny.photo(0))
    with torch.no_grad():
        expected = model(pixel_values=encoder.prepare(item)[None]).image_embeds
    assert encoder.layout(POOLED).width == 8
    torch.testing.assert_close(pooled(encoder, [item]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "dinov2", "beit", "bert"])
def test_the_pooler_of_a_model_is_its_pooled_output(name, tiny):
    encoder = tiny.opened(f"transformers {name}")
    _, folder = tiny.built(f"transformers {name}")
    items = tiny.items_for(encoder)[:1]
    model = transformers.AutoModel.from_pretrained(folder).eval()
    prepared = encoder.prepare(items[0])
    is_text = encoder.modality is Modality.TEXT
    inputs = (
        {"input_ids": torch.tensor([prepared])} if is_text else {"pixel_values": prepared[None]}
    )
    with torch.no_grad():
        expected = model(**inputs).pooler_output
    torch.testing.assert_close(pooled(encoder, items), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_a_pooler_that_the_files_do_not_hold_was_never_trained(name, tiny, tmp_path):
    card, folder = tiny.copied(f"transformers {name}", tmp_path)
    state = load_file(folder / "model.safetensors")
    kept = {key: state[key] for key in state if "pooler" not in key}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SpecError, match="no weights of its pooler, so that it was never trained"):
        build_encoder(card, weights=folder).layout(POOLED)


@pytest.mark.parametrize("name", ["transformers deberta", "toy-image", "toy-text"])
def test_a_model_without_pooled_output_says_so(name, tiny):
    with pytest.raises(SpecError, match="has no pooled output of its own"):
        tiny.opened(name).layout(POOLED)


def test_clip_has_an_image_and_a_text_card_of_one_repository():
    for size in ("b16", "b32", "l14"):
        image, text = (read_card(f"clip-{part}") for part in (f"vit-{size}", f"text-{size}"))
        assert image.weights == text.weights
        assert text.modality is Modality.TEXT
        assert text.layout.max_tokens == 77


# Causal text models


def causal(name):
    torch.manual_seed(0)
    sizes = {"vocab_size": len(WORDS), "pad_token_id": 13, "bos_token_id": 11, "eos_token_id": 12}
    if name == "gpt2":
        config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=16, **sizes)
        return transformers.GPT2Model(config)
    if name == "llama":
        config = transformers.LlamaConfig(**{**SMALL, "hidden_act": "silu"}, **sizes)
        return transformers.LlamaModel(config)
    config = transformers.OPTConfig(
        hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=16, word_embed_proj_dim=32, **sizes,
    )  # fmt: skip
    return transformers.OPTModel(config)


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt"])
def test_cls_of_a_causal_model_is_refused_and_last_is_its_last_real_token(name, tmp_path):
    folder = save_text(tmp_path / name, causal(name).eval())
    encoder = build_encoder(TEXT_CARD, weights=folder)
    assert encoder.layout().constant_first
    assert encoder.layout(-2).constant_first
    with pytest.raises(SpecError, match="one vector for all texts that begin alike"):
        FeaturePooling("cls").tokens_per_item(encoder.layout(), Modality.TEXT)
    prepared = [encoder.prepare(Item(id="t", text=text)) for text in TEXTS]
    found = FeaturePooling("last").reduce(encoder.encode(prepared), encoder.layout()).values[:, 0]
    model = transformers.AutoModel.from_pretrained(folder).eval()
    for row, ids in enumerate(prepared):
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        torch.testing.assert_close(found[row], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "distilbert with a head", "roberta", "deberta"])
def test_cls_of_a_model_that_looks_both_ways_is_not_refused(name, tiny):
    encoder = tiny.opened(f"transformers {name}")
    assert not encoder.layout().constant_first
    assert FeaturePooling("cls").tokens_per_item(encoder.layout(), Modality.TEXT) == 1


def test_cls_of_the_embeddings_is_refused_as_no_attention_precedes_them(tiny):
    for name in ("transformers vit", "transformers bert"):
        encoder = tiny.opened(name)
        assert encoder.layout(-3).constant_first
        assert not encoder.layout(-2).constant_first
        with pytest.raises(SpecError, match="'cls' would be one vector for all"):
            FeaturePooling("cls").tokens_per_item(encoder.layout(-3), encoder.modality)


@pytest.mark.parametrize("name", ["vit", "convolutional"])
def test_pooled_features_of_timm_are_what_its_head_pools(name, tiny):
    """Without a classifier that is the whole model's output."""
    encoder = tiny.opened(f"timm {name}")
    options = {"img_size": 64} if name == "vit" else {}
    architecture = "test_vit" if name == "vit" else "test_efficientnet"
    model = timm.create_model(architecture, num_classes=0, **options).eval()
    state = load_file(tiny.built(f"timm {name}")[1] / "model.safetensors")
    model.load_state_dict({key: state[key] for key in model.state_dict()})
    items = [Item(id=f"i{seed}", data=tiny.photo(seed)) for seed in (0, 1)]
    with torch.no_grad():
        expected = model(torch.stack([encoder.prepare(item) for item in items]))
    torch.testing.assert_close(pooled(encoder, items), expected, rtol=1e-4, atol=1e-5)
    assert encoder.identity_at(POOLED) == encoder.identity()


def test_siglip_of_timm_pools_by_its_attention(tiny, tmp_path):
    options = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}
    architecture = "vit_base_patch16_siglip_224"
    folder = tiny.save_timm(tmp_path / "siglip", architecture, **options)
    card = tiny.image_card("timm", width=32, grid=(2, 2), prefix=0)
    encoder = build_encoder(card, weights=folder)
    model = timm.create_model(architecture, num_classes=0, **options).eval()
    state = load_file(folder / "model.safetensors")
    model.load_state_dict({key: state[key] for key in model.state_dict()})
    item = Item(id="i", data=tiny.photo(0))
    with torch.no_grad():
        expected = model(encoder.prepare(item)[None])
    torch.testing.assert_close(pooled(encoder, [item]), expected, rtol=0, atol=1e-5)
