"""Answers of a language model that is told the question and what an adapter takes for likely."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from ...featcache.config import fingerprint
from ...featcache.hardware import resolve_device
from ...featcache.types import Item, Modality
from ..common.progress import SILENT, Progress
from ..inputs.original_dataset import open_as_extracted
from ..language.asking import Replies, ask_all
from ..language.base import LanguageModel
from ..language.captions import captions_of, read_captions
from ..language.kept_replies import FOLDER, KeptReplies
from ..language.opening import open_language_model, require_language_model
from ..language.options import LanguageOptions
from ..language.question_prompt import QuestionPrompt
from ..metrics.answer_normaliser import normalise_answer
from ..metrics.answer_vocabulary import UNLISTED, AnswerVocabulary
from .predictions import AskedSplit, Predictions
from .vqa_spec import VqaSpec

_LEADS = ("short answer:", "answer:")  # what some models repeat of the prompt


def listed_answer(vocabulary: AnswerVocabulary, reply: str) -> int:
    r"""Return the place in a list of the answer that a reply gives, or -1 where it has none.

    Its first line counts, without the word `Answer:`, as written or else in the form of the
    normaliser.

    >>> listed_answer(AnswerVocabulary(("red", "2")), "Answer: Two.\nThere are two.")
    1
    """
    line = short_answer(reply)
    places: list[int] = vocabulary.places([line, normalise_answer(line)]).tolist()
    return next((place for place in places if place != UNLISTED), UNLISTED)


def short_answer(reply: str) -> str:
    r"""Return the first line of a reply that is not empty, without the word `Answer:`.

    >>> short_answer("\nAnswer: a bus\nIt is red.")
    'a bus'
    """
    line = next((line.strip() for line in reply.splitlines() if line.strip()), "")
    for lead in _LEADS:
        if line.lower().startswith(lead):
            return line[len(lead) :].strip()
    return line


@dataclass(frozen=True)
class LanguageAnswers:
    """Answers to the questions of a split where a language model was asked, too.

    Attributes:
        best: Place in the list of the answer to each question: that of the language model, or the
            plain one where it has none in the list.
        is_listed: Whether it is the language model's.
        replies: What it replied.
    """

    best: Int64[np.ndarray, " questions"]
    is_listed: Bool[np.ndarray, " questions"]
    replies: Replies

    @classmethod
    def of(cls, told: Predictions, replies: Replies) -> "LanguageAnswers":
        """Return the answers by the predictions of an adapter and the replies to them."""
        places = np.array(
            [
                UNLISTED if reply is None else listed_answer(told.vocabulary, reply)
                for reply in replies.texts
            ],
            dtype=np.int64,
        )
        is_listed = places != UNLISTED
        return cls(np.where(is_listed, places, told.best), is_listed, replies)

    def table(self) -> dict[str, Any]:
        """Return how many answers are the language model's, and of the others why, as JSON."""
        num_failed = sum(self.replies.failures.values())
        return {
            "num_listed": int(self.is_listed.sum()),
            "num_unlisted": int((~self.is_listed).sum()) - num_failed,
            "num_failed": num_failed,
            "failures": dict(self.replies.failures),
            "num_kept": self.replies.num_kept,
        }


