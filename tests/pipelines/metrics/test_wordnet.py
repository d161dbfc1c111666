"""WordNet's files and Wu-Palmer: by hand on a small one, against NLTK on the real one."""

import os
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightalign.featcache.errors import DatasetFormatError, DatasetNotFoundError
from lightalign.pipelines.metrics import wordnet as module
from lightalign.pipelines.metrics.wordnet import WordNet, find_wordnet

from .small_wordnet import SENSES, small_wordnet, write_small_wordnet

# by `wup_similarity` of NLTK 3.10 and WordNet 3.0, the largest over all pairs of noun senses
PUBLISHED = {
    ("chair", "table"): 16 / 19,
    ("bed", "sofa"): 0.8,
    ("cup", "mug"): 20 / 24,
    ("curtain", "blinds"): 16 / 17,
    ("2", "3"): 0.875,
    ("monitor", "screen"): 0.9,
    ("chest", "table"): 16 / 18,
    ("frying_pan", "cradle"): 0.5454545454545454,
    ("stool", "bed_sheets"): 0.5263157894736842,
    ("7", "ottoman"): 0.2222222222222222,
    ("propellor", "radish"): 0.42105263157894735,
    ("rhus_copallinas", "stiltons"): 0.2,
    ("boxes", "strassburg"): 1 / 3,
    ("scissors", "geese"): 0.38095238095238093,
    ("men", "whorled_caraway"): 0.631578947368421,
    ("feet", "george_washington_goethals"): 0.5454545454545454,
    ("pillow", "coffee_table_of_glass"): 0.0,
}


@pytest.fixture
def wordnet():
    return WordNet(small_wordnet(), "small")


@pytest.fixture(scope="module")
def real_wordnet():
    real = find_wordnet()
    if real is None or real.version != "3.0":
        pytest.skip(f"WordNet 3.0 is not installed: {module.how_to_install()}")
    return real


@pytest.mark.parametrize(
    ("first", "second", "similarity"),
    [
        ("seat", "table", 2 * 3 / (2 * 3 + 1 + 1)),  # both furniture, third from the root
        ("chair", "table", 2 * 3 / (2 * 3 + 2 + 1)),
        ("chair", "seat", 2 * 4 / (2 * 4 + 1)),
        ("chair", "person", 2 * 2 / (2 * 2 + 1)),  # as chairperson; as furniture 2 / 7
        ("chair", "chairperson", 1),
        ("stool", "chair", 2 * 4 / (2 * 4 + 1 + 1)),
        # a stool is two steps below the root as a toy, and four deep as a seat: nearest above
        # both is the seat, whose shortest way up is the longest
        ("barstool", "stool", 2 * 4 / (2 * 4 + 2 + 1)),
        ("stool", "doll", 2 * 2 / (2 * 2 + 1 + 1)),
        ("doll", "table", 2 * 1 / (2 * 1 + 2 + 3)),
        ("chair", "chair", 1),
        ("chair", "nothing", 0),
        ("", "chair", 0),
    ],
)
def test_words_are_as_alike_as_worked_out_by_hand(wordnet, first, second, similarity):
    assert wordnet.similarity(first, second) == pytest.approx(similarity, abs=1e-15)
    assert wordnet.similarity(second, first) == pytest.approx(similarity, abs=1e-15)


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("chair", [b"chair.01", b"chairperson.01"]),
        ("Chairs", [b"chair.01", b"chairperson.01"]),
        ("people", [b"person.01"]),
        ("bar_stool", [b"barstool.01"]),
        ("bar stool", []),
        ("geese", []),  # its goose is not in the index
        ("dolly", []),
        ("\ud800", []),
    ],
)
def test_senses_are_those_of_a_word_and_of_what_it_is_a_plural_of(wordnet, word, names):
    assert [sense.name for sense in wordnet.senses(word)] == names


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_files_are_read_from_a_folder_and_from_a_zip_file(tmp_path, form):
    path = write_small_wordnet(tmp_path / "wordnet")
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "wordnet.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in small_wordnet().items():
                archive.writestr(f"wordnet/{name}", content)
        path = tmp_path / "wordnet.zip"
    wordnet = WordNet.open(path)
    assert wordnet.version == "3.0"
    assert wordnet.similarity("seat", "table") == 0.75


def test_the_variable_names_the_folder_that_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv(module.VARIABLE, str(write_small_wordnet(tmp_path)))
    assert find_wordnet().similarity("seat", "table") == 0.75


def test_a_folder_that_the_variable_names_has_to_be_there(tmp_path, monkeypatch):
    monkeypatch.setenv(module.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DatasetNotFoundError, match=r"no index\.noun .* in .*nowhere") as caught:
        find_wordnet([])
    assert str(caught.value).endswith(module.how_to_install())
    assert "\n" not in str(caught.value)


def test_the_first_place_that_has_it_is_read(tmp_path, monkeypatch):
    monkeypatch.delenv(module.VARIABLE, raising=False)
    places = [tmp_path / "empty", write_small_wordnet(tmp_path / "there"), tmp_path / "x.zip"]
    assert find_wordnet(places).similarity("seat", "table") == 0.75
    assert find_wordnet([tmp_path / "empty", tmp_path / "x.zip"]) is None


def test_the_places_of_nltk_data_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.delenv(module.VARIABLE, raising=False)
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    assert tmp_path / "corpora" / "wordnet.zip" in module.usual_places()


