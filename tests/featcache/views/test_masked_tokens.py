"""The masking of tokens, on a vocabulary of a thousand words: [CLS] 0, [SEP] 1, [MASK] 2, ..."""

import numpy as np
import pytest

from lightalign.featcache.encoders.loading import open_encoder
from lightalign.featcache.encoders.vocabulary import Vocabulary
from lightalign.featcache.errors import SpecError
from lightalign.featcache.views import VIEWS
from lightalign.featcache.views.masked_tokens import mask_tokens

MASK = 2
WORDS = Vocabulary(mask_id=MASK, ordinary_ids=np.arange(10, 1010))

# of plain Python over hashlib.shake_256(b"0 2 7"), token by token
RECORDED = (
    [10, 2, 12, 13, 14, 15, 2, 17, 18, 2, 20, 21, 22, 23, 2, 2, 26, 27, 28, 29],
    [-1, 11, -1, -1, -1, -1, 16, -1, -1, 19, -1, -1, -1, -1, 24, 25, -1, -1, -1, -1],
)


def mask(ids, *, share=0.15, variant=0, item="a", seed=0, special=(), vocabulary=WORDS):
    token_ids = np.array(ids, dtype=np.int32)
    marks = np.isin(np.arange(len(ids)), list(special))
    name = (seed, item, variant)
    return mask_tokens(token_ids, marks, vocabulary, share=share, name=name)


def test_fifteen_percent_are_chosen_of_which_80_10_10_are_masked_replaced_kept():
    """Of 100,000 tokens three standard deviations are 0.34 % of all and 0.98 % of the chosen."""
    ids = np.random.default_rng(0).integers(10, 1010, 100_000)
    token_ids, masked_ids = mask(ids)
    chosen = masked_ids != -1
    assert abs(chosen.mean() - 0.15) < 0.0034
    seen, before = token_ids[chosen], masked_ids[chosen]
    np.testing.assert_array_equal(before, ids[chosen])
    masked, kept = seen == MASK, seen == before
    assert abs(masked.mean() - 0.8) < 0.0098
    assert abs(kept.mean() - 0.1) < 0.0074
    replaced = seen[~masked & ~kept]
    # 1,500 draws of 1,000 words: 1 - exp(-1.5) of them are 777 different ones
    assert 730 < len(np.unique(replaced)) < 820
    np.testing.assert_array_equal(token_ids[~chosen], ids[~chosen])


def test_a_replaced_token_is_never_the_original_one():
    """With two words the other one is all that is left."""
    two = Vocabulary(mask_id=MASK, ordinary_ids=np.array([10, 11]))
    token_ids, masked_ids = mask([10, 11] * 5000, share=1.0, vocabulary=two)
    kept = (token_ids == masked_ids).mean()
    assert abs(kept - 0.1) < 0.01
    replaced = (token_ids != MASK) & (token_ids != masked_ids)
    assert abs(replaced.mean() - 0.1) < 0.01
    assert set((token_ids + masked_ids)[replaced].tolist()) == {21}


def test_in_a_vocabulary_of_one_word_what_would_be_replaced_is_masked():
    one = Vocabulary(mask_id=MASK, ordinary_ids=np.array([10]))
    token_ids, _ = mask([10] * 10_000, share=1.0, vocabulary=one)
    assert set(token_ids.tolist()) == {MASK, 10}
    assert abs((token_ids == MASK).mean() - 0.9) < 0.01


def test_where_chance_chooses_none_one_is_chosen_each_as_often():
    """At a share of 1e-9 the rule alone chooses: one of four tokens, 1,000 times each of 4,000."""
    places = [
        np.flatnonzero(mask([10, 11, 12, 13], share=1e-9, variant=variant)[1] != -1).tolist()
        for variant in range(4000)
    ]
    assert all(len(place) == 1 for place in places)
    counts = np.bincount([place[0] for place in places])
    assert (abs(counts - 1000) < 90).all()  # three standard deviations are 82


def test_special_tokens_unknown_words_and_a_prompt_are_never_chosen():
    with_prompt = Vocabulary(mask_id=MASK, ordinary_ids=WORDS.ordinary_ids, num_fixed=2)
    # [CLS] prompt word unknown [SEP] and a word that the tokenizer added itself
    _, masked_ids = mask(
        [0, 10, 11, 3, 1, 12], share=1.0, special=[0, 4, 5], vocabulary=with_prompt
    )
    assert masked_ids.tolist() == [-1, -1, 11, -1, -1, -1]


@pytest.mark.parametrize("ids", [[], [0, 1]])
def test_of_a_text_without_words_nothing_is_chosen(ids):
    token_ids, masked_ids = mask(ids, share=1.0)
    assert token_ids.tolist() == ids
    assert masked_ids.tolist() == [-1] * len(ids)


def test_the_choice_follows_from_seed_item_and_variant():
    ids = list(range(10, 210))
    first = mask(ids)[1].tolist()
    assert mask(ids)[1].tolist() == first
    for other in ({"seed": 1}, {"item": "b"}, {"variant": 1}):
        assert mask(ids, **other)[1].tolist() != first


def test_the_choice_is_recorded():
    """The numbers are bits of SHAKE-256, the same on every machine: stores rely on that."""
    token_ids, masked_ids = mask(range(10, 30), share=0.3, item="7", variant=2)
    assert token_ids.tolist() == RECORDED[0]
    assert masked_ids.tolist() == RECORDED[1]


def test_an_encoder_without_a_mask_token_is_refused_in_a_line():
    view = VIEWS.load("masked-tokens")
    masked = view(view.Options(variants=1, mask_share=0.15, seed=0))
    with pytest.raises(SpecError, match="'toy-text' has no mask token") as refused:
        masked.require(open_encoder("toy-text"))
    assert "\n" not in str(refused.value)


def test_a_sentence_encoder_has_a_vocabulary():
    """Of BERT's 30,522 tokens five are special; the mask token is number 103."""
    vocabulary = open_encoder("minilm").vocabulary()
    assert vocabulary.mask_id == 103
    assert len(vocabulary.ordinary_ids) == 30_522 - 5