@dataclass
class LanguageRound:
    """Language model that is asked the questions of a split, after each of several adapters.

    Attributes:
        spec: Settings of the table.
        model: The model, within its `with`.
        prompt: How it is asked.
        kept: What it has replied before.
        progress: Receives progress and warnings.
        captions: What the report says of captions.
        rows: What the report says of the answers, by the label of each row and seed.
    """

    spec: VqaSpec
    model: LanguageModel
    prompt: QuestionPrompt
    kept: KeptReplies
    progress: Progress = SILENT
    captions: dict[str, Any] = field(default_factory=lambda: {"from": "none"})
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _given: Mapping[str, str] | None = None
    _texts: dict[str, str] = field(default_factory=dict)

    def answers(self, label: str, asked: AskedSplit, told: Predictions) -> LanguageAnswers:
        """Ask the model all questions with the candidates of one run.

        Args:
            label: What the row is called.
            asked: The questions.
            told: Predictions of the run with candidates.

        Raises:
            LightalignError: The dataset, which has the questions, cannot be opened as it was.
        """
        questions, captions = self._read(asked)
        prompts = [
            self.prompt.messages(question, candidates, caption)
            for question, candidates, caption in zip(
                questions, told.candidates, captions, strict=True
            )
        ]
        answers = LanguageAnswers.of(told, ask_all(self.model, prompts, self.kept, self.progress))
        self.rows.setdefault(label, []).append(answers.table())
        return answers

    @property
    def variant(self) -> str:
        """Return what sets a report apart from those of other models, prompts and captions."""
        parts = [
            f"llm-{self.model.name}",
            self.prompt.name if self.prompt.name != LanguageOptions.llm_prompt else "",
            "captions" if self.captions["from"] != "none" else "",
        ]
        return "-".join(filter(None, parts))

    def table(self) -> dict[str, Any]:
        """Return what a report says of the model, the prompt and the answers, as JSON values."""
        return {
            "model": dict(self.model.identity),
            "versions": dict(self.model.versions),
            "prompt": {"name": self.prompt.name, "sha256": self.prompt.sha256},
            "num_candidates": self.spec.llm_candidates,
            "captions": self.captions,
            "rows": self.rows,
        }

    def _read(self, asked: AskedSplit) -> tuple[list[str], list[str | None]]:
        """Return the text of each question, and the caption of its image."""
        stores = asked.stores
        questions = [stores.second.ids[row] for row in asked.rows.second.tolist()]
        images = [stores.first.ids[row] for row in asked.rows.first.tolist()]
        if not self._texts:
            self._open(asked, images)
        texts = [self._texts[question] for question in questions]
        if self._given is None:
            return texts, [None] * len(texts)
        captions = [self._given.get(image) for image in images]
        self.captions["num_without"] = len(
            {image for image, caption in zip(images, captions, strict=True) if caption is None}
        )
        return texts, captions

    def _open(self, asked: AskedSplit, images: Sequence[str]) -> None:
        """Read the questions of the split, and captions of its images, from where they are."""
        pair = asked.stores.pair
        source = open_as_extracted(
            self.spec.data,
            options=self.spec.source,
            home=self.spec.home,
            split=pair.split,
            fingerprint=pair.source,
        )
        self._texts = {item.id: item.text or "" for item in source.items(pair.split, Modality.TEXT)}
        if self.spec.captions is not None:
            given = read_captions(self.spec.captions)
            captions_of(images, given, self.spec.captions)
            self._given = given
            self.captions = {"from": "file", "sha256": fingerprint(given)}
        if self.spec.caption_model is not None:
            asked_about = set(images)
            every = source.items(pair.split, Modality.IMAGE)
            items = [item for item in every if item.id in asked_about]
            self._given = self._written(items, pair.source)

    def _written(self, items: Sequence[Item], source: str) -> Mapping[str, str]:
        """Return captions that a model writes."""
        # heavy, and seldom asked for
        from ..language.caption_model import CaptionModel

        assert self.spec.caption_model is not None
        captioner = CaptionModel(self.spec.caption_model, device=resolve_device(self.spec.device))
        self.captions = {"from": "model", "model": dict(captioner.identity)}
        place = replies_place(self.spec.home, captioner.identity)
        with KeptReplies(place, self.progress) as kept:
            return captioner.captions(
                items, len(items), source=source, kept=kept, progress=self.progress
            )


def require_language(spec: VqaSpec) -> None:
    """Pass if the language model that a table asks can be opened, and read what goes with it.

    Raises:
        LightalignError: It cannot; see `require_language_model`, `read_captions`.
    """
    require_language_model(spec)
    if spec.captions is not None:
        read_captions(spec.captions)


@contextmanager
def language_round(spec: VqaSpec, progress: Progress) -> Iterator[LanguageRound]:
    """Open the language model that a table asks, and what it has replied before.

    Raises:
        LightalignError: The prompt or the model cannot be opened.
    """
    with open_language_model(spec, device=spec.device) as asked:
        place = replies_place(spec.home, asked.model.identity)
        with KeptReplies(place, progress) as kept:
            yield LanguageRound(spec, asked.model, asked.prompt, kept, progress)


def replies_place(home: Path, identity: Mapping[str, Any]) -> Path:
    """Return the file in which the replies of a model are kept."""
    return home / FOLDER / f"{fingerprint(dict(identity))[:16]}.jsonl"
