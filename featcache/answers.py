"""Answers to the questions of a split, as the dataset writes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from .string_array import Strings


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of people to questions, each of which is a text of a split, in item order.

    Of the questions "what colour is it?", answered by `red` and `dark red`, and "how many?", by
    `2`, `given` is `red`, `dark red`, `2` and `ends` is 2, 3.

    Attributes:
        given: All answers to all questions, one question after the other.
        ends: Where the answers of each question end in `given`; each has at least one.
        chosen: The answer to each question that is its label.
        question_types: Type of each question, such as `how many`, or None.
        answer_types: Type of the answer to each question, such as `yes/no`, or None.
        vocabulary: All answers that the dataset officially has, in its order, or None.
    """

    given: Strings
    ends: Int64[np.ndarray, " questions"]
    chosen: Strings
    question_types: Strings | None = None
    answer_types: Strings | None = None
    vocabulary: Strings | None = None

    def __post_init__(self) -> None:
        """Check that everything is of the same questions.

        Raises:
            ValueError: A question has no answer, or there are not as many labels as questions.
        """
        if (np.diff(self.ends, prepend=0) <= 0).any():
            raise ValueError("a question has no answer")
        if (int(self.ends[-1]) if len(self.ends) else 0) != len(self.given):
            raise ValueError("the answers and their ends contradict one another")
        for name in ("chosen", "question_types", "answer_types"):
            strings = getattr(self, name)
            if strings is not None and len(strings) != len(self):
                raise ValueError(f"there are {len(strings):,} {name} of {len(self):,} questions")

    @classmethod
    def of(
        cls,
        given: Sequence[Sequence[str]],
        chosen: Sequence[str] | None = None,
        *,
        question_types: Sequence[str] | None = None,
        answer_types: Sequence[str] | None = None,
        vocabulary: Sequence[str] | None = None,
    ) -> "Answers":
        """Make answers of lists.

        Args:
            given: All answers to each question.
            chosen: The one that is the label of each; the first without.
            question_types: Type of each question.
            answer_types: Type of the answer to each question.
            vocabulary: All answers that the dataset officially has.

        Raises:
            ValueError: A question has no answer, or there are not as many labels as questions.
        """
        if not all(given):
            raise ValueError("a question has no answer")
        return cls(
            given=Strings.of(answer for answers in given for answer in answers),
            ends=np.cumsum([len(answers) for answers in given], dtype=np.int64),
            chosen=Strings.of([answers[0] for answers in given] if chosen is None else chosen),
            question_types=None if question_types is None else Strings.of(question_types),
            answer_types=None if answer_types is None else Strings.of(answer_types),
            vocabulary=None if vocabulary is None else Strings.of(vocabulary),
        )

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self.ends)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Answers):
            return NotImplemented
        mine, theirs = dict(self.strings()), dict(other.strings())
        return np.array_equal(self.ends, other.ends) and mine == theirs

    __hash__ = None  # type: ignore[assignment]

    def of_question(self, place: int) -> list[str]:
        """Return all answers to the question at a place among the texts."""
        start = int(self.ends[place - 1]) if place else 0
        return self.given[start : int(self.ends[place])]

    def strings(self) -> Iterator[tuple[str, Strings]]:
        """Yield the name of each attribute that holds strings, and these."""
        for name in STRINGS:
            strings = getattr(self, name)
            if strings is not None:
                yield name, strings


STRINGS = ("given", "chosen", "question_types", "answer_types", "vocabulary")