@pytest.mark.parametrize(
    ("program", "user", "command"),
    [
        ("/usr/bin/apt-get", 0, "apt-get install --no-install-recommends --yes wordnet-base"),
        ("/bin/apt-get", 1000, "sudo apt-get install --no-install-recommends --yes wordnet-base"),
        (None, 1000, "pip install nltk && python -m nltk.downloader wordnet"),
    ],
)
def test_the_command_that_brings_it_is_one_for_this_machine(monkeypatch, program, user, command):
    monkeypatch.setattr(module.shutil, "which", lambda _: program)
    monkeypatch.setattr(module.os, "geteuid", lambda: user)
    assert module.how_to_install() == command


@pytest.mark.parametrize("name", small_wordnet())
def test_a_file_that_is_missing_is_named(tmp_path, name):
    (write_small_wordnet(tmp_path) / name).unlink()
    with pytest.raises(DatasetNotFoundError, match=f"no {name} of WordNet"):
        WordNet.open(tmp_path)


def test_a_file_that_is_none_is_refused_at_once(tmp_path):
    (write_small_wordnet(tmp_path) / "data.noun").unlink()
    os.mkfifo(tmp_path / "data.noun")
    with pytest.raises(DatasetNotFoundError, match="is a named pipe"):
        WordNet.open(tmp_path)


def test_a_file_without_an_end_is_refused(tmp_path):
    os.truncate(write_small_wordnet(tmp_path) / "index.noun", 2**26 + 1)
    with pytest.raises(DatasetNotFoundError, match="more than the 67,108,864 allowed"):
        WordNet.open(tmp_path)


def test_a_zip_file_that_is_none_or_lacks_a_file_is_refused(tmp_path):
    path = tmp_path / "wordnet.zip"
    path.write_bytes(b"no archive")
    with pytest.raises(DatasetFormatError, match=r"wordnet\.zip is damaged"):
        WordNet.open(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("wordnet/index.noun", b"")
    with pytest.raises(DatasetNotFoundError, match=r"no data\.noun of WordNet"):
        WordNet.open(path)


def test_a_zip_file_with_names_that_are_no_text_is_refused(tmp_path):
    path = tmp_path / "wordnet.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("wordnet/\N{LATIN SMALL LETTER E WITH ACUTE}", b"")
    path.write_bytes(path.read_bytes().replace(b"\xc3\xa9", b"\xe9\xe9"))
    with pytest.raises(DatasetFormatError, match=r"wordnet\.zip is damaged"):
        WordNet.open(path)


def test_a_zip_file_that_unpacks_without_an_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", {"index.noun": 1000})
    path = tmp_path / "wordnet.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("wordnet/index.noun", bytes(100_000))
    with pytest.raises(DatasetFormatError, match=r"index\.noun has more than the 1,000 bytes"):
        WordNet.open(path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("index.noun", b"table n 1 2", b"table n 1 x"),
        ("index.noun", b"table n 1 2", b"table n 2 2"),
        ("index.noun", b"table n 1 2 @ ~ 1 0 0", b"table n 1 2 @ ~ 1 0 9"),
        ("index.noun", b"furniture n", b"furnitury n"),
        ("data.noun", b" 01 table 0 001 @", b" zz table 0 001 @"),
        ("data.noun", b" 01 table 0 001 @", b" 01 table 0 x01 @"),
        ("data.noun", b"furniture 0 001 @ 0", b"furniture 0 001 @ 9"),
    ],
)
def test_damage_is_told_where_it_is_met(name, old, new):
    files = small_wordnet()
    assert files[name].count(old) == 1
    files[name] = files[name].replace(old, new)
    with pytest.raises(DatasetFormatError, match=r"small: (index|data)\.noun is damaged at"):
        WordNet(files, "small").similarity("table", "seat")


def test_a_noun_that_is_a_kind_of_itself_is_damage():
    senses = {**SENSES, "furniture": (["furniture"], ["table"])}
    with pytest.raises(DatasetFormatError, match="a noun is more than 64 steps below the root"):
        WordNet(small_wordnet(senses), "small").senses("chair")


def test_a_file_of_another_kind_has_no_nouns():
    with pytest.raises(DatasetFormatError, match=r"index\.noun has no nouns"):
        WordNet({**small_wordnet(), "index.noun": b"\n"}, "small")


@settings(max_examples=150)
@given(st.sampled_from(["index.noun", "data.noun"]), st.data())
def test_whatever_is_damaged_there_is_a_number_or_an_error_of_ours(name, data):
    files = small_wordnet()
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    files[name] = bytes(content[: data.draw(st.integers(1, len(content)))])
    # any other error ends the test
    with suppress(DatasetFormatError):
        wordnet = WordNet(files, "small")
        values = [wordnet.similarity(first, "barstools") for first in ("chair", "table", "doll")]
        assert all(0 <= value <= 1 for value in values)


@pytest.mark.parametrize(("words", "similarity"), PUBLISHED.items())
def test_real_words_are_as_alike_as_nltk_says(real_wordnet, words, similarity):
    assert real_wordnet.similarity(*words) == similarity


def test_252_of_the_582_answers_of_daquar_have_no_noun_sense(real_wordnet, test_data):
    answers = (test_data / "daquar" / "answer_space.txt").read_text().split()
    assert len(answers) == 582
    assert sum(not real_wordnet.senses(answer) for answer in answers) == 252
