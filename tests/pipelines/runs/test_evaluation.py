"""Where reports of evaluations lie: each of its own, and none in the place of another."""

from pathlib import Path

import pytest

from lightalign.featcache.documents import read_json
from lightalign.featcache.store.catalog import StoreEntry
from lightalign.featcache.store.key import StoreDescription
from lightalign.pipelines.classification.probe_spec import ProbeOptions, ProbeSpec
from lightalign.pipelines.classification.sgd_options import SgdOptions
from lightalign.pipelines.evaluation.retrieve_spec import RetrieveSpec
from lightalign.pipelines.inputs.store_selection import DatasetQuery
from lightalign.pipelines.metrics.number import split_hash
from lightalign.pipelines.runs.evaluation import Evaluation

IDS = ("0", "1")


def measured(home, *, source="a" * 64, ids=IDS, **changes):
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
        "home": home,
        "data": DatasetQuery("pairs", None),
        "split": "val",
        "ids": ids,
        "stores": {"text": entry},
    }
    return Evaluation(**{**fields, **changes})


def names(home):
    return sorted(path.name for path in (home / "evaluations").iterdir())


def test_another_dataset_with_the_same_ids_lies_beside(tmp_path):
    for source in ("a" * 64, "b" * 64, "a" * 64, "b" * 64):
        path, report = measured(tmp_path, source=source).write()
        assert read_json(path)["source"] == report["source"] == source
    assert names(tmp_path) == ["similarity-pairs-val--bbbbbbbb.json", "similarity-pairs-val.json"]


def test_other_items_of_the_same_dataset_lie_beside(tmp_path):
    measured(tmp_path).write()
    for _ in range(2):
        path, _ = measured(tmp_path, ids=("2",)).write()
        assert path.name == f"similarity-pairs-val--{split_hash(['2'])[:8]}.json"


def test_variants_that_a_file_name_cannot_hold_lie_apart(tmp_path):
    variants = ("", "ä", "é", "ä-bare", "é-bare", "threshold-0.5", "threshold--0.5")
    names = [measured(tmp_path, variant=one).path().name for one in variants]
    assert len(set(names)) == len(variants)
    assert all(name.isascii() for name in names)


@pytest.mark.parametrize(
    ("variant", "name"), [("IVF1,Flat", "-IVF1-Flat"), ("my_prompts", "-my_prompts"), ("", "")]
)
def test_a_variant_of_plain_letters_is_the_end_of_the_name(tmp_path, variant, name):
    path = measured(tmp_path, variant=variant).path()
    assert path.name == f"similarity-pairs-val{name}.json"


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_file_that_is_no_report_makes_room(tmp_path, content):
    path, _ = measured(tmp_path).write()
    path.write_text(content)
    assert measured(tmp_path).write()[0] == path
    assert read_json(path)["kind"] == "similarity"


@pytest.mark.parametrize(
    ("changes", "variant"),
    [
        ({}, ""),
        ({"k": 5, "bank": 1, "memory": "1GB"}, ""),  # what an exact search by cosine never reads
        ({"scoring": "qb-norm"}, "qb-norm-static-15"),
        ({"scoring": "qb-norm", "bank": 1}, "qb-norm-static-15-bank-1"),
        ({"scoring": "qb-norm", "qb_rule": "dynamic"}, "qb-norm-dynamic-15"),
        ({"scoring": "qb-norm", "qb_rule": "dynamic", "qb_sharpness": 20.0}, "qb-norm"),
        ({"folds": 5}, "folds-5"),
        ({"same_text": "drop", "scoring": "dual-softmax"}, "dual-softmax-same-text-drop"),
        ({"index": "hnsw", "k": 50, "memory": "1GB"}, "hnsw-k-50"),
        ({"index": "auto", "memory": "1GB"}, "auto-memory-1GB"),
    ],
)
def test_a_retrieval_is_named_after_what_changes_its_numbers(tmp_path, changes, variant):
    assert RetrieveSpec(home=tmp_path, **changes).variant == variant


@pytest.mark.parametrize(
    ("changes", "variant"),
    [
        ({}, ""),
        ({"seeds": 3}, ""),  # nothing is drawn of all images
        ({"shots": (1, 2, 4, 8, 16)}, ""),
        ({"shots": (1, 2), "seeds": 3, "seed": 7}, "shots-1,2-seeds-3-seed-7"),
        ({"options": ProbeOptions(validation=0.2, neighbours=(1, 3))}, "validation-0.2"),
        ({"protocol": "knn", "options": ProbeOptions(neighbours=(1, 3))}, "neighbours-1,3"),
        ({"protocol": "sgd", "options": ProbeOptions(sgd=SgdOptions(epochs=40))}, "epochs-40"),
    ],
)
def test_a_probe_is_named_after_what_changes_its_numbers(tmp_path, changes, variant):
    assert ProbeSpec(home=tmp_path, data="trees", **changes).variant == variant


def test_a_long_list_is_in_a_name_by_its_hash(tmp_path):
    options = [ProbeOptions(regularisations=tuple(map(float, range(1, last)))) for last in (30, 31)]
    one, other = (ProbeSpec(home=tmp_path, data="trees", options=some).variant for some in options)
    assert len(one) == len("regularisations-") + 8 == len(other)
    assert one != other


@pytest.mark.parametrize(("named", "split"), [(None, "val"), ("train", "train"), ("", "")])
def test_a_split_that_is_named_is_the_one_of_the_query(tmp_path, named, split):
    assert measured(tmp_path).query({}, named).split == split
