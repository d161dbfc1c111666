"""Where reports of evaluations lie: each of its own, and none in the place of another."""

from pathlib import Path

import pytest

from lightalign.featcache import files
from lightalign.featcache.catalog import StoreEntry
from lightalign.featcache.description import StoreDescription
from lightalign.pipelines.evaluated import Found
from lightalign.pipelines.evaluation import split_hash

IDS = ("0", "1")


def found(*, source="a" * 64, ids=IDS, **changes):
    described = StoreDescription(
        dataset="pairs",
        split="val",
        source=source,
        encoder="toy",
        identity={},
        modality="text",
        width=4,
        tokens_per_item=1,
        num_items=2,
        rows_per_shard=2,
    )
    entry = StoreEntry(Path("store"), described, "key", complete=True, changed=0.0)
    fields = {
        "kind": "similarity",
        "dataset": "pairs",
        "split": "val",
        "ids": ids,
        "stores": {"text": entry},
        "options": {},
        "metrics": {},
        "definitions": {},
    }
    return Found(**{**fields, **changes})


def names(home):
    return sorted(path.name for path in (home / "evaluations").iterdir())


def test_another_dataset_with_the_same_ids_lies_beside(tmp_path):
    for source in ("a" * 64, "b" * 64, "a" * 64, "b" * 64):
        path, report = found(source=source).write(None, home=tmp_path)
        assert files.read_json(path)["source"] == report["source"] == source
    assert names(tmp_path) == ["similarity-pairs-val--bbbbbbbb.json", "similarity-pairs-val.json"]


def test_other_items_of_the_same_dataset_lie_beside(tmp_path):
    found().write(None, home=tmp_path)
    for _ in range(2):
        path, _ = found(ids=("2",)).write(None, home=tmp_path)
        assert path.name == f"similarity-pairs-val--{split_hash(['2'])[:8]}.json"


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_file_that_is_no_report_makes_room(tmp_path, content):
    path, _ = found().write(None, home=tmp_path)
    path.write_text(content)
    assert found().write(None, home=tmp_path)[0] == path
    assert files.read_json(path)["kind"] == "similarity"
