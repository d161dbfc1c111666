"""Tokenizers without a Rust half, pad tokens beyond the table, and what no text can be read by."""

import json
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lightalign.featcache.encoders.loading import build_encoder
from lightalign.featcache.encoders.pooling import POOLED
from lightalign.featcache.errors import (
    SpecError,
    UnreadableItemError,
    WeightsMismatchError,
    WeightsNotFoundError,
)
from lightalign.featcache.types import Item

from ...conftest import SMALL, TEXT_CARD, WORDS, save_text, write_tokenizer

TEXTS = ["a dog runs", "MKTAYI", "the red dog runs with a red hat and a red red dog", "é"]
NAMES = ["bertweet", "phobert", "esm", "ctrl", "byt5"]


def write_word_pieces(folder):
    """Write the dictionary and the merges that fairseq's models come with."""
    words = ["a", "dog", "runs", "the", "red", "d@@", "og", "r@@"]
    (folder / "vocab.txt").write_text("".join(f"{word} 1\n" for word in words))
    (folder / "bpe.codes").write_text("d o 5\no g</w> 5\nd og</w> 5\nr e 4\nre d</w> 4\n")


def saved(name, folder):
    """Write a tiny model with its tokenizer in Python."""
    torch.manual_seed(0)
    folder.mkdir()
    if name in ("bertweet", "phobert"):
        write_word_pieces(folder)
        kind = (
            transformers.BertweetTokenizer if name == "bertweet" else transformers.PhobertTokenizer
        )
        tokenizer = kind(str(folder / "vocab.txt"), str(folder / "bpe.codes"))
        config = transformers.RobertaConfig(
            **SMALL, vocab_size=len(tokenizer), max_position_embeddings=30, pad_token_id=1
        )
        model = transformers.RobertaModel(config)
    elif name == "esm":
        letters = ["<cls>", "<pad>", "<eos>", "<unk>", *"ARNDCQEGHILKMFPSTWYV", "<mask>"]
        (folder / "vocab.txt").write_text("\n".join(letters))
        tokenizer = transformers.EsmTokenizer(str(folder / "vocab.txt"))
        config = transformers.EsmConfig(
            **SMALL, vocab_size=len(letters), max_position_embeddings=30, pad_token_id=1,
            mask_token_id=24,
        )  # fmt: skip
        model = transformers.EsmModel(config)
    elif name == "ctrl":
        pieces = {"<unk>": 0, "a": 1, "dog": 2, "runs": 3, "d@@": 4, "og": 5}
        (folder / "vocab.json").write_text(json.dumps(pieces))
        (folder / "merges.txt").write_text("#version\no g</w>\nd og</w>\n")
        tokenizer = transformers.CTRLTokenizer(
            str(folder / "vocab.json"), str(folder / "merges.txt")
        )
        config = transformers.CTRLConfig(
            vocab_size=6, n_positions=30, n_embd=32, dff=64, n_layer=2, n_head=4
        )
        model = transformers.CTRLModel(config)
    elif name == "byt5":
        tokenizer = transformers.ByT5Tokenizer()
        config = transformers.T5Config(
            vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
        )
        model = transformers.T5EncoderModel(config)
    else:
        tokenizer = transformers.CanineTokenizer()
        config = transformers.CanineConfig(
            **SMALL, max_position_embeddings=64, num_hash_functions=4, num_hash_buckets=32
        )
        model = transformers.CanineModel(config)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


CARD = replace(TEXT_CARD, layout=replace(TEXT_CARD.layout, max_tokens=16))


