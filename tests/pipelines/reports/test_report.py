"""The page about runs: what it shows of which, and that it needs nothing but itself."""

import json
import re
from html.parser import HTMLParser

import pytest

from lightalign.featcache import atomic_files
from lightalign.featcache.errors import RunNotFoundError, SpecError, StoreCorruptError
from lightalign.pipelines.reports import report
from lightalign.pipelines.reports.comparison import compare, read_runs
from lightalign.pipelines.runs import run_folder

VOID = {"meta", "link", "img", "br", "rect", "line", "circle", "polyline"}


def number(value, **more):
    return {"value": value, "num": 1000, "unit": "%", **more}


def evaluation(**changes):
    return {
        "schema": 1,
        "kind": "retrieval",
        "dataset": "shapes",
        "split": "test",
        "split_hash": "ab" * 32,
        "variant": "",
        "source": "cd" * 32,
        "options": {"k": 10},
        "stores": {"image": "1" * 64},
        "metrics": {
            "text_to_image": {"recall": {"1": number(41.25, interval=[39.0, 43.5], chance=0.1)}}
        },
        "definitions": {"recall": "percent of queries <with> a right answer"},
        "curves": [
            {
                "title": "Recall at k",
                "x_label": "k",
                "y_label": "%",
                "lines": {"text to image": {"x": [1, 2], "y": [41.25, 50.0]}},
            }
        ],
        "failures": [
            {
                "direction": "text_to_image",
                "query": "caption-1",
                "rank": 31,
                "first": [{"id": "scene-2", "score": 0.5}],
                "right": [{"id": "scene-1", "score": 0.1}],
            }
        ],
        "warnings": ["<script>alert(1)</script> was seen"],
        "seconds": 1.0,
        "versions": {"numpy": "2"},
        **changes,
    }


