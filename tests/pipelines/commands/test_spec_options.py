"""Commands are built from their Specs, and list and check the keys of `--set`."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from lightalign.featcache.config import check_set_keys
from lightalign.featcache.errors import SpecError
from lightalign.featcache.settings import fields_of
from lightalign.pipelines.answering.ask_spec import AskSpec
from lightalign.pipelines.answering.vqa_spec import VqaSpec
from lightalign.pipelines.classification.fine_tune_spec import FineTuneOptions, FineTuneSpec
from lightalign.pipelines.classification.probe_spec import ProbeOptions, ProbeSpec
from lightalign.pipelines.classification.sgd_options import SgdOptions
from lightalign.pipelines.classification.zero_shot_spec import ZeroShotSpec
from lightalign.pipelines.commands.application import app
from lightalign.pipelines.evaluation.rank_encoders_spec import RankSpec
from lightalign.pipelines.evaluation.retrieve_spec import RetrieveSpec
from lightalign.pipelines.exporting.export_spec import ExportSpec
from lightalign.pipelines.extraction.spec import ExtractSpec
from lightalign.pipelines.joint.match_spec import MatchSpec
from lightalign.pipelines.planning.spec import PlanSpec
from lightalign.pipelines.reports.report_spec import ReportSpec
from lightalign.pipelines.search.build_index_spec import IndexSpec
from lightalign.pipelines.search.search_spec import SearchSpec
from lightalign.pipelines.similarity.similarity_spec import SimilaritySpec
from lightalign.pipelines.training.joint_spec import TrainJointSpec
from lightalign.pipelines.training.mixup import MixupOptions
from lightalign.pipelines.training.options import TrainOptions
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign
from .test_number_options import REQUIRED, commands_below

COMMANDS = {
    " ".join(words): command for words, command in commands_below(typer.main.get_command(app))
}
SPECS = {
    "extract": ExtractSpec,
    "train-adapter": TrainSpec,
    "train-joint": TrainJointSpec,
    "plan": PlanSpec,
    "retrieve": RetrieveSpec,
    "index": IndexSpec,
    "search": SearchSpec,
    "match": MatchSpec,
    "zero-shot": ZeroShotSpec,
    "probe": ProbeSpec,
    "fine-tune": FineTuneSpec,
    "similarity": SimilaritySpec,
    "vqa": VqaSpec,
    "ask": AskSpec,
    "rank-encoders": RankSpec,
    "report": ReportSpec,
    "export": ExportSpec,
}
SHARED = {"home", "device", "overrides", "no_verify", "as_json", "quiet", "help"}
BESIDE = {  # what a command has beside its Spec
    "extract": {"dry_run"},
    "train-adapter": {"dry_run", "resume", "same_text"},
    "train-joint": {"dry_run", "resume"},
    "plan": {"batch_size", "chunk_size"},
}
SETTING = [
    words for words, command in COMMANDS.items() if "overrides" in {p.name for p in command.params}
]
OPTIONS = [TrainOptions, MixupOptions, FineTuneOptions, ProbeOptions, SgdOptions]
NEEDED = {
    "home": Path("home"),
    "data": "shapes",
    "query": "a red circle",
    "run": "a-run",
    "image": Path("photo.png"),
    "question": "what is on the table?",
    "texts": ("a red circle",),
    "to": "onnx",
    "output": Path("out"),
    "encoders": ("toy-image",),
}


def help_of(words: str) -> str:
    text = CliRunner().invoke(app, [*words.split(), "--help"], env={"COLUMNS": "100"}).output
    return re.sub(r"\s+", " ", re.sub(r"-\n\s+", "-", text))


def made(spec_class: type, **changes: Any) -> Any:
    needed = {
        each.name: NEEDED[each.name]
        for each in fields_of(spec_class)
        if each.default is dataclasses.MISSING
    }
    return spec_class(**(needed | changes))


def test_every_verb_with_settings_has_a_spec():
    assert set(SPECS) | {"quickstart"} == {words for words in COMMANDS if " " not in words}


@pytest.mark.parametrize("words", SPECS)
def test_every_option_is_a_field_of_the_spec_or_a_shared_one(words):
    fields = {
        (each.setting.argument and each.setting.flag) or each.name: each.setting
        for each in fields_of(SPECS[words])
        if each.setting and not each.setting.table_only
    }
    names = {parameter.name for parameter in COMMANDS[words].params}
    assert names - SHARED == (set(fields) | BESIDE.get(words, set())) - SHARED
    for name, setting in fields.items():
        assert setting.help in help_of(words), name


@pytest.mark.parametrize("words", SETTING)
def test_the_help_lists_every_key_of_set_with_its_type_default_and_line(words):
    text = help_of(words)
    listed = [(key, each) for key, each in COMMANDS[words].callback.set_keys() if each.setting]
    assert listed
    for key, each in listed:
        assert key in text
        assert each.setting.help in text
        if isinstance(each.default, int | float) and not isinstance(each.default, bool):
            assert re.search(rf"{re.escape(key)} <(int|float)> .*\[default: {each.default}\]", text)


@pytest.mark.parametrize("words", SETTING)
def test_a_wrong_key_is_answered_by_the_right_one(words):
    keys = [key for key, _ in COMMANDS[words].callback.set_keys()]
    for key in keys:
        if any(part.isupper() for part in key.split(".")) or key == "objective.part":
            continue  # beside it any name may stand
        check_set_keys([f"{key}=1"], keys)
        with pytest.raises(SpecError, match=rf"--set \S+: unknown key .* did you mean .*\b{key}\b"):
            check_set_keys([f"{key}x=1"], keys)


@pytest.mark.parametrize("words", SETTING)
def test_a_key_below_a_wrong_table_is_answered_by_each_right_one_once(words):
    keys = [key for key, _ in COMMANDS[words].callback.set_keys()]
    for key in keys:
        with pytest.raises(SpecError) as caught:
            check_set_keys([f"qqqq.{key.rpartition('.')[2]}=1"], keys)
        suggested = str(caught.value).partition("did you mean ")[2].rstrip("?").split(" or ")
        assert len(suggested) == len(set(suggested)), caught.value


@pytest.mark.parametrize("override", ["", "=", "=b", "a", "a..b=1", ".a=1", " =1"])
@pytest.mark.parametrize("words", SETTING)
def test_what_is_no_key_with_a_value_is_told_its_form(words, override):
    keys = [key for key, _ in COMMANDS[words].callback.set_keys()]
    with pytest.raises(SpecError, match=re.escape(f"--set {override!r} is not of the form a.b=")):
        check_set_keys([override], keys)


@pytest.mark.parametrize("words", SETTING)
def test_nothing_is_suggested_below_a_key_of_one_value(words):
    keys = [key for key, _ in COMMANDS[words].callback.set_keys()]
    for key in keys:
        if any(part.isupper() for part in key.split(".")) or key == "objective.part":
            continue  # beside it any name may stand
        name = key.rpartition(".")[2]
        with pytest.raises(SpecError, match=rf"--set \S+: '{name}' is one value, not a table"):
            check_set_keys([f"{key}.x=1"], keys)
        with pytest.raises(SpecError) as error:
            check_set_keys([f"{key}q.x=1"], keys)
        assert f"{key}.x" not in str(error.value)


@pytest.mark.parametrize("words", SETTING)
def test_a_wrong_key_is_one_line_before_any_work(words, tmp_path):
    command = COMMANDS[words]
    key = command.callback.set_keys()[0][0]
    given = words.split()
    for option in command.params:
        if option.required:
            value = REQUIRED.get(option.name, REQUIRED.get(option.opts[0].strip("-"), "x"))
            given += [option.opts[0], value] if option.opts[0].startswith("--") else [value]
    done = lightalign(*given, "--set", f"{key}x=1", home=tmp_path / "home")
    assert done.returncode == 2
    assert f"did you mean {key}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "home").exists()


def test_a_step_that_a_preset_has_not_is_answered_by_one_that_it_has(tmp_path):
    done = lightalign("plan", "--set", "towers.image.projct.out=8", home=tmp_path)
    assert done.returncode == 2
    assert "unknown key 'projct'; did you mean towers.image.project.out?" in done.stderr


@pytest.mark.parametrize("spec_class", [*SPECS.values(), *OPTIONS], ids=lambda each: each.__name__)
def test_python_refuses_numbers_that_are_out_of_range_and_other_types(spec_class):
    for each in fields_of(spec_class):
        if each.setting is None:
            continue
        spec = made(spec_class)
        object.__setattr__(spec, each.name, object())  # as without the type checks of the tests
        with pytest.raises(SpecError, match=f"{each.name} must be"):
            spec.__post_init__()
        number = isinstance(each.default, int | float) and not isinstance(each.default, bool)
        if number and each.setting.range:
            too_small = min(each.setting.least or 0, each.setting.above or 0) - 10
            with pytest.raises(SpecError, match=f"{each.name} must be"):
                made(spec_class, **{each.name: type(each.default)(too_small)})
