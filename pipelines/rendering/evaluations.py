"""Turn reports of evaluations into tables and lines for people."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from ..answering.ask_spec import AskReport
from ..classification.zero_shot_spec import ZeroShotReport
from ..metrics.number import Number, report_line, shown, shown_chance
from .numbers import number_table
from .tables import ResultTable

_OF_THEIR_OWN = ("curve", "index")  # parts of a direction that are a plot, and a line
_ORDERS = ("itm", "itm_and_cosine")  # of a second stage
_RERANKED = ("recall", "ceiling", "seconds_per_query")  # of a direction in such an order
_RECALL_SUMS = ("recall_sum", "recall_sum_difference")
_ALL_PAIRS = 20  # of layers; all are in the report
_ALL_CLASSES = 20  # so many are all shown, else as many of the worst and the best together


def retrieval_parts(report: Mapping[str, Any]) -> list[Table | str]:
    """Return a table of all numbers by the cosine, and one by another scoring if there is one."""
    metrics = report["metrics"]
    parts: list[Table | str] = [
        _retrieval_table(f"retrieval on {report['dataset']}/{report['split']}", metrics)
    ]
    for name, numbers in metrics.items():
        if "index" in numbers:
            index = numbers["index"]
            parts.append(
                f"{_words(name)} by {index['kind']} ({index['factory']}): {quality_line(index)}"
            )
    parts += _fold_tables(metrics)
    parts += _reranked_tables(report)
    scoring = report["options"]["scoring"]
    if scoring != "cosine":
        transductive = ", transductive" if scoring == "dual-softmax" else ""
        rescored = metrics[scoring.replace("-", "_")]
        parts.append(_retrieval_table(f"the same by {scoring}{transductive}", rescored))
        parts += _fold_tables(rescored)
    return parts


def quality_line(metrics: Mapping[str, Any]) -> str:
    """Return recall and speed of an approximate index beside the exact search.

    Args:
        metrics: What `index_tuning.compare_with_flat` measured, as tables.
    """
    (name,) = (key for key in metrics if key.startswith("recall_at_"))
    recall, k = metrics[name], name.removeprefix("recall_at_")
    speed, flat, times = (
        metrics[key]["value"]
        for key in ("queries_per_second", "flat_queries_per_second", "times_flat")
    )
    return (
        f"recall@{k} against flat {shown(recall)} % (chance {shown_chance(recall['chance'])} %) on "
        f"{recall['num']} queries, {speed:,.0f} queries/s against {flat:,.0f}: {times:.1f} times "
        "flat"
    )


def accuracy_parts(report: Mapping[str, Any]) -> list[Table | str]:
    """Return a table of accuracies by kind of features, then the warnings.

    Each setting has its rows, such as the epochs of a published table.
    """
    title = f"{report['kind']} on {report['dataset']}/{report['split']}"
    subjects = {_words(name): numbers for name, numbers in report["metrics"].items()}
    return [number_table(title, subjects), *_warnings(report)]


def fine_tuned_line(trained: Mapping[str, Any]) -> str:
    """Return a summary of a fine-tuning."""
    return (
        f"trained {trained['num_parameters']:,} parameters on {trained['num_images']} images in "
        f"{trained['seconds']:.1f} s, the adapter's weights moved by "
        f"{100 * trained['adapter_moved']:.1f} %; kept epoch {trained['best']['epoch']} by "
        f"{trained['selected_by']}"
    )


def zero_shot_parts(done: ZeroShotReport) -> list[Table | str]:
    """Return the accuracy of all prompts, that of the classes by the first, and where it lies."""
    report = done.report
    overall = {
        prompts: {name: number for name, number in numbers.items() if name != "classes"}
        for prompts, numbers in report["metrics"].items()
    }
    title = f"zero-shot on {report['dataset']}/{report['split']}"
    return [
        number_table(title, overall, corner="prompts"),
        *_class_parts(report),
        *_warnings(report),
        report_line(done.path, report),
        *([f"confusion: {done.plot}"] if done.plot is not None else []),
    ]


def vqa_parts(report: Mapping[str, Any]) -> list[Table | str]:
    """Return the table of a `vqa` report, a row each, and what the numbers rest on."""
    of_all = ("by_answer_type", "by_question_type")
    subjects = {
        name: {key: value for key, value in numbers.items() if key not in of_all}
        for name, numbers in report["metrics"].items()
    }
    title = f"vqa on {report['dataset']}/{report['split']}, {report['num_questions']:,} questions"
    parts: list[Table | str] = [
        number_table(title, subjects, corner="answers by", subjects_down=True)
    ]
    for kind in of_all:
        rows = {
            name: {of: number["accuracy"] for of, number in numbers[kind].items()}
            for name, numbers in report["metrics"].items()
            if kind in numbers
        }
        if rows and len(next(iter(rows.values()))) <= _ALL_CLASSES:
            words = kind.replace("_", " ")
            parts.append(number_table(f"accuracy {words}", rows, corner="answers by"))
    parts += _language_lines(report.get("llm", {}))
    parts.append(
        f"{report['num_answers']:,} answers are told apart; the encoders are frozen, only adapters "
        "were trained"
    )
    return parts


def _language_lines(language: Mapping[str, Any]) -> list[str]:
    """Return a line on what a language model replied, a preset each."""
    lines = []
    for label, seeds in language.get("rows", {}).items():
        counts = {
            name: sum(seed[name] for seed in seeds)
            for name in ("num_listed", "num_unlisted", "num_failed")
        }
        lines.append(
            f"{language['model']['model']} after {label}: {counts['num_listed']:,} of "
            f"{sum(counts.values()):,} answers are its own; {counts['num_unlisted']:,} are not in "
            f"the list and {counts['num_failed']:,} failed, so that the adapter's count"
        )
    return lines


def asked_parts(report: AskReport) -> list[Table | str]:
    """Return a table of the answers to one question, and that of a language model if asked."""
    table = ResultTable(f"{report.question} ({report.image})")
    table.add_column("answer")
    table.add_column("probability, %", justify="right")
    for entry in report.answers:
        table.add_row(str(entry["answer"]), f"{100 * entry['probability']:.1f}")
    if report.llm is None:
        return [table]
    words = "" if report.llm["is_listed"] else " (not in the list of answers)"
    if report.llm["failure"] is not None:
        words = f" (the plain answer: {report.llm['failure']})"
    return [table, f"{report.llm['model']['model']}: {report.llm['answer']}{words}"]


def similarity_parts(report: Mapping[str, Any]) -> list[Table | str]:
    """Return the table of a `similarity` report: all scorers, graded or at each threshold."""
    title = f"similarity on {report['dataset']}/{report['split']}"
    return [number_table(title, report["metrics"], corner="cosine")]


def ranking_parts(report: Mapping[str, Any]) -> list[Table | str]:
    """Return the table of a `rank-encoders` report, the most promising pair first."""
    if "layers" in report:
        return _layer_parts(report)
    ridge = f"ridge R@{report['options']['recall_at']}"
    subjects = {
        pair: {ridge if name == "ridge" else name: number for name, number in numbers.items()}
        for pair, numbers in report["metrics"].items()
    }
    first = next(iter(report["metrics"].values()))
    title = (
        f"encoders on {report['dataset']}/{report['split']}, {first['cka']['num']:,} items, "
        f"{first['ridge']['num']:,} of them held out"
    )
    return [number_table(title, subjects, corner="images | texts", subjects_down=True)]


def _layer_parts(report: Mapping[str, Any]) -> list[Table | str]:
    """Return a table of the best pairs of layers, which fits 80 columns."""
    metrics, layers = report["metrics"], report["layers"]
    first = next(iter(metrics.values()))["mutual_knn"]
    table = ResultTable(
        f"layers on {report['dataset']}/{report['split']}: % of {report['options']['neighbours']} "
        f"nearest neighbours shared (chance {shown_chance(first['chance'])})"
    )
    for header in ("images by", "layer", "texts by", "layer"):
        table.add_column(header)
    table.add_column(f"shared\nn = {first['num']:,}", justify="right")
    for name in list(metrics)[:_ALL_PAIRS]:
        sides = [layers[label] for label in name.split(" | ")]
        cells = [(side["encoder"], f"{side['layer']} {side['kind']}") for side in sides]
        table.add_row(*cells[0], *cells[1], shown(metrics[name]["mutual_knn"]))
    left_out = len(metrics) - _ALL_PAIRS
    return [table, f"{left_out} pairs below these are in the report"] if left_out > 0 else [table]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _warnings(report: Mapping[str, Any]) -> list[str]:
    return [f"warning: {warning}" for warning in report["warnings"]]


def _retrieval_table(title: str, metrics: Mapping[str, Any]) -> Table:
    directions = {name: numbers for name, numbers in metrics.items() if _is_direction(numbers)}
    # where one gallery is smaller than --k its curve ends at 100 %, which is no news
    last = max(numbers["curve"]["k"][-1] for numbers in directions.values())
    subjects = {}
    for name, numbers in directions.items():
        shown_parts = {key: part for key, part in numbers.items() if key not in _OF_THEIR_OWN}
        curve = numbers["curve"]
        if curve["k"][-1] == last:
            point = Number(
                value=curve["recall"][-1],
                num=numbers["num_queries"],
                interval=(curve["low"][-1], curve["high"][-1]),
                chance=curve["chance"][-1],
            )
            shown_parts["recall"] = {**numbers["recall"], str(last): point.table()}
        subjects[f"{_words(name)}\ngallery of {numbers['num_gallery']:,}"] = shown_parts
    # the sum is of both directions and is shown once, beside the first
    next(iter(subjects.values()))["recall_sum"] = metrics["recall_sum"]
    return number_table(title, subjects)


def _fold_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Return a table of the means over folds, if there are any."""
    if "folds" not in metrics:
        return []
    folds = metrics["folds"]
    subjects = {}
    for name, numbers in folds.items():
        if _is_direction(numbers):
            sizes = dict.fromkeys((min(numbers["galleries"]), max(numbers["galleries"])))
            galleries = " to ".join(f"{size:,}" for size in sizes)
            subjects[f"{_words(name)}\ngalleries of {galleries}"] = {"recall": numbers["recall"]}
    next(iter(subjects.values()))["recall_sum"] = folds["recall_sum"]
    return [number_table(f"mean over {folds['num_folds']} folds of images", subjects)]


