"""Documents of runs and evaluations that are damaged: one line each, and never a traceback."""

import errno
import json
import shutil
from pathlib import Path

import pytest

from lightalign.featcache import atomic_files
from lightalign.featcache.documents import parse_json, read_toml
from lightalign.featcache.errors import SpecError, StoreCorruptError
from lightalign.featcache.settings import fields_of
from lightalign.featcache.store.catalog import list_stores, read_catalog
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.runs.schemas import RunSpec, check_evaluation
from lightalign.pipelines.training.options import TrainOptions
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign
from ..made_runs import made_run

WHERE = Path("some.json")
EVALUATION = {
    "schema": 1,
    "kind": "mine",
    "dataset": "shapes",
    "split": "test",
    "metrics": {"a": {"R@1": {"value": 50.0, "num": 2, "interval": [0.0, 100.0]}}},
    "curves": [
        {"title": "t", "x_label": "x", "y_label": "y", "lines": {"l": {"x": [1], "y": [2.0]}}}
    ],
    "failures": [{"query": ["a", "b"], "texts": ["one", None], "first": [{"id": "c"}]}],
}


def changed(path: str, value: object) -> dict:
    """Return the evaluation with another value at a dotted path."""
    table = json.loads(json.dumps(EVALUATION))
    *parents, last = path.split(".")
    place = table
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    place[int(last) if isinstance(place, list) else last] = value
    return table


def test_a_run_has_no_key_that_its_schema_does_not_name(home):
    written = read_toml(made_run(home, "whole") / run_folder.SPEC)
    assert set(written) <= set(RunSpec.__annotations__)
    assert set(written["command"]) <= {each.name for each in fields_of(TrainSpec)}
    assert set(written["train"]) == {each.name for each in fields_of(TrainOptions)}


def test_a_whole_evaluation_passes_as_it_is():
    assert check_evaluation(EVALUATION, where=WHERE) is EVALUATION


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("dataset", "../elsewhere"),
        ("split", 3),
        ("metrics", []),
        ("metrics.a.R@1.value", "50"),
        ("metrics.a.R@1.num", -1),
        ("metrics.a.R@1.interval", [1.0]),
        ("metrics.a.chosen_c", {"deep": [[]]}),
        ("curves.0.lines.l.y", [1.0, 2.0]),
        ("curves.0.lines.l.x", ["1"]),
        ("curves.0.title", None),
        ("failures.0.query", 7),
        ("failures.0.texts", ["one"]),
        ("failures.0.first", [["c"]]),
        ("failures", {}),
    ],
)
def test_an_evaluation_of_other_types_is_refused(path, value):
    table = changed(path, value)
    if path.endswith("chosen_c"):  # a table of tables, which holds no number
        check_evaluation(table, where=WHERE)
    else:
        with pytest.raises(StoreCorruptError, match=r"some\.json"):
            check_evaluation(table, where=WHERE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "deeply nested"),
        ("[" * 65 + "]" * 65, "deeply nested"),
        ('{"a": 1, "a": 2}', "field 'a' is there twice"),
        ("1" * 30, "more than 64 bits"),
        ("1" * 5000, "not valid JSON"),
        ("\ufeff{}", "not valid JSON"),
        ('{"a": ', "not valid JSON"),
    ],
)
def test_json_that_code_could_stumble_over_is_refused(text, reason):
    with pytest.raises(StoreCorruptError, match=reason):
        parse_json(text, where="some.json")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = " + "[" * 3000, "deeply nested"),
        (".".join("a" * 100) + " = 1", "deeply nested"),
        (".".join("a" * 100_000) + " = 1", "deeply nested"),  # the parser would take minutes
        ("a = 1979-05-27", "holds a date"),
        ("a = " + "1" * 5000, "not valid TOML"),
    ],
)
def test_toml_that_code_could_stumble_over_is_refused(tmp_path, text, reason):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(SpecError, match=reason):
        read_toml(tmp_path / "run.toml")


