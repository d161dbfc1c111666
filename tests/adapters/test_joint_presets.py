"""Presets of joint adapters: sizes as published and by hand, and what refuses them."""

import json

import pytest

from lightalign.adapters import check
from lightalign.adapters.check import check_preset
from lightalign.adapters.head import HEADS
from lightalign.adapters.joint_adapter import heads_read
from lightalign.adapters.joint_objective import JOINT_OBJECTIVES, build_joint_objectives
from lightalign.adapters.preset import DUAL, JOINT, kind_of, list_presets, read_preset
from lightalign.featcache.documents import tomllib
from lightalign.featcache.errors import SpecError
from lightalign.pipelines.training.options import resolve_preset

from ..helpers import lightalign


def layer(d, wide):
    """Two attentions of four matrices, two matrices around `wide` features, three norms."""
    return 2 * 4 * (d * d + d) + (d * wide + wide) + (wide * d + d) + 3 * 2 * d


def vle(d, layers, wide, text, image):
    """Projections, two types, two stacks and two poolers."""
    return (text + 1) * d + (image + 1) * d + 2 * d + 2 * layers * layer(d, wide) + 2 * (d * d + d)


def test_a_layer_of_vle_base_by_hand():
    assert layer(768, 3072) == 9_451_776


PUBLISHED = [  # preset, width of texts and of images, parameters
    ("vle/base", 768, 768, 115_785_216),
    ("vle/base", 384, 1280, 115_883_520),
    ("vle/large", 1024, 1024, 205_760_512),
    ("vle/small", 768, 384, 6_748_160),
    ("vle/small", 384, 1280, 6_879_232),
    ("vle/vqa", 768, 768, 115_785_216),
    ("vle/base itm", 768, 768, 3_074),
    ("vle/base answers", 768, 768, 7_173_177),
    ("oneencoder/vqa all", 768, 768, 14_481_990),
    ("oneencoder/vqa all", 384, 1280, 14_580_294),
    ("oneencoder/vqa-corrected all", 768, 768, 14_481_990),
]


@pytest.fixture(scope="module")
def checks():
    made = {}

    def of(name):
        if name not in made:
            made[name] = check_preset(name)
        return made[name]

    return of


@pytest.mark.parametrize(("row", "text", "image", "parameters"), PUBLISHED)
def test_a_preset_has_the_parameters_of_its_source(checks, row, text, image, parameters):
    rows = {
        (each.preset, each.text_width, each.image_width): each
        for each in checks(row.partition(" ")[0])
    }
    counted = rows[row, text, image]
    assert (counted.parameters, counted.expected, counted.right) == (parameters, parameters, True)


def test_sizes_of_vle_by_hand():
    assert vle(768, 6, 3072, 768, 768) == 115_785_216
    assert vle(768, 6, 3072, 384, 1280) == 115_883_520
    assert vle(1024, 6, 4096, 1024, 1024) == 205_760_512
    assert vle(256, 3, 1024, 768, 384) == 6_748_160
    assert vle(256, 3, 1024, 384, 1280) == 6_879_232


def test_sizes_of_oneencoder_by_hand():
    """Heads of two matrices and a norm, vectors, two layers around a norm, and the classifier."""
    d, wide, answers = 768, 2048, 582

    def head(width):
        return (width + 1) * d + (d + 1) * d + 2 * d

    encoder = 2 * (4 * (d * d + d) + (d * wide + wide) + (wide * d + d) + 2 * 2 * d) + 2 * d
    classifier = (2 * d + 1) * 512 + 513 * answers
    assert encoder == 11_029_504
    assert 2 * head(768) == 2_365_440
    assert head(768) + head(768) + 2 * d + encoder + classifier == 14_481_990
    assert head(384) + head(1280) + 2 * d + encoder + classifier == 14_580_294