def _reranked_tables(report: Mapping[str, Any]) -> list[Table | str]:
    """Return a table of each direction with the orders of the first k side by side, if any."""
    if "rerank" not in report:
        return []
    metrics, second, k = report["metrics"], report["rerank"], report["options"]["k"]
    orders = {"cosine": metrics, **{_words(name): metrics[name] for name in _ORDERS}}
    parts: list[Table | str] = []
    for name, numbers in metrics.items():
        if _is_direction(numbers):
            title = f"{_words(name)}, the first {k} read again by {second['run']}"
            subjects = {
                order: {part: of_order[name][part] for part in _RERANKED if part in of_order[name]}
                for order, of_order in orders.items()
            }
            parts.append(number_table(title, subjects))
    sums = {
        order: {part: of_order[part] for part in _RECALL_SUMS if part in of_order}
        for order, of_order in orders.items()
    }
    parts.append(number_table("both directions", sums))
    matching = {f"{kind} wrong pairs": numbers for kind, numbers in metrics["matching"].items()}
    parts.append(number_table(f"matching by {second['run']}", matching))
    parts.append(f"itm and cosine: logit difference + {second['scale']:g} x cosine")
    return parts


def _is_direction(numbers: Any) -> bool:
    return isinstance(numbers, Mapping) and "recall" in numbers


