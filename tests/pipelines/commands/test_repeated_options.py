"""No option of one value takes the last of several without a word."""

import re

import pytest
import typer.main

from lightalign.featcache.errors import LightalignError, SpecError
from lightalign.pipelines.commands._strict import StrictCommand
from lightalign.pipelines.commands.application import app

from ...helpers import lightalign
from .test_number_options import commands_below

COMMANDS = dict(commands_below(typer.main.get_command(app)))


def test_every_command_refuses_them():
    assert {("extract",), ("data", "add"), ("cache", "rm"), ("presets", "show")} <= set(COMMANDS)
    assert all(isinstance(command, StrictCommand) for command in COMMANDS.values())


@pytest.mark.parametrize(
    "words",
    [
        ("extract", "--split", "train", "--split=test"),
        ("extract", "--precision", "auto", "--precision", "auto"),
        ("retrieve", "--k", "1", "--k", "5"),
        ("data", "add", "mine", "--kind=images", "--kind=mrpc"),
        ("plan", "--measure", "--no-measure"),
    ],
)
def test_one_value_is_not_taken_for_several(words, tmp_path):
    ended = lightalign(*words, home=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "is given 2 times and takes one value: give one" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("train-adapter", "--set", "train.epochs=1", "--set", "train.epochs = 2"), "--set"),
        (("search", "r", "q", "--weights", "toy-text=a", "--weights", "toy-text=b"), "--weights"),
    ],
)
def test_one_name_is_not_given_two_values(words, option, tmp_path):
    ended = lightalign(*words, home=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{option} gives " in ended.stderr
    assert "2 values: give one" in ended.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--set", "data=flickr8k"), "--data and --set data are both given: give --data only"),
        (("--set", 'encoders=["toy-text"]'), "--encoder and --set encoders are both given"),
        (("--set", "source.train=9", "--set", "source={train=8}"), "'source' and 'source.train'"),
    ],
)
def test_what_is_set_is_given_nowhere_else(words, told):
    beside = ["extract", "--encoder", "toy-image", "--data", "shapes", *words]
    with pytest.raises(SpecError, match=re.escape(told)):
        typer.main.get_command(app).main(beside, standalone_mode=False)


def test_the_plural_of_an_option_of_one_value_is_another_option(tmp_path):
    words = ["probe", "--seed", "1", "--set", "seeds=2", "--data", "none", "--home", str(tmp_path)]
    with pytest.raises(LightalignError) as caught:
        typer.main.get_command(app).main(words, standalone_mode=False)
    assert "both given" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ("list", "encoders", "--json", "--json"),
        ("data", "list", "-q", "--quiet"),
    ],
)
def test_a_flag_may_be_said_twice(words, tmp_path):
    assert lightalign(*words, home=tmp_path).returncode == 0


def test_where_many_make_sense_they_may_be_repeated(tmp_path):
    words = ("extract", "--encoder", "toy-image", "--data", "nothing-of-this-name")
    ended = lightalign(*words, "--layers", "-1", "--layers=-1", home=tmp_path)
    assert "layers must name at least one, each once; found [-1, -1]" in ended.stderr
    ended = lightalign(*words, "--layers=-1", "--layers", "x", home=tmp_path)
    assert "--layers '-1,x' is not of the form -1,-4" in ended.stderr