def test_a_log_says_which_line_is_damaged(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"epoch": 1}\n{"epoch"\n{"half')
    with pytest.raises(StoreCorruptError, match=r"line 2 of .*log.jsonl"):
        atomic_files.read_json_lines(tmp_path / "log.jsonl")


@pytest.fixture
def copied(toy_home, tmp_path):
    """Return a home of its own with the toy stores."""
    shutil.copytree(toy_home / "features", tmp_path / "h" / "features")
    return tmp_path / "h"


def damage(home: Path) -> str:
    """Make the manifest of one store and its copy lists, and return the name of the store."""
    entry = list_stores(home)[0]
    for name in ("manifest.json", "manifest.copy.json"):
        (entry.folder / name).write_text("[]")
    return str(entry.folder.relative_to(home / "features"))


def test_a_damaged_store_is_named_and_the_others_are_listed(copied):
    num_stores = len(list_stores(copied))
    name = damage(copied)
    listed = lightalign("cache", "ls", "--json", home=copied)
    rows = {row["store"]: row for row in json.loads(listed.stdout)["stores"]}
    assert listed.returncode == 0
    assert len(rows) == num_stores
    assert rows[name]["state"] == "unreadable"
    assert "manifest.json" in rows[name]["problem"]
    assert lightalign("cache", "verify", home=copied).returncode == 1
    asked = lightalign("cache", "info", name, home=copied)
    assert asked.returncode == 2
    assert len(asked.stderr.splitlines()) == 1


def test_a_verb_that_passes_over_a_damaged_store_says_so(copied):
    name = damage(copied)
    split = name.split("/")[1]
    found = lightalign("rank-encoders", "--data", "shapes", "--split", split, home=copied)
    assert "a store is passed over" in found.stderr
    assert name in found.stderr.replace("\n", "")


def test_folders_that_may_not_be_read_are_damage(copied, monkeypatch):
    folder = copied / "features" / "shapes"
    iterdir = Path.iterdir

    def denied(self: Path):
        if self == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", denied)
    assert [one.folder for one in read_catalog(copied).unread] == [folder]
    verified = lightalign("cache", "verify", home=copied)
    assert verified.returncode == 1
    lines = verified.stdout.replace("\n", "")
    assert lines.count(f"{folder} cannot be read: Permission denied") == 1
    assert lightalign("cache", "repair", home=copied).returncode == 1


def test_a_folder_of_runs_that_may_not_be_read_is_damage(copied, monkeypatch):
    folder = copied / "runs"
    folder.mkdir()
    iterdir = Path.iterdir

    def denied(self: Path):
        if self == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", denied)
    verified = lightalign("cache", "verify", home=copied)
    assert verified.returncode == 1
    assert f"{folder}: cannot be read: Permission denied" in verified.stdout.replace("\n", "")


@pytest.mark.parametrize("name", ["run.toml", "report.json", "retrieval-shapes-test.json"])
def test_a_run_that_cannot_be_read_keeps_the_stores_that_it_may_need(copied, name):
    entry = list_stores(copied)[0]
    run = copied / "runs" / "r"
    run.mkdir(parents=True)
    (run / name).write_bytes(b"\xff\x00[")
    refused = lightalign("cache", "rm", entry.key, home=copied)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert entry.folder.is_dir()
    assert lightalign("cache", "rm", entry.key, "--force", home=copied).returncode == 0
    assert not entry.folder.exists()


def test_a_damaged_newest_run_is_named_and_no_older_one_taken_for_it(copied):
    run = copied / "runs" / "r"
    run.mkdir(parents=True)
    (run / "report.json").write_text("[]")
    found = lightalign("retrieve", home=copied)
    assert found.returncode == 2
    assert "lightalign runs rm r" in found.stderr
    assert lightalign("runs", "list", home=copied).returncode == 0