def _class_parts(report: Mapping[str, Any]) -> list[Table | str]:
    """Return the accuracy of each class by the first prompts, the worst class first."""
    name, of_prompts = next(iter(report["metrics"].items()))
    classes = of_prompts["classes"]
    # the classes that need a look are at both ends
    order = sorted(classes, key=lambda label: classes[label]["top_1"]["value"])
    left_out = len(order) - _ALL_CLASSES
    if left_out > 0:
        half = _ALL_CLASSES // 2
        order = [*order[:half], *order[-half:]]
    confusion = report["curves"][-1]
    rows = {}
    for label in order:
        # the others between would make the table wider than most terminals
        tops = list(classes[label])
        rows[label] = {top: classes[label][top] for top in (tops[0], tops[-1])}
        rows[label]["most often taken for"] = _most_frequent_mistake(confusion, label)
    table = number_table(
        f"by class, worst first, prompts {name}", rows, corner="class", subjects_down=True
    )
    note = f"{left_out} classes between these are in the report"
    return [table, note] if left_out > 0 else [table]


def _most_frequent_mistake(confusion: Mapping[str, Any], label: str) -> str:
    """Return the wrong class that images of one are most often taken for, with the count."""
    names = confusion["names"]
    counts = list(confusion["matrix"][names.index(label)])
    # right answers are no mistakes, however frequent
    counts[names.index(label)] = 0
    most = max(counts)
    return f"{names[counts.index(most)]} ({most})" if most else "-"