def test_size_of_our_small_one_by_hand():
    """A bridge in the place of the images' projection, and further norms: one of keys in each
    layer, and one behind each stack."""
    d, wide, layers, queries, positions = 256, 1024, 3, 32, 256

    def bridge(width):
        decoder_layer = layer(d, wide)  # attention to itself and to tokens, two matrices
        return (width + 1) * d + (queries + positions) * d + 2 * decoder_layer + 2 * d

    rest = 2 * d + 2 * layers * (layer(d, wide) + 2 * d) + 2 * 2 * d + 2 * (d * d + d)
    ours = {
        (text, image): (text + 1) * d + bridge(image) + rest
        for text, image in ((768, 384), (384, 1280))
    }
    rows = check_preset("lightalign/joint-small")
    assert {(row.text_width, row.image_width): row.parameters for row in rows} == ours


@pytest.mark.parametrize("name", list_presets(JOINT))
def test_a_joint_preset_says_what_it_is_and_its_objectives_find_their_heads(name):
    preset = read_preset(name)
    assert kind_of(preset, where=name) == JOINT
    assert preset["title"]
    assert preset["source"]
    objectives = build_joint_objectives(preset["objective"])
    assert heads_read(preset) == list(objectives.heads)
    assert set(preset["objective"]) <= set(JOINT_OBJECTIVES.names())
    assert {entry["part"] for entry in preset["heads"].values()} <= set(HEADS.names())


def test_every_preset_is_of_one_kind():
    assert sorted([*list_presets(DUAL), *list_presets(JOINT)]) == list_presets()
    with pytest.raises(SpecError, match="mine: kind must be 'dual' or 'joint', found 'both'"):
        kind_of({"kind": "both"}, where="mine")


def test_vle_trains_as_its_configuration_says():
    """vqa_train_config.json: a rate of 1e-5, five times that in `cross_modal`, fifty in the head.

    Its projections and token types are in no module of that name.
    """
    preset = read_preset("vle/vqa")
    assert preset["rates"] == {"fuse": 5.0, "pool": 5.0, "heads": 50.0}
    train = preset["train"]
    assert (train["batch_size"], train["epochs"], train["learning_rate"]) == (16, 10, 1e-5)
    assert (train["weight_decay"], train["schedule"], train["warmup"]) == (0.01, "linear", 0.1)
    assert preset["task"]["normalise"] is False


@pytest.mark.parametrize("name", list_presets(JOINT))
def test_a_training_of_two_towers_names_the_command_for_a_joint_preset(name):
    with pytest.raises(SpecError, match=rf"lightalign train-joint --preset {name}$") as caught:
        resolve_preset(name, None, ())
    assert "\n" not in str(caught.value)


def test_a_training_of_two_towers_refuses_a_joint_preset_in_one_line(tmp_path):
    refused = lightalign("train-adapter", "--preset", "vle/base", home=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "lightalign train-joint --preset vle/base" in refused.stderr


def test_joint_presets_are_listed_shown_and_checked(tmp_path):
    listed = lightalign("list", "presets", "--json", home=tmp_path)
    assert {"vle/base", "lightalign/joint-small"} <= {
        row["name"] for row in json.loads(listed.stdout)["presets"]
    }
    shown = tomllib.loads(lightalign("presets", "show", "vle/large", home=tmp_path).stdout)
    assert shown["joint"]["fuse"]["heads"] == 16
    assert shown["joint"]["pool"] == {"part": "tanh-pool"}  # of what it extends
    checked = lightalign("presets", "check", "vle/small", "--json", home=tmp_path)
    assert checked.returncode == 0
    rows = json.loads(checked.stdout)["presets"]
    assert [(row["preset"], row["parameters"]) for row in rows] == [
        ("vle/small", 6_748_160),
        ("vle/small", 6_879_232),
    ]


@pytest.mark.parametrize("key", ["parameters", "total", "heads"])
def test_a_joint_preset_of_another_size_is_told(tmp_path, monkeypatch, key):
    preset = read_preset("oneencoder/vqa")
    stated = {"widths": {"image": 8, "text": 8}, key: {"answers": 1} if key == "heads" else 1}
    monkeypatch.setattr(check, "read_preset", lambda _: {**preset, "check": stated})
    assert lightalign("presets", "check", "oneencoder/vqa", home=tmp_path).returncode == 1