def make_run(home, name, *evaluations, epochs=2):
    with run_folder.new_run(home, name, "", spec={}) as folder:
        pass
    atomic_files.write_json(
        folder / run_folder.REPORT, {"spec": {}, "num_parameters": 12345, "seconds": 60.0}
    )
    lines = [
        {"epoch": epoch, "loss": 1 / epoch, "validation": {"recall_sum": 100.0 * epoch}}
        for epoch in range(1, epochs + 1)
    ]
    (folder / run_folder.LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for position, one in enumerate(evaluations):
        atomic_files.write_json(folder / f"{one['kind']}-{position}.json", one)
    return folder


class Outline(HTMLParser):
    """Check that tags are closed in order, and collect what could be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.addresses, self.text = [], set(), [], []

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def outline(path):
    parser = Outline()
    parser.feed(path.read_text())
    return parser


def written(home, *names, **changes):
    return report.run(report.ReportSpec(home=home, runs=names, **changes))


def test_the_page_is_whole_and_fetches_nothing(tmp_path):
    make_run(tmp_path, "one", evaluation())
    found = outline(written(tmp_path, "one").path)
    assert found.open == []
    assert all(address.startswith("data:") for address in found.addresses)
    assert "table" in found.seen
    assert not {"script", "iframe", "object"} & found.seen


def test_numbers_stand_with_interval_chance_and_count(tmp_path):
    make_run(tmp_path, "one", evaluation())
    text = re.sub(r"\s+", " ", " ".join(outline(written(tmp_path, "one").path).text))
    assert "text to image recall 1, % 41.2 [39.0, 43.5] 0.100 1,000" in text


def test_a_threshold_and_what_was_chosen_stand_among_the_numbers(tmp_path):
    for name, threshold in (("one", 0.9), ("two", 0.75625)):
        fitted = {"threshold": threshold, "accuracy": number(41.25)}
        metrics = {"text": {"fitted": fitted, "chosen_C": 1e-05, "num_pairs": 1234}}
        make_run(tmp_path, name, evaluation(kind="similarity", metrics=metrics))
    text = re.sub(r"\s+", " ", " ".join(outline(written(tmp_path, "one", "two").path).text))
    assert "text fitted threshold 0.9 0.7562" in text
    assert "text chosen C 1e-05 1e-05" in text
    assert "num pairs" not in text


def test_the_page_leaves_it_to_the_definitions_what_an_interval_is(tmp_path):
    make_run(tmp_path, "one", evaluation())
    page = written(tmp_path, "one").path.read_text()
    assert "95 % intervals, see the definitions" in page
    assert "bootstrap" not in page


def test_ranks_are_counted_and_not_spelt(tmp_path):
    recall = {str(k): number(1.0) for k in (10, 5, 1)}
    make_run(tmp_path, "one", evaluation(metrics={"text_to_image": {"recall": recall}}))
    (one,) = compare(read_runs(tmp_path, ["one"]))
    assert [row["name"].split()[-1] for row in one.rows] == ["1", "5", "10"]


def test_numbers_of_all_stand_before_those_of_each_class(tmp_path):
    classes = {f"class-{place:02d}": {"top_1": number(1.0)} for place in range(50)}
    metrics = {"ensemble": {"classes": classes, "top_1": number(39.25)}}
    make_run(tmp_path, "one", evaluation(kind="zero-shot", metrics=metrics))
    (one,) = compare(read_runs(tmp_path, ["one"]))
    assert one.rows[0]["name"] == "ensemble top 1"
    page = written(tmp_path, "one").path.read_text()
    assert page.index("ensemble top 1") < page.index("11 more numbers")


def test_a_confusion_is_drawn_and_named_after_its_run(tmp_path):
    labels = {"x_label": "taken for", "y_label": "is"}
    matrix = {"title": "Confusion", **labels, "names": ["cat", "dog"], "matrix": [[3, 1], [0, 4]]}
    for name in ("one", "two"):
        make_run(tmp_path, name, evaluation(kind="zero-shot", curves=[matrix]))
    (both,) = compare(read_runs(tmp_path, ["one", "two"]))
    assert [curve["title"] for curve in both.curves] == ["one: Confusion", "two: Confusion"]
    found = outline(written(tmp_path, "one", "two").path)
    assert found.open == []
    texts = [text.strip() for text in found.text]
    assert {"cat", "dog"} <= set(texts)
    assert texts.count("two: Confusion") == 1


def test_one_chance_level_stands_for_all_runs_of_the_same_queries(tmp_path):
    for number, name in enumerate(("one", "two")):
        lines = {"chance": {"x": [1], "y": [0.1]}, "recall": {"x": [1], "y": [float(number)]}}
        curve = {"title": "R@k", "x_label": "k", "y_label": "%", "lines": lines}
        make_run(tmp_path, name, evaluation(curves=[curve]))
    (both,) = compare(read_runs(tmp_path, ["one", "two"]))
    assert sorted(both.curves[0]["lines"]) == ["chance", "one: recall", "two: recall"]


def test_a_run_elsewhere_keeps_its_page(tmp_path):
    folder = make_run(tmp_path / "far", "one", evaluation())
    assert written(tmp_path, str(folder)).path == folder / "report.html"


def test_what_reports_say_is_text_and_never_markup(tmp_path):
    make_run(tmp_path, "one", evaluation())
    page = written(tmp_path, "one").path.read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; was seen" in page


def test_runs_on_the_same_ids_stand_side_by_side_and_others_apart(tmp_path):
    make_run(tmp_path, "one", evaluation())
    make_run(tmp_path, "two", evaluation(metrics={"text_to_image": {"map": number(3.0)}}))
    make_run(tmp_path, "three", evaluation(split_hash="ef" * 32))
    both, alone = compare(read_runs(tmp_path, ["one", "two", "three"]))
    assert [list(one.reports) for one in (both, alone)] == [["one", "two"], ["three"]]
    rows = {row["name"]: [cell and cell["value"] for cell in row["cells"]] for row in both.rows}
    assert rows == {"text to image recall 1": [41.25, None], "text to image map": [None, 3.0]}
    assert list(both.curves[0]["lines"]) == ["one: text to image", "two: text to image"]
    assert written(tmp_path, "one", "two", "three").evaluations == 3


def test_other_datasets_with_the_same_ids_stand_apart(tmp_path):
    make_run(tmp_path, "one", evaluation(source="11" * 32))
    make_run(tmp_path, "two", evaluation(source="22" * 32))
    compared = compare(read_runs(tmp_path, ["one", "two"]))
    assert [list(one.reports) for one in compared] == [["one"], ["two"]]
    page = written(tmp_path, "one", "two").path.read_text()
    assert "dataset: 111111111111" in page


def test_another_scoring_is_not_mixed_with_the_usual_one(tmp_path):
    make_run(tmp_path, "one", evaluation())
    make_run(tmp_path, "two", evaluation(variant="qb-norm"))
    assert [list(one.reports) for one in compare(read_runs(tmp_path, ["one", "two"]))] == [
        ["one"],
        ["two"],
    ]
    page = written(tmp_path, "one", "two").path.read_text()
    assert "retrieval, shapes test, qb-norm" in page


def test_a_dataset_that_is_gone_leaves_ids_and_a_note(tmp_path):
    make_run(tmp_path, "one", evaluation(dataset="flickr8k"))
    found = written(tmp_path, "one")
    assert "no pictures and texts of flickr8k, which is not in its usual place" in found.notes[0]
    assert "--data flickr8k=PATH" in found.notes[0]
    assert "scene-2" in " ".join(outline(found.path).text)


def test_a_run_without_evaluations_has_its_training(tmp_path):
    make_run(tmp_path, "one")
    page = written(tmp_path, "one").path.read_text()
    assert "Nothing has been evaluated yet" in page
    assert "Training loss" in page
    assert "Validation recall" in page


def test_reports_of_another_version_are_named_and_left_out(tmp_path):
    make_run(tmp_path, "one", evaluation(schema=0))
    found = written(tmp_path, "one")
    assert found.evaluations == 0
    assert "one/retrieval-0.json is of another version" in found.notes[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"schema": 1, "kind": "mi', "not valid JSON"),
        ('{"schema": 1, "kind": "mine"}', "missing required field `dataset`"),
        (json.dumps(evaluation(failures={})), "at `$.failures`"),
    ],
)
def test_a_file_that_is_no_evaluation_is_named_and_the_others_shown(tmp_path, content, reason):
    (make_run(tmp_path, "one", evaluation()) / "mine.json").write_text(content)
    found = written(tmp_path, "one")
    assert found.evaluations == 1
    (note,) = [line for line in found.notes if "one/mine.json" in line]
    assert reason in note
    assert "one/mine.json" in found.path.read_text()


def test_an_evaluation_without_a_run_is_shown_under_the_name_of_its_file(tmp_path):
    make_run(tmp_path, "one", evaluation())
    path = tmp_path / "evaluations" / "rank-encoders.json"
    path.parent.mkdir()
    atomic_files.write_json(path, evaluation(kind="rank-encoders"))
    for name in (str(path), "evaluations/rank-encoders.json"):
        found = written(tmp_path, "one", name)
        assert (found.runs, found.evaluations) == (("one", "rank-encoders"), 2)
        assert "rank encoders, shapes test" in found.path.read_text()
    alone = written(tmp_path, str(path))
    assert alone.path == path.with_suffix(".html")
    assert outline(alone.path).open == []


def test_a_named_file_that_is_no_evaluation_is_refused(tmp_path):
    (tmp_path / "mine.json").write_text("[]")
    with pytest.raises(SpecError, match=r"mine\.json is no evaluation"):
        written(tmp_path, "mine.json")
    with pytest.raises(RunNotFoundError, match=r"no file 'other\.json'"):
        written(tmp_path, "other.json")


def test_the_newest_run_is_taken_where_none_is_named_and_its_page_lies_in_it(tmp_path):
    folder = make_run(tmp_path, "one", evaluation())
    assert written(tmp_path).path == folder / "report.html"
    elsewhere = tmp_path / "deep" / "page.html"
    assert written(tmp_path, out=elsewhere).path == elsewhere


def test_mistakes_are_said_clearly(tmp_path):
    folder = make_run(tmp_path, "one", evaluation())
    with pytest.raises(RunNotFoundError, match="no run 'two'"):
        written(tmp_path, "two")
    with pytest.raises(SpecError, match="must be from 0 to 2,147,483,647, found -3"):
        written(tmp_path, "one", failures=-3)
    with pytest.raises(SpecError, match="is a folder"):
        written(tmp_path, "one", out=tmp_path)
    with pytest.raises(SpecError, match="'one'"):
        written(tmp_path, "one", "one")
    (folder / run_folder.REPORT).write_text("{")
    with pytest.raises(StoreCorruptError, match="not valid JSON"):
        written(tmp_path, "one")


def test_a_log_that_was_cut_off_is_read_to_its_last_whole_line(tmp_path):
    folder = make_run(tmp_path, "one", epochs=3)
    with (folder / run_folder.LOG).open("a") as log:
        log.write('{"epoch": 4, "lo')
    assert len(read_runs(tmp_path, ["one"])[0].epochs) == 3
    (folder / run_folder.LOG).write_text('{"epoch"\n')
    (part,) = read_runs(tmp_path, ["one"])
    assert part.epochs == []
    assert "one/log.jsonl is left out" in part.unread[0]
