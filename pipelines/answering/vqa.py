"""Measure visual question answering: trained adapters beside what knows less than they do."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from ...featcache.errors import LeakageError
from ...featcache.links import Links
from ...featcache.types import IMAGE_TEXT, Side
from ..common.progress import SILENT, Progress
from ..inputs.image_text import join_stores
from ..inputs.store_selection import DatasetQuery, SideQuery, StorePair, usual_split
from ..language.asking import joined
from ..metrics import answer_scores, calibration
from ..metrics.answer_scores import (
    AnswerTargets,
    answer_numbers,
    majority_answer,
    score_difference,
    score_number,
)
from ..metrics.answer_vocabulary import AnswerVocabulary
from ..metrics.calibration import calibration_number
from ..metrics.number import Number
from ..metrics.wordnet import WordNet
from ..metrics.wups import THRESHOLDS, wordnet_or_warning, wups_definition, wups_scores
from ..runs.evaluation import Evaluation
from ..runs.joint_run import JointRun
from ..runs.leakage import EvaluatedItems, find_leakage
from ..training import train
from ..training.joint.answers import AnswerLabels, answers_of
from .language_answers import LanguageRound, language_round, require_language
from .predictions import AskedSplit, Predictions, predict
from .trainings import IMAGE_ONLY, QUESTION_ONLY, TrainedRow, carry_out, rows_of, trainings
from .vqa_spec import VqaReport, VqaSpec

WITH_LLM = "{} + language model"  # row of a preset's answers after one was asked, too
MAJORITY, SHUFFLED = "majority", "shuffled images"
_VALIDATION = "val"  # the split that chooses the epoch to keep where it is not the one to answer
_FAILURES = 24  # in the report
DEFINITIONS = {
    **answer_scores.DEFINITIONS,
    **calibration.DEFINITIONS,
    "deviation": "standard deviation of the accuracy over the seeds, in points",
    "over_question_only": (
        "accuracy minus that of the control that sees no image, in points; the interval is of "
        "paired bootstrap draws of whole images"
    ),
    QUESTION_ONLY: "the same adapter, trained and measured on one token of zeros for every image",
    IMAGE_ONLY: "the same adapter, trained and measured on one token of zeros for every question",
    SHUFFLED: "the trained adapter, asked about the image of other questions",
    "encoders": "they are frozen, and read from stored features; only the adapter is trained",
}

OVER_PLAIN = (
    "accuracy with the language model minus that of the adapter alone, in points; the interval "
    "is of paired bootstrap draws of whole images. Where the language model gives no answer, "
    "or one that is not in the list, the adapter's counts. Whether it has read these questions "
    "with their answers in its training is not known"
)


@dataclass
class _Row:
    """Row of the table: scores of each question, mean over the seeds.

    Questions are in the order of `asked`, which may be another one with other encoders.
    """

    asked: AskedSplit
    targets: AnswerTargets
    scores: Float64[np.ndarray, " questions"]
    confidence: Float64[np.ndarray, " questions"] | None = None
    by_seed: list[float] = field(default_factory=list)
    wups: dict[str, Float64[np.ndarray, " questions"]] = field(default_factory=dict)
    plain: "_Row | None" = None  # the same adapter alone, of one where a language model was asked


def run(spec: VqaSpec, progress: Progress = SILENT) -> VqaReport:
    """Train what is not trained yet, answer the questions of a split, and write one table.

    Raises:
        StoreNotFoundError: The splits have not been extracted with the encoders.
        SpecError: The dataset has no answers, or an option is wrong.
        LeakageError: Evaluated items took part in a training, and that is not allowed.
        LightalignError: See `train.run_joint`.
    """
    data = DatasetQuery.of(spec.data, home=spec.home, options=spec.source)
    text = SideQuery.of(spec.encoders[0][1], kind=spec.text_features or "tokens")
    split = spec.split or usual_split(spec.home, data, text)
    wordnet, warning = wordnet_or_warning()
    if spec.asks_language_model:
        require_language(spec)  # what is wrong with it is told before anything is trained
    table = _Table(spec, data, split, wordnet, progress)
    if warning is not None:
        table.evaluation.warn(warning)
    rows = rows_of(spec)
    for row in rows:
        table.require_there(row)
    for row in rows:
        table.add(row)
    if spec.asks_language_model:
        # after all trainings, as one on this machine takes the memory that they need
        with language_round(spec, progress) as language:
            table.ask(language)
    path, report = table.write()
    return VqaReport(path=path, report=report)


class _Table:
    """Rows of one table, as they are measured one after the other."""

    def __init__(
        self,
        spec: VqaSpec,
        data: DatasetQuery,
        split: str,
        wordnet: WordNet | None,
        progress: Progress,
    ) -> None:
        self.spec = spec
        self.split = split
        self.wordnet = wordnet
        self.progress = progress
        self.rows: dict[str, _Row] = {}
        self.runs: dict[str, list[str]] = {}
        self.warned: set[str] = set()
        self.told: dict[str, tuple[AskedSplit, list[Predictions]]] = {}  # with their candidates
        self.evaluation = Evaluation(
            kind="vqa",
            home=spec.home,
            data=data,
            split=split,
            progress=progress,
            options=spec.options(),
            variant="grid" if spec.grid else "",
        )

    def require_there(self, row: TrainedRow) -> None:
        """Pass if a row can be trained and asked, before any training takes its hours.

        Raises:
            StoreNotFoundError: The split to train on, or the one to answer, is not extracted.
            LeakageError: The split to answer is trained on, and that is not allowed.
            SpecError: The preset is not usable, or the split has no answers.
        """
        (training, *_) = trainings(self.spec, row, data=self.spec.data, holds_out=True)
        trained = train.resolved_joint(training)["stores"]["train"]
        if self.split == trained["split"] and not self.spec.allow_leakage:
            raise LeakageError(
                f"split {self.split!r} is what is trained on: answer another one by --split, or "
                "measure it all the same with --allow-leakage"
            )
        queries: dict[Side, SideQuery] = {
            side: SideQuery.of(
                trained[side.value]["encoder"],
                kind=trained[side.value]["kind"],
                layer=trained[side.value]["layer"],
            )
            for side in IMAGE_TEXT
        }
        query = replace(self.evaluation, progress=SILENT)
        AskedSplit.of(join_stores(StorePair.of(query.require(queries)), home=self.spec.home))

    def add(self, row: TrainedRow) -> None:
        """Train the seeds of a row, and measure them."""
        holds_out = self.split == _VALIDATION
        measured: list[tuple[JointRun, Predictions]] = []
        for training in trainings(self.spec, row, data=self.spec.data, holds_out=holds_out):
            folder = carry_out(training, row.label, self.progress)
            joint = JointRun(self.spec.home, str(folder), device=self.spec.device)
            asked = self._asked(joint)
            asks = self.spec.asks_language_model and not row.is_control
            told = predict(
                joint,
                asked,
                num_candidates=self.spec.llm_candidates if asks else 0,
                progress=self.progress,
            )
            measured.append((joint, told))
        self.runs[row.label] = [joint.folder.name for joint, _ in measured]
        vocabulary = measured[0][1].vocabulary
        if MAJORITY not in self.rows and self.spec.controls:
            self.rows[MAJORITY] = self._majority(measured[0][0], asked, vocabulary)
        if (
            self.spec.controls
            and not self.spec.grid
            and not row.is_control
            and SHUFFLED not in self.rows
        ):
            others = [
                predict(joint, asked, images=asked.shuffled(joint_seed), progress=self.progress)
                for joint_seed, (joint, _) in enumerate(measured)
            ]
            self.rows[SHUFFLED] = self._measured(asked, others)
        self.rows[row.label] = self._measured(asked, [told for _, told in measured])
        if asks:
            self.told[row.label] = asked, [told for _, told in measured]
        if not row.is_control and not self.evaluation.failures:
            self.evaluation.failures = self._failures(self.rows[row.label], measured[0][1])

    def ask(self, language: LanguageRound) -> None:
        """Add a row for each preset, of a language model that is told the answers of its seeds."""
        for label, (asked, seeds) in self.told.items():
            answers = [language.answers(label, asked, told) for told in seeds]
            again = [
                replace(told, best=each.best) for told, each in zip(seeds, answers, strict=True)
            ]
            row = self._measured(asked, again)
            # a language model tells no probability
            self.rows[WITH_LLM.format(label)] = replace(
                row, confidence=None, plain=self.rows[label]
            )
            warning = joined(each.replies for each in answers).warning(language.model.name)
            if warning is not None:
                self.evaluation.warn(warning)
        evaluation = self.evaluation
        evaluation.beside["llm"] = language.table()
        evaluation.definitions = {"over_plain": OVER_PLAIN}
        evaluation.variant = "-".join(filter(None, [evaluation.variant, language.variant]))
        if num_without := language.captions.get("num_without"):
            evaluation.warn(f"{num_without:,} images have no caption: their prompts have none")

    def _asked(self, joint: JointRun) -> AskedSplit:
        """Return the questions of the split, by the stores of a run, and check what it has seen."""
        query = replace(self.evaluation, run=joint, progress=SILENT)
        pair = StorePair.of(query.require(joint.queries))
        stores = join_stores(pair, home=self.spec.home)
        asked = AskedSplit.of(stores)
        leakage = find_leakage(joint, EvaluatedItems.of(stores, asked.rows), self.progress)
        # people ask the same of many images: equal questions are no copies
        leakage.same_texts.clear()
        leakage.refuse(allow=self.spec.allow_leakage)
        fresh = [line for line in leakage.warnings if line not in self.warned]
        self.warned.update(fresh)
        self.evaluation.warn(*fresh)
        self.evaluation.beside.setdefault("leakage", leakage.table())
        if not self.evaluation.stores:
            self.evaluation.stores = pair.stores
            ids = stores.second.ids
            self.evaluation.ids = [ids[row] for row in asked.rows.second.tolist()]
        return asked

    def _measured(self, asked: AskedSplit, seeds: Sequence[Predictions]) -> _Row:
        """Return the row of the predictions of some seeds."""
        # the list of another training is another one, as that of all labels of held-out images
        targets = [asked.targets(told.vocabulary) for told in seeds]
        scores = [
            of_seed.scores_of(told.best) for of_seed, told in zip(targets, seeds, strict=True)
        ]
        wups = [self._wups(asked, told.words) for told in seeds]
        return _Row(
            asked=asked,
            targets=targets[0],
            scores=np.mean(scores, axis=0),
            confidence=seeds[0].confidence,
            by_seed=[100.0 * float(each.mean()) for each in scores],
            wups={name: np.mean([each[name] for each in wups], axis=0) for name in wups[0]},
        )

    def _majority(self, joint: JointRun, asked: AskedSplit, vocabulary: AnswerVocabulary) -> _Row:
        """Return the row of the most frequent answer of the training."""
        trained = StorePair.of(
            self.evaluation.require(joint.queries, joint.stores["train"]["split"])
        )
        stores = join_stores(trained, home=self.spec.home)
        labels = AnswerLabels.of(stores, vocabulary).targets.labels
        best = np.full(len(asked), majority_answer(labels))
        word = vocabulary.answers[int(best[0])]
        self.evaluation.beside["majority_answer"] = word
        return _Row(
            asked=asked,
            targets=(targets := asked.targets(vocabulary)),
            scores=targets.scores_of(best),
            wups=self._wups(asked, [word] * len(asked)),
        )

    def _wups(
        self, asked: AskedSplit, words: Sequence[str]
    ) -> dict[str, Float64[np.ndarray, " questions"]]:
        if self.wordnet is None:
            return {}
        truths, ends = _truths(asked.stores.pairs, asked)
        return {
            f"wups_{threshold:g}": wups_scores(
                self.wordnet, words, truths, ends, threshold=threshold
            )
            for threshold in THRESHOLDS
        }

    def _failures(self, row: _Row, told: Predictions) -> list[dict[str, Any]]:
        """Return the questions that the first seed answered wrongly with most confidence."""
        asked, scores = row.asked, row.targets.scores_of(told.best)
        order = np.lexsort((-told.confidence, scores))[:_FAILURES]
        words, answers = told.words, answers_of(asked.stores)
        first_ids, second_ids = asked.stores.first.ids, asked.stores.second.ids
        failures = []
        for place in order[scores[order] < 1].tolist():
            right = answers.of_question(int(asked.places[place]))
            failures.append(
                {
                    "query": [
                        first_ids[int(asked.rows.first[place])],
                        second_ids[int(asked.rows.second[place])],
                    ],
                    "right": [{"text": answer} for answer in dict.fromkeys(right)],
                    "first": [{"text": words[place], "score": float(told.confidence[place])}],
                    "facts": {"score": float(scores[place])},
                }
            )
        return failures

    def write(self) -> tuple[Any, dict[str, Any]]:
        """Write the report."""
        first = next(iter(self.rows.values()))
        asked, targets = first.asked, first.targets
        evaluation = self.evaluation
        evaluation.metrics = {name: self._numbers(row) for name, row in self.rows.items()}
        blind = self.rows.get(QUESTION_ONLY)
        for name, row in self.rows.items():
            if blind is not None and name not in (QUESTION_ONLY, MAJORITY):
                evaluation.metrics[name]["over_question_only"] = score_difference(
                    row.scores, blind.scores, asked.images
                )
            if row.plain is not None:
                evaluation.metrics[name]["over_plain"] = score_difference(
                    row.scores, row.plain.scores, asked.images
                )
        evaluation.definitions |= DEFINITIONS
        if self.wordnet is not None:
            meaning = wups_definition(self.wordnet)
            evaluation.definitions |= {f"wups_{threshold:g}": meaning for threshold in THRESHOLDS}
        unlisted = int(targets.unlisted.sum())
        evaluation.beside |= {
            "runs": self.runs,
            "seeds": {name: row.by_seed for name, row in self.rows.items() if row.by_seed},
            "num_questions": len(asked),
            "num_answers": targets.num_answers,
            "num_unlisted": unlisted,
            "encoders_frozen": True,
        }
        if unlisted:
            evaluation.warn(
                f"{unlisted:,} of {len(asked):,} questions have no answer that is in the list of "
                f"{targets.num_answers:,}: they count as wrong"
            )
        return evaluation.write()

    def _numbers(self, row: _Row) -> dict[str, Any]:
        asked, images = row.asked, row.asked.images
        numbers = answer_numbers(row.scores, images, asked.kinds(), row.targets.chance)
        if len(row.by_seed) > 1:
            deviation = float(np.std(row.by_seed, ddof=1))
            numbers["deviation"] = Number(value=deviation, num=len(row.by_seed), unit="points")
        for name, scores in row.wups.items():
            numbers[name] = score_number(scores, images)
        if row.confidence is not None and len(row.by_seed) == 1:
            numbers["calibration_error"] = calibration_number(row.confidence, row.scores)
        return numbers


def _truths(links: Links, asked: AskedSplit) -> tuple[list[str], np.ndarray]:
    """Return all right answers to the questions, and where those of each end.

    Of ten annotators only the label is taken: what each said is no set of right answers.
    """
    answers = links.answers
    assert answers is not None, "the split was asked for its answers"
    chosen = list(answers.chosen)
    right = []
    for place in asked.places.tolist():
        of_question = answers.of_question(place)
        is_set = len(of_question) != answer_scores.NUM_ANNOTATORS
        right.append(of_question if is_set else [chosen[place]])
    ends = np.cumsum([len(each) for each in right], dtype=np.int64)
    return [answer for each in right for answer in each], ends
