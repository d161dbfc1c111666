"""Reports of all evaluations as people see them: no number of a report is lost in its tables."""

import numpy as np
import pytest
from PIL import Image

from lightalign.pipelines.classification import fine_tune, probe, zero_shot
from lightalign.pipelines.classification.fine_tune_spec import FineTuneOptions, FineTuneSpec
from lightalign.pipelines.classification.probe_spec import ProbeOptions, ProbeSpec
from lightalign.pipelines.classification.zero_shot_spec import ZeroShotSpec
from lightalign.pipelines.evaluation import rank_encoders, retrieve
from lightalign.pipelines.evaluation.rank_encoders_spec import RankSpec
from lightalign.pipelines.evaluation.retrieve_spec import RetrieveSpec
from lightalign.pipelines.metrics.number import numbers_of, shown, shown_chance
from lightalign.pipelines.rendering.evaluations import (
    accuracy_parts,
    ranking_parts,
    retrieval_parts,
    similarity_parts,
    zero_shot_parts,
)
from lightalign.pipelines.rendering.numbers import number_table
from lightalign.pipelines.similarity import similarity
from lightalign.pipelines.similarity.similarity_spec import SimilaritySpec
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...featcache.sources.graded_helpers import glue_qqp
from ..conftest import MANY_SCENES, extract_graded, extract_toy

COLOURS = {"red": (220, 30, 20), "green": (20, 200, 40), "blue": (30, 40, 230)}
FOLDER = {"data": "image-folder"}
PROBE = {**FOLDER, "options": ProbeOptions(regularisations=(1.0,), neighbours=(1,))}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a home with a run, and with stores of captions, graded pairs and classes."""
    home = tmp_path_factory.mktemp("evaluated-home")
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, source=MANY_SCENES)
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for name, colour in COLOURS.items():
            folder = home / "datasets" / "image-folder" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = (np.array(colour) + random.integers(-20, 20, (32, 32, 3))).clip(0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    extract_toy(home, "toy-image", source={}, **FOLDER)
    extract_graded(home)
    (home / "datasets" / "qqp").mkdir()
    glue_qqp(home / "datasets" / "qqp")
    extract_toy(home, "toy-text", data="qqp", source={})
    overrides = ("train.epochs=1", "train.batch_size=32", "train.validation=none")
    train.run(
        TrainSpec(
            home=home, preset="linear", data="shapes", name="run", device="cpu", overrides=overrides
        )
    )
    return home


def retrieved(home, **changes):
    spec = RetrieveSpec(home=home, run="run", device="cpu", **changes)
    report = retrieve.run(spec).report
    return report, retrieval_parts(report)


def classified(home):
    spec = ZeroShotSpec(home=home, run="run", device="cpu", prompts=("single",), **FOLDER)
    done = zero_shot.run(spec)
    return done.report, zero_shot_parts(done)


def probed(home, **changes):
    report = probe.run(ProbeSpec(home=home, run="run", device="cpu", **PROBE, **changes)).report
    return report, accuracy_parts(report)


def fine_tuned(home):
    options = FineTuneOptions(epochs=1, batch_size=8)
    spec = FineTuneSpec(home=home, run="run", device="cpu", name="tuned", options=options, **FOLDER)
    report = fine_tune.run(spec).report
    return report, accuracy_parts(report)


def compared(home, data):
    spec = SimilaritySpec(home=home, data=data, encoders=("toy-text",), device="cpu")
    report = similarity.run(spec).report
    return report, similarity_parts(report)


def ranked(home):
    report = rank_encoders.run(RankSpec(home=home, data="shapes")).report
    return report, ranking_parts(report)


VERBS = {
    "retrieve": retrieved,
    "retrieve --folds --scoring": lambda home: retrieved(home, folds=2, scoring="dual-softmax"),
    "retrieve --index": lambda home: retrieved(home, index="IVF1,Flat"),
    "zero-shot": classified,
    "probe": probed,
    "probe --shots": lambda home: probed(home, shots=(1, 2), seeds=2),
    "probe --protocol knn": lambda home: probed(home, protocol="knn"),
    "fine-tune": fine_tuned,
    "similarity of grades": lambda home: compared(home, "stsb"),
    "similarity of labels": lambda home: compared(home, "qqp"),
    "rank-encoders": ranked,
}


def grid(table):
    """Return the columns of a table, each with its heading first."""
    return [[str(cell) for cell in (column.header, *column.cells)] for column in table.columns]


@pytest.mark.parametrize("verb", VERBS)
def test_each_number_of_a_report_stands_in_its_tables_with_interval_and_chance(home, verb):
    """A speed is shown in whole queries a second, all else with a digit after the point."""
    report, parts = VERBS[verb](home)
    lines = [part for part in parts if isinstance(part, str)]
    tables = [grid(part) for part in parts if not isinstance(part, str)]
    cells = {cell.partition(", n =")[0] for table in tables for column in table for cell in column}
    numbers = list(numbers_of(report["metrics"]))
    assert len(numbers) >= 3
    for path, number in numbers:
        if "index" in path:
            value = number["value"]
            texts = {f"{value:,.0f}", f"{value:.1f}", shown(number)}
            assert any(text in line for text in texts for line in lines), path
        else:
            chance = f" ({shown_chance(number['chance'])})" if "chance" in number else ""
            assert f"{shown(number)}{chance}" in cells, path


def number(value, num=8, **more):
    return {"value": value, "num": num, "unit": "%", **more}


def test_a_number_of_another_count_or_unit_says_so_and_one_that_is_not_there_is_a_dash():
    subjects = {
        "a": {"recall": {"1": number(50.0, interval=[1.0, 99.0], chance=12.5)}},
        "b": {
            "recall": {"1": number(25.0, 4)},
            "mean_rank": {**number(3.0, 2), "unit": ""},
            "fixed": {"threshold": 0.91234},
        },
    }
    assert grid(number_table("x", subjects)) == [
        ["", "R@1, %", "mean rank", "fixed threshold"],
        ["a\nn = 8", "50.0 [1.0, 99.0] (12.5)", "-", "-"],
        ["b\nn = 4", "25.0", "3.0, n = 2", "0.9123"],
    ]


def test_subjects_that_are_rows_have_the_names_of_their_numbers_above():
    subjects = {"a": {"top_1": number(50.0)}, "b": {"top_1": number(25.0, 4), "note": "seldom"}}
    table = number_table("x", subjects, corner="class", subjects_down=True)
    assert grid(table) == [
        ["class", "a", "b"],
        ["top-1, %\nn = 8", "50.0", "25.0, n = 4"],
        ["note", "-", "seldom"],
    ]
