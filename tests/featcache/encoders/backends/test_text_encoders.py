"""Text encoders give the last hidden state of the bare library, token by token."""

import json
from dataclasses import replace

import pytest
import torch
import transformers

from lightalign.featcache.encoders.loading import build_encoder, open_encoder
from lightalign.featcache.encoders.pooling import FeaturePooling
from lightalign.featcache.errors import (
    SpecError,
    UnreadableItemError,
    WeightsMismatchError,
    WeightsNotFoundError,
)
from lightalign.featcache.types import Item, Modality

TEXT = "the man runs with a red hat"
LAST_HIDDEN_STATE = ["bert", "distilbert with a head", "roberta", "deberta"]


def prepare(encoder, text):
    return encoder.prepare(Item(id="t", text=text))


@pytest.mark.parametrize("name", LAST_HIDDEN_STATE)
def test_tokens_are_the_last_hidden_state_of_the_unpadded_text(name, tiny):
    encoder = tiny.opened(f"transformers {name}")
    folder = tiny.built(f"transformers {name}")[1]
    ids = prepare(encoder, TEXT)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([ids])).last_hidden_state
    padded = encoder.encode([prepare(encoder, TEXT + " the dog"), ids])
    assert padded.mask[1].tolist() == [True] * len(ids) + [False] * 2
    torch.testing.assert_close(padded.values[1, : len(ids)], expected[0], rtol=0, atol=1e-5)


def test_a_saved_padding_and_truncation_is_not_used(tiny):
    """The directory asks for 4 tokens, padded to 20; [CLS] and [SEP] stand around 7 words."""
    ids = prepare(tiny.opened("transformers bert"), TEXT)
    words = ["[CLS]", "the", "man", "runs", "with", "a", "red", "hat", "[SEP]"]
    tokenizer = json.loads((tiny.built("transformers bert")[1] / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    assert ids == [vocabulary[word] for word in words]


def test_a_long_text_is_cut_and_keeps_its_last_special_token(tiny):
    encoder = tiny.opened("transformers bert")
    ids = prepare(encoder, "dog " * 50)
    assert len(ids) == 12
    assert ids[-1] == prepare(encoder, "dog")[-1]


def test_an_empty_text_is_its_special_tokens(tiny):
    encoder = tiny.opened("transformers bert")
    ids = prepare(encoder, "")
    assert len(ids) == 2
    assert ids == [prepare(encoder, "dog")[0], prepare(encoder, "dog")[-1]]
    assert encoder.encode([ids]).mask.tolist() == [[True, True]]


def test_a_text_that_is_not_unicode_is_unreadable(tiny):
    with pytest.raises(UnreadableItemError, match="t: the text is not valid Unicode"):
        prepare(tiny.opened("transformers bert"), "half an emoji \ud83d")


def test_without_special_tokens_an_empty_text_has_none_and_no_text_a_class(tiny, tmp_path):
    card, folder = tiny.copied("transformers bert", tmp_path)
    table = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**table, "post_processor": None}))
    encoder = build_encoder(card, weights=folder)
    with pytest.raises(UnreadableItemError, match="t: the text gives no tokens"):
        prepare(encoder, "")
    with pytest.raises(SpecError, match="'cls' would be those of each text's first word"):
        FeaturePooling("cls").tokens_per_item(encoder.layout(), Modality.TEXT)


def test_the_identity_changes_with_the_tokenizer(tiny, tmp_path):
    card, folder = tiny.copied("transformers bert", tmp_path)
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"dog"', '"dogs"'))
    changed = build_encoder(card, weights=folder).identity()
    assert changed.pop("tokenizer") != tiny.opened("transformers bert").identity()["tokenizer"]
    assert changed.items() <= tiny.opened("transformers bert").identity().items()


def test_the_identity_changes_with_the_number_of_heads(tiny, tmp_path):
    """Heads change the numbers and are in no tensor."""
    card, folder = tiny.copied("transformers bert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 8}))
    changed = build_encoder(card, weights=folder)
    original = tiny.opened("transformers bert")
    assert changed.identity() != original.identity()
    ids = prepare(original, TEXT)
    assert not torch.equal(changed.encode([ids]).values, original.encode([ids]).values)


def test_the_identity_does_not_change_with_the_version_that_saved_the_model(tiny, tmp_path):
    card, folder = tiny.copied("transformers bert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    older = {**config, "transformers_version": "4.8.2", "_name_or_path": "somewhere/else"}
    (folder / "config.json").write_text(json.dumps(older))
    changed = build_encoder(card, weights=folder).identity()
    assert changed == tiny.opened("transformers bert").identity()


def test_a_directory_without_tokenizer_is_refused(tiny, tmp_path):
    """The library itself would go on with a vocabulary of five special tokens."""
    card, folder = tiny.copied("transformers bert", tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(WeightsNotFoundError, match="has no tokenizer"):
        build_encoder(card, weights=folder)


def test_a_tokenizer_of_more_words_than_its_model_is_refused(tiny, tmp_path):
    card, folder = tiny.copied("transformers bert", tmp_path)
    table = json.loads((folder / "tokenizer.json").read_text())
    table["model"]["vocab"]["dog"] = 15  # the model has embeddings for the 15 words it came with
    (folder / "tokenizer.json").write_text(json.dumps(table))
    encoder = build_encoder(card, weights=folder)
    with pytest.raises(WeightsMismatchError, match=r"gives token 15.* embeddings for 15"):
        encoder.encode([prepare(encoder, "a dog")])


@pytest.mark.parametrize(("name", "positions"), [("bert", 16), ("roberta", 12)])
def test_a_model_with_too_few_positions_states_both(name, positions, tiny):
    card, folder = tiny.built(f"transformers {name}")
    card = replace(card, layout=replace(card.layout, max_tokens=positions + 1))
    with pytest.raises(
        WeightsMismatchError, match=rf"{positions + 1} tokens, this model has {positions} posit"
    ):
        build_encoder(card, weights=folder)


def test_an_image_model_is_no_text_encoder(tiny):
    card = tiny.built("transformers bert")[0]
    with pytest.raises(WeightsMismatchError, match="reads texts, but ViTModel is not a plain"):
        build_encoder(card, weights=tiny.built("transformers vit")[1])


# The toy


def test_equal_words_have_equal_toy_features():
    encoder = open_encoder("toy-text")
    tokens = encoder.encode([prepare(encoder, "A dog"), prepare(encoder, "dog runs")])
    assert torch.equal(tokens.values[0, 1], tokens.values[1, 0])
    assert not torch.equal(tokens.values[0, 0], tokens.values[1, 1])


def test_the_toy_cuts_long_texts():
    encoder = open_encoder("toy-text")
    assert encoder.encode([prepare(encoder, "dog " * 40)]).mask.sum() == 32
