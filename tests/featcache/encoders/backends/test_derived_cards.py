"""Cards derived of models whose configuration does not say it all open them, or say why not."""

import json
import shlex
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from timm.models import save_for_hf

from lightalign.featcache.encoders.loading import build_encoder
from lightalign.featcache.encoders.pooling import POOLED
from lightalign.featcache.encoders.references import find_card
from lightalign.featcache.errors import SpecError, WeightsMismatchError, WeightsNotFoundError
from lightalign.featcache.types import Item, Modality

from ...conftest import SMALL, TEXT_CARD, clip, save_text, save_vision, write_tokenizer
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


def test_weights_of_timm_may_lie_in_parts(wrapped: Path, tmp_path: Path):
    model: Any = transformers.AutoModel.from_pretrained(wrapped).eval()
    model.save_pretrained(tmp_path / "parts", max_shard_size="100KB")
    assert len(list((tmp_path / "parts").glob("model-*.safetensors"))) > 1
    whole = build_encoder(find_card(f"timm:{wrapped}"))
    parts = build_encoder(find_card(f"timm:{tmp_path / 'parts'}"))
    assert parts.identity() == whole.identity()
    next((tmp_path / "parts").glob("model-*.safetensors")).unlink()
    with pytest.raises(WeightsNotFoundError, match="is not there, one of the parts") as refused:
        build_encoder(find_card(f"timm:{tmp_path / 'parts'}"))
    assert "\n" not in str(refused.value)
    index = tmp_path / "parts" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    with pytest.raises(WeightsMismatchError, match="outside of its directory"):
        build_encoder(find_card(f"timm:{tmp_path / 'parts'}"))


def test_a_model_of_timm_on_the_hub_is_asked_for_by_its_owner_and_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Not by the name alone, which is that of other weights."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository, commit = tmp_path / "models--someone--resnet50", "a" * 40
    snapshot = repository / "snapshots" / commit
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    model = timm.create_model("test_vit", num_classes=5)
    save_for_hf(model, snapshot, safe_serialization=True)
    with pytest.raises(SpecError, match=r"take --encoder timm:someone/resnet50$"):
        find_card("hf:someone/resnet50")
    card = find_card("timm:someone/resnet50")
    assert (card.name, card.model) == ("timm-someone-resnet50", "test_vit")
    assert (card.weights.hub, card.layout.grid) == ("someone/resnet50", (10, 10))
    from_folder = build_encoder(find_card(f"timm:{snapshot}"))
    assert build_encoder(card).identity() == from_folder.identity()


@pytest.mark.parametrize(
    ("reference", "match"),
    [
        ("timm:someone/nothing", "no config.json of 'someone/nothing'"),
        ("timm:./nothing", "is no folder that is there"),
    ],
)
def test_a_model_of_timm_that_is_nowhere_is_one_line(
    reference: str, match: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsNotFoundError, match=match) as refused:
        find_card(reference)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("tokenizer", "sentence", "limit"),
    [
        ({}, {}, 38),  # 40 positions, of which RoBERTa begins at the third
        ({"model_max_length": 512}, {}, 38),
        ({"model_max_length": 16}, {}, 16),
        ({"model_max_length": 16.0}, {}, 16),
        ({"model_max_length": int(1e30)}, {"max_seq_length": None}, 38),
        ({"model_max_length": 16}, {"max_seq_length": 10}, 10),
        ({"model_max_length": 16}, {"max_seq_length": 24}, 24),
        ({"model_max_length": 512}, {"max_seq_length": 100}, 38),
        ({}, {"processor_kwargs": {"model_max_length": 9}}, 9),
    ],
)
@pytest.mark.parametrize("name", ["sentence_bert_config.json", "sentence_roberta_config.json"])
def test_a_text_is_as_long_as_tokenizer_model_and_sentence_encoder_allow(
    name: str, tokenizer: dict[str, Any], sentence: dict[str, Any], limit: int, long_roberta: Path
):
    path = long_roberta / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **tokenizer}))
    (long_roberta / name).write_text(json.dumps(sentence))
    assert find_card(f"hf:{long_roberta}").layout.max_tokens == limit


@pytest.fixture
def long_roberta(tmp_path: Path) -> Path:
    """Return a folder of sentence-transformers around a tiny RoBERTa of 40 positions."""
    config = transformers.RobertaConfig(
        **SMALL, vocab_size=20, max_position_embeddings=40, pad_token_id=1
    )
    folder = save_text(tmp_path / "roberta", transformers.RobertaModel(config))
    (folder / "modules.json").write_text('[{"path": "", "type": "a.Transformer"}]')
    return folder


def test_a_model_with_an_adapter_beside_it_is_refused(tiny: Any, tmp_path: Path):
    """The library without PEFT would read the model alone."""
    _, folder = tiny.copied("transformers bert", tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(WeightsMismatchError, match="is of an adapter, which is not read here"):
        find_card(f"hf:{folder}")
    with pytest.raises(WeightsMismatchError, match="is of an adapter, which is not read here"):
        build_encoder(TEXT_CARD, weights=folder)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsNotFoundError, match="but an adapter"):
        find_card(f"hf:{folder}")


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


def test_a_card_says_that_code_of_its_own_is_not_run(tiny: Any, tmp_path: Path):
    """As of gte-Qwen2, whose code looks both ways where the library's class looks back only."""
    _, folder = tiny.copied("transformers bert", tmp_path)
    assert "not run" not in find_card(f"hf:{folder}").note
    path = folder / "config.json"
    code = {"auto_map": {"AutoModel": "modeling_own.OwnModel"}}
    path.write_text(json.dumps({**json.loads(path.read_text()), **code}))
    assert "(modeling_own.OwnModel), which is not run" in find_card(f"hf:{folder}").note


@pytest.mark.parametrize(
    ("processor", "match"),
    [
        (transformers.Siglip2ImageProcessor(max_num_patches=16), "gives 16 x 768 numbers"),
        (transformers.Pix2StructImageProcessor(), "cannot read the image processor .*pixel_values"),
        (None, "cannot read the image processor"),
    ],
    ids=["patches of any picture", "no pixel values", "a list"],
)
def test_a_processor_that_gives_no_picture_is_one_line(processor: Any, match: str, tmp_path: Path):
    config = transformers.ViTConfig(**SMALL, image_size=32, patch_size=8)
    folder = save_vision(tmp_path / "vit", transformers.ViTModel(config).eval())
    (folder / "preprocessor_config.json").write_text("[]")
    if processor is not None:
        processor.save_pretrained(folder)
    with pytest.raises(WeightsMismatchError, match=match):
        find_card(f"hf:{folder}")


def test_a_folder_of_transformers_is_asked_for_by_hf(tmp_path: Path):
    place = tmp_path / "my model"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 8}))
    with pytest.raises(SpecError, match=r"of transformers: take --encoder 'hf:.*/my model'$"):
        find_card(f"timm:{place}")
    with pytest.raises(SpecError, match=r"of transformers: take --encoder 'hf:.*/my model'$"):
        find_card("timm:test_vit", weights=place)
