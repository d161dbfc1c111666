"""Templates and names of classes become texts."""

import pytest

from lightalign.featcache.documents import read_toml
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.sources.opening import SOURCES
from lightalign.pipelines.classification.prompts import (
    PROMPTS,
    Prompts,
    prompt_names,
    read_prompts,
    spoken_names,
    with_article,
)


def test_a_template_takes_the_name_alone_or_with_its_article():
    prompts = Prompts(name="own", templates=("{}", "a photo of {a}, yes, {a}."))
    assert prompts.texts("apple") == ["apple", "a photo of an apple, yes, an apple."]


@pytest.mark.parametrize(
    ("noun", "article"),
    [
        ("dog", "a"),
        ("apple", "an"),
        ("Egyptian cat", "an"),
        ("unicycle", "a"),
        ("hourglass", "an"),
        ("honeycomb", "a"),
        ("honest man", "an"),
        ("honour guard", "an"),
        ("honor roll", "an"),
        ("ukulele", "a"),
        ("ukelele", "a"),
        ("unidentified bird", "an"),
        ("uninhabited island", "an"),
        ("unimproved road", "an"),
        ("uniform", "a"),
        ("umbrella", "an"),
        ("European robin", "a"),
        ("utensil", "an"),  # wrong, as the docstring says
        ("MRI scan", "a"),
    ],
)
def test_the_article_goes_by_the_sound(noun, article):
    assert with_article(noun) == f"{article} {noun}"


def test_the_prompts_of_the_folder_are_listed_and_bare_is_the_name_alone():
    assert prompt_names() == ["bare", "ensemble", "single"]
    sizes = {name: len(read_prompts(name).templates) for name in prompt_names()}
    assert sizes["bare"] == sizes["single"] == 1 < sizes["ensemble"]
    assert read_prompts("bare").texts("cat") == ["cat"]
    assert all(read_prompts(name).title for name in prompt_names())


def test_names_are_for_datasets_that_are_there_and_for_classes_they_have():
    """CIFAR's own names: https://www.cs.toronto.edu/~kriz/cifar.html."""
    classes = {
        "cifar10": "automobile",
        "cifar100": (
            "aquarium_fish can flatfish mouse orange plain plate ray seal streetcar sweet_pepper "
            "tank"
        ),
    }
    files = sorted((PROMPTS / "names").glob("*.toml"))
    assert [path.stem for path in files] == sorted(classes)
    for path in files:
        assert path.stem in SOURCES.names()
        assert sorted(read_toml(path)["names"]) == classes[path.stem].split()


def test_classes_go_by_own_names_then_by_those_of_the_dataset_then_by_their_words():
    names = ("automobile", "pickup_truck", "deer")
    plain = Prompts(name="own", templates=("{}",))
    assert spoken_names(plain, "cifar10", names) == ["car", "pickup truck", "deer"]
    assert spoken_names(plain, "elsewhere", names) == ["automobile", "pickup truck", "deer"]
    own = Prompts(name="own", templates=("{}",), names={"automobile": "motor car"})
    assert spoken_names(own, "cifar10", names) == ["motor car", "pickup truck", "deer"]


def test_two_classes_of_one_name_are_refused():
    prompts = Prompts(name="own", templates=("{}",), names={"car": "vehicle", "bus": "vehicle"})
    with pytest.raises(SpecError, match="'car' and 'bus' of own are both called 'vehicle'"):
        spoken_names(prompts, "own", ("car", "cat", "bus"))


def test_a_file_of_ones_own_may_be_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('templates = ["look: {a}"]\n[names]\nn01 = "owl"\n')
    prompts = read_prompts(str(path))
    assert (prompts.name, prompts.names) == ("mine", {"n01": "owl"})
    with pytest.raises(SpecError, match=r"there is no such file"):
        read_prompts(str(tmp_path / "other.toml"))


def test_unknown_prompts_list_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"no prompts named 'singel'; close: \['single'\]"):
        read_prompts("singel")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("templates = []", "need one template or more"),
        ('templates = ["{}", "{}"]', "each once"),
        ('templates = ["a photo"]', "found 'a photo'"),
        ('templates = ["a {b} photo of {}"]', "no other braces"),
        ('templates = ["{"]', "no other braces"),
        ('template = "{}"', "unknown key 'template'"),
        ("", "templates"),
    ],
)
def test_wrong_prompts_are_refused(text, problem, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=problem):
        read_prompts(str(path))
