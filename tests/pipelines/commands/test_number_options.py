"""Every option of a number has a range, and what is out of it is one line before any work."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from lightalign.featcache import atomic_files, documents
from lightalign.featcache.config import apply_overrides, build, to_toml
from lightalign.featcache.errors import SpecError
from lightalign.pipelines.commands.application import app
from lightalign.pipelines.common.byte_sizes import parse_bytes
from lightalign.pipelines.extraction.spec import ExtractSpec
from lightalign.pipelines.training.options import TrainOptions

from ...helpers import lightalign

REQUIRED = {"data": "shapes", "encoder": "toy-image", "to": "onnx", "output": "out"}


def commands_below(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Yield each command that does something, with the words that call it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield words, command
        return
    for name, inner in below.items():
        yield from commands_below(inner, (*words, name))


def number_options() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words of a command, and one of its options that takes a number."""
    for words, command in commands_below(typer.main.get_command(app)):
        for parameter in command.params:
            if parameter.callback is None and parameter.opts[0].startswith("--"):
                # an option of a number without a range would be one of these
                hint = annotation_of(parameter)
                assert not {int, float} & hint, f"{words} {parameter.opts[0]} has no range"
            if {int, float} & annotation_of(parameter):
                yield words, (parameter, command)


def annotation_of(parameter: Any) -> set[Any]:
    import typing

    descriptor = getattr(parameter, "type_descriptor", None)
    if descriptor is None:  # of versions of typer that have click beside them
        return {{"integer": int, "float": float}.get(parameter.type.name)}
    hint = descriptor.annotation
    return set(typing.get_args(hint) or (hint,))


OPTIONS = list(number_options())


def call(words: tuple[str, ...], parameter: Any, command: Any, text: str, home: Any) -> Any:
    given = [*words]
    for other in command.params:
        if not other.required or other is parameter:
            continue
        value = REQUIRED.get(other.name, "x")
        given += [other.opts[0], value] if other.opts[0].startswith("--") else [value]
    return lightalign(*given, f"{parameter.opts[0]}={text}", home=home)


def test_the_options_of_all_commands_are_walked_over():
    names = {(words[0], parameter.opts[0]) for words, (parameter, _) in OPTIONS}
    assert {("retrieve", "--k"), ("extract", "--workers"), ("similarity", "--threshold")} <= names
    assert len(names) >= 20


@pytest.mark.parametrize("text", [str(2**63), str(2**64), str(2**64 + 1), "-2", "9" * 400])
@pytest.mark.parametrize(
    "option", OPTIONS, ids=lambda option: "-".join((*option[0], option[1][0].opts[0]))
)
def test_a_number_out_of_range_is_one_line_that_names_its_option(option, text, tmp_path):
    words, (parameter, command) = option
    done = call(words, parameter, command, text, tmp_path / "home")
    assert done.returncode == 2
    assert parameter.opts[0] in done.stderr
    ranges = ("must be from", "must be above")
    assert len([line for line in done.stderr.splitlines() if any(x in line for x in ranges)]) == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400"])
@pytest.mark.parametrize(
    "option", OPTIONS, ids=lambda option: "-".join((*option[0], option[1][0].opts[0]))
)
def test_what_is_no_finite_number_is_refused_by_every_option(option, text, tmp_path):
    words, (parameter, command) = option
    done = call(words, parameter, command, text, tmp_path / "home")
    assert done.returncode == 2
    assert parameter.opts[0] in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", str(2**64), str(2**63)])
@pytest.mark.parametrize("name", ["learning_rate", "batch_size", "queue", "accumulate", "epochs"])
def test_no_option_of_a_training_is_beyond_what_fits(name, text):
    table = apply_overrides({}, [f"{name}={text}"])
    if (name, text) == ("learning_rate", str(2**63)):
        return  # large, but a number that a training can fail with by itself
    with pytest.raises(SpecError, match=name):
        build(TrainOptions, table, where="[train]")


@pytest.mark.parametrize("options", [{"on_error": "max=" + "9" * 5000}, {"workers": 1025}])
def test_a_number_within_a_text_has_a_bound_as_well(options, tmp_path):
    with pytest.raises(SpecError):
        ExtractSpec(encoders=("toy-image",), data="shapes", home=tmp_path, **options)


@pytest.mark.parametrize("text", ["9" * 400 + "GB", "99999999TB"])
def test_more_memory_than_any_machine_has_is_refused(text):
    with pytest.raises(SpecError, match="more than any machine has"):
        parse_bytes(text)


@pytest.mark.slow
def test_a_large_queue_is_planned_or_refused_in_one_line(tmp_path):
    """Its 2^31 - 1 embeddings of 4 kB have 8.8 TB, and are measured as they are."""
    done = lightalign("plan", "--set", "train.queue=2147483647", home=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "does not fit this machine" in line


@pytest.mark.parametrize("value", [2**64 + 1, -(2**64) - 1, [[2**65]]])
def test_no_document_is_written_that_would_not_be_read(value, tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(SpecError, match="could not be read again"):
        atomic_files.write_json(path, {"value": value})
    with pytest.raises(SpecError, match="could not be read again"):
        atomic_files.write_report(path, {"value": value})
    with pytest.raises(SpecError, match="could not be read again"):
        to_toml({"value": value})
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_read(tmp_path):
    table = {"most": 2**64, "least": -(2**64), "deep": [[{"a": (1, 2.5, None, True)}]]}
    atomic_files.write_json(tmp_path / "a.json", table)
    assert documents.read_json(tmp_path / "a.json") == json.loads(json.dumps(table))
