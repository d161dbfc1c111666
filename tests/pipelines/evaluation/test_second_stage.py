import json
import re
import shutil

import numpy as np
import pytest

import lightalign
from lightalign.featcache.errors import LeakageError, SpecError, StoreNotFoundError
from lightalign.pipelines.evaluation import retrieve, second_stage
from lightalign.pipelines.evaluation.retrieve_spec import RetrieveSpec
from lightalign.pipelines.metrics.number import numbers_of, shown
from lightalign.pipelines.ranking.two_stage import ITM, SUM
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign as command


def reranked(home, **changes):
    fields = {"run": "dual", "rerank": "joint", "k": 10, "device": "cpu", **changes}
    return retrieve.run(RetrieveSpec(home=home, **fields))


def one_line(done):
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_all_three_orders_are_reported_and_the_cosine_is_as_without_a_second_stage(matching):
    alone = retrieve.run(RetrieveSpec(home=matching, run="dual", k=10, device="cpu"))
    both = reranked(matching)
    metrics = both.report["metrics"]
    for name in ("text_to_image", "image_to_text", "recall_sum"):
        before = {**alone.report["metrics"][name], "seconds": 0}
        assert {**metrics[name], "seconds": 0} == before
    for order in (ITM, SUM):
        for name in ("text_to_image", "image_to_text"):
            table = metrics[order][name]
            assert table["ceiling"]["value"] == alone.report["metrics"][name]["curve"]["recall"][-1]
            assert set(table["seconds_per_query"]) == {"first_stage", "reading"}
            assert all("interval" in recall for recall in table["recall"].values())
    assert both.report["rerank"]["run"] == "joint"
    assert both.report["rerank"]["scale"] == 20.0
    for of_kind in (metrics["matching"]["random"], metrics["matching"]["hard"]):
        assert "interval" in of_kind["balanced_accuracy"]
    assert {ITM, SUM, "ceiling", "recall_sum_difference", "matching"} <= set(
        both.report["definitions"]
    )
    assert {curve["title"] for curve in both.report["curves"]} >= {"R@k by itm"}


def test_reports_of_other_options_lie_beside_one_another(matching):
    paths = {
        reranked(matching, **changes).path
        for changes in ({}, {"k": 12}, {"rerank_scale": 3.0}, {"same_text": "positive"})
    }
    paths.add(retrieve.run(RetrieveSpec(home=matching, run="dual", device="cpu")).path)
    assert len(paths) == 5
    assert all(path.is_file() for path in paths)


def test_a_pair_has_the_same_score_at_any_k(matching, monkeypatch):
    scores = {}
    score = second_stage.StoredReranker.score

    def remembered(judge, queries, gallery):
        judged = score(judge, queries, gallery)
        keys = zip(judge.queries[queries].tolist(), judge.gallery[gallery].tolist(), strict=True)
        of_k.update(
            {(judge.asks_first, *key): value for key, value in zip(keys, judged, strict=True)}
        )
        return judged

    monkeypatch.setattr(second_stage.StoredReranker, "score", remembered)
    for k in (10, 40):
        of_k = scores.setdefault(k, {})
        reranked(matching, k=k)
    assert scores[10].keys() < scores[40].keys()
    assert np.ptp(list(scores[10].values())) > 0.1
    for key, value in scores[10].items():
        assert scores[40][key] == pytest.approx(value, abs=2e-6)


def test_python_measures_the_same(matching):
    report = lightalign.load("dual", home=matching, device="cpu").retrieve(rerank="joint", k=10)
    told = json.loads(
        command(
            "retrieve", "dual", "--rerank", "joint", "--k", "10", "--json", "-q", home=matching
        ).stdout
    )
    for order in (ITM, SUM):
        assert report["metrics"][order]["recall_sum"] == told["metrics"][order]["recall_sum"]


def test_the_terminal_has_the_three_orders_side_by_side(matching):
    done = command("retrieve", "dual", "--rerank", "joint", "--k", "10", home=matching)
    assert done.returncode == 0, done.stderr
    assert "text to image, the first 10 read again by joint" in done.stdout
    assert re.search(r"cosine +itm +itm and cosine", done.stdout)
    for _, number in numbers_of(reranked(matching).report["metrics"]):
        assert shown(number) in done.stdout
    for line in ("ceiling, %", "RSUM less that of the cosine, %", "logit difference + 20 x cosine"):
        assert line in done.stdout


def test_a_page_shows_the_rows(matching):
    reranked(matching)
    done = command("report", "dual", home=matching)
    assert done.returncode == 0, done.stderr
    page = (matching / "runs" / "dual" / "report.html").read_text()
    for row in ("itm recall sum difference", "itm and cosine text to image ceiling"):
        assert row in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dual", "--rerank", "dual"], "run dual embeds each side alone"),
        (["dual", "--rerank", "nope"], "no run 'nope'"),
        (["dual", "--rerank", "joint", "--k", "9"], "must be at least 10, found 9"),
        (["dual", "--rerank", "joint", "--folds", "2"], "leave out --scoring, --index and --folds"),
        (["dual", "--rerank", "joint", "--scoring", "dual-softmax"], "leave out --scoring"),
        (["dual", "--rerank", "joint", "--index", "IVF1,Flat"], "leave out --scoring"),
        (["dual", "--rerank-scale", "2"], "name a joint run by it"),
        (["dual", "--rerank", "joint", "--rerank-scale", "0"], "must be above 0"),
        (["dual", "--rerank", "joint", "--split", "train"], "were trained on"),
        (["joint"], "reads an image and a text together and embeds neither alone"),
    ],
)
def test_bad_input_is_one_line(matching_home, words, message):
    done = command("retrieve", *words, "-q", "--device", "cpu", home=matching_home)
    assert message in one_line(done)


def test_the_training_of_the_joint_run_is_looked_at_too(matching):
    """Its split `val` chose its epoch; of a dual run without a validation nothing is said."""
    train.run(
        TrainSpec(
            home=matching,
            preset="linear",
            data="shapes",
            image_features=("mean",),
            text_features=("mean",),
            overrides=("train.epochs=1", "train.batch_size=8", "train.validation=none"),
            device="cpu",
            name="unchosen",
        )
    )
    with pytest.raises(LeakageError, match=r"^run joint: split 'val' of shapes chose the epoch"):
        reranked(matching, run="unchosen", split="val")
    report = reranked(matching, run="unchosen", split="val", allow_leakage=True).report
    assert report["rerank"]["leakage"]["errors"]
    assert any(line.startswith("run joint: leakage") for line in report["warnings"])


def test_features_of_the_joint_run_that_are_missing_are_named_with_their_extraction(
    matching_home, tmp_path
):
    home = tmp_path / "h"
    shutil.copytree(matching_home, home)
    (store,) = (
        path
        for path in (home / "features" / "shapes" / "test").iterdir()
        if path.is_dir() and '"grid:2x2"' in (path / "manifest.json").read_text()
    )
    shutil.rmtree(store)
    with pytest.raises(StoreNotFoundError, match=r"extract .*--features grid:2x2"):
        reranked(home)


def test_a_first_stage_of_other_sides_is_refused(matching):
    train.run(
        TrainSpec(
            home=matching,
            preset="linear",
            data="shapes",
            text_encoder="toy-text",
            second_text_encoder="toy-text",
            text_features=("mean",),
            second_text_features=("mean",),
            overrides=("train.epochs=1", "train.batch_size=8"),
            device="cpu",
            name="texts",
        )
    )
    with pytest.raises(SpecError, match="and the run of the first stage aligns"):
        reranked(matching, run="texts")