@pytest.mark.parametrize("name", NAMES)
def test_a_tokenizer_in_python_gives_what_the_library_gives(name, tmp_path):
    folder = saved(name, tmp_path / name)
    encoder = build_encoder(CARD, weights=folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    (class_name,) = json.loads((folder / "config.json").read_text())["architectures"]
    model = getattr(transformers, class_name).from_pretrained(folder).eval()
    prepared = [encoder.prepare(Item(id="t", text=text)) for text in TEXTS]
    tokens = encoder.encode(prepared)
    for row, text in enumerate(TEXTS):
        ids = tokenizer(text, truncation=True, max_length=16)["input_ids"]
        assert prepared[row] == ids
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        found = tokens.values[row][tokens.mask[row]]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    arrays = encoder.companions(TEXTS[0])
    assert arrays["token_ids"].tolist() == prepared[0]
    assert set(arrays) == set(encoder.companion_names)


@pytest.mark.parametrize("name", ["byt5", "ctrl"])
def test_a_tokenizer_in_python_is_stable_in_the_key_and_cannot_be_exported(name, tmp_path):
    folder = saved(name, tmp_path / name)
    encoder, again = (build_encoder(CARD, weights=folder) for _ in range(2))
    assert encoder.identity() == again.identity()
    with pytest.raises(SpecError, match=r"without a tokenizer\.json: it cannot be exported"):
        encoder.portable()
    with pytest.raises(UnreadableItemError, match="t: the text is not valid Unicode"):
        encoder.prepare(Item(id="t", text="half an emoji \ud83d"))


def test_the_vocabulary_of_a_tokenizer_in_python_is_in_the_key(tmp_path):
    folder = saved("ctrl", tmp_path / "ctrl")
    before = build_encoder(CARD, weights=folder).identity()
    (folder / "merges.txt").write_text("#version\no g</w>\n")
    after = build_encoder(CARD, weights=folder).identity()
    assert after.pop("tokenizer") != before.pop("tokenizer")
    assert after == before


@pytest.mark.slow
def test_a_model_that_cannot_read_a_short_text_is_refused(tmp_path):
    """CANINE halves its letters until nothing is left of three."""
    with pytest.raises(WeightsMismatchError, match=r"cannot be built from .*max_pool1d"):
        build_encoder(CARD, weights=saved("canine", tmp_path / "canine"))


def test_a_model_of_latents_is_refused_in_one_line(tmp_path):
    torch.manual_seed(0)
    config = transformers.PerceiverConfig(num_latents=4, d_latents=16, d_model=16, num_blocks=1,
                                          num_self_attends_per_block=1, vocab_size=262)  # fmt: skip
    transformers.PerceiverModel(config).save_pretrained(tmp_path / "perceiver")
    transformers.PerceiverTokenizer().save_pretrained(tmp_path / "perceiver")
    with pytest.raises(WeightsMismatchError, match="PerceiverModel is not a plain encoder"):
        build_encoder(CARD, weights=tmp_path / "perceiver")


def test_a_pad_token_that_was_added_beyond_the_table_is_not_used(tmp_path):
    """GPT-2 has none; people add one and leave the model as it is. What is padded is masked."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 13, "bos_token_id": 11, "eos_token_id": 12}  # [PAD] is 13
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=16, **sizes)
    folder = save_text(tmp_path / "gpt2", transformers.GPT2Model(config).eval())
    encoder = build_encoder(TEXT_CARD, weights=folder)
    short, long = (encoder.prepare(Item(id="t", text=text)) for text in ("a dog", "a dog runs the"))
    together, alone = encoder.encode([short, long]), encoder.encode([short])
    torch.testing.assert_close(together.values[0, : len(short)], alone.values[0])


def test_a_model_that_mixes_its_padding_in_is_given_none(tmp_path):
    """FNet transforms all positions at once, and knows no mask."""
    torch.manual_seed(0)
    config = transformers.FNetConfig(**SMALL, vocab_size=len(WORDS), max_position_embeddings=16)
    folder = save_text(tmp_path / "fnet", transformers.FNetModel(config).eval())
    encoder = build_encoder(TEXT_CARD, weights=folder)
    prepared = [encoder.prepare(Item(id="t", text=text)) for text in ("a", "a dog runs", "red")]
    together = encoder.encode(prepared)
    assert encoder.identity()["padding"] == "none"
    for row, ids in enumerate(prepared):
        alone = encoder.encode([ids]).values[0]
        torch.testing.assert_close(together.values[row, : len(ids)], alone, rtol=0, atol=1e-6)
    with pytest.raises(SpecError, match="in FNetModel padding takes part"):
        encoder.portable()


def test_quantised_weights_are_refused_with_the_reason(tiny, tmp_path):
    card, folder = tiny.copied("transformers bert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for method in ("bitsandbytes", "gptq", "awq", "fp8"):
        table = {**config, "quantization_config": {"quant_method": method, "bits": 4}}
        (folder / "config.json").write_text(json.dumps(table))
        with pytest.raises(WeightsMismatchError, match="are quantised, as the quantization_config"):
            build_encoder(card, weights=folder)


@pytest.mark.slow
def test_the_reason_of_a_library_is_bounded(tiny, tmp_path):
    """transformers lists every model that it knows: more than eleven thousand letters."""
    card, folder = tiny.copied("transformers bert", tmp_path)
    for table in ({"model_type": "unheard-of"}, {"model_type": "trocr"}, {"model_type": 3}, []):
        (folder / "config.json").write_text(json.dumps(table))
        with pytest.raises((WeightsMismatchError, WeightsNotFoundError)) as caught:
            build_encoder(card, weights=folder)
        assert len(str(caught.value)) < 700
        assert "\n" not in str(caught.value)


def test_a_directory_in_parts_is_read(tiny, tmp_path):
    card, folder = tiny.copied("transformers bert", tmp_path)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2],
             "model-00002-of-00002.safetensors": names[1::2]}  # fmt: skip
    for part, keys in parts.items():
        save_file({key: state[key] for key in keys}, folder / part, metadata={"format": "pt"})
    weight_map = {key: part for part, keys in parts.items() for key in keys}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    identity = build_encoder(card, weights=folder).identity()
    assert identity == tiny.opened("transformers bert").identity()


# Halves


def test_the_text_half_of_a_whole_t5_and_bart_is_their_encoder(tmp_path):
    sizes = {"vocab_size": len(WORDS), "pad_token_id": 13, "decoder_start_token_id": 13}
    torch.manual_seed(0)
    models = {
        "t5": transformers.T5ForConditionalGeneration(
            transformers.T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, **sizes)
        ),
        "bart": transformers.BartForConditionalGeneration(
            transformers.BartConfig(
                d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64,
                max_position_embeddings=16, bos_token_id=11, eos_token_id=12, **sizes,
            )
        ),
    }  # fmt: skip
    for name, model in models.items():
        folder = save_text(tmp_path / name, model.eval())
        encoder = build_encoder(TEXT_CARD, weights=folder)
        ids = encoder.prepare(Item(id="t", text="a red dog"))
        with torch.no_grad():
            expected = model.get_encoder()(input_ids=torch.tensor([ids])).last_hidden_state
        torch.testing.assert_close(encoder.encode([ids]).values, expected, rtol=0, atol=1e-5)
        with pytest.raises(SpecError, match="no pooled output"):
            encoder.layout(POOLED)


def test_the_encoder_of_t5_saved_alone_is_the_same(tmp_path):
    torch.manual_seed(0)
    sizes = {"vocab_size": len(WORDS), "pad_token_id": 13, "decoder_start_token_id": 13}
    config = transformers.T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, **sizes)
    whole = transformers.T5Model(config).eval()
    save_text(tmp_path / "whole", whole)
    alone = transformers.T5EncoderModel(config).eval()
    alone.load_state_dict(whole.state_dict(), strict=False)
    alone.save_pretrained(tmp_path / "alone")
    write_tokenizer(tmp_path / "alone")
    hashes = [
        build_encoder(TEXT_CARD, weights=tmp_path / name).identity()["weights"]
        for name in ("whole", "alone")
    ]
    assert hashes[0] == hashes[1]


def test_a_model_of_sounds_is_no_text_encoder(tmp_path):
    config = transformers.WhisperConfig(
        d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, vocab_size=16,
        pad_token_id=13, bos_token_id=11, eos_token_id=12, decoder_start_token_id=11,
    )  # fmt: skip
    folder = save_text(tmp_path / "whisper", transformers.WhisperModel(config))
    with pytest.raises(WeightsMismatchError, match="WhisperModel is not a plain encoder of them"):
        build_encoder(TEXT_CARD, weights=folder)
