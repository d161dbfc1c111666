"""List of answers that a model chooses from, and where in it an answer stands."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from ...featcache.errors import DatasetFormatError
from .answer_normaliser import normalise_answer, normalise_answers

LEAST_COUNT = 9  # of VQAv2, whose train and val then have 3,129 answers
MOST_ANSWERS = 100_000  # a head on a pooled vector of 1,536 would have 154 million weights
LONGEST_ANSWER = 1_000  # characters; what is longer is a text, not an answer
UNLISTED = -1


@dataclass(frozen=True)
class AnswerVocabulary:
    """Answers in the order of the outputs of a head.

    >>> AnswerVocabulary(("red", "t_shirt")).places(["A T-shirt", "Red", "blue"]).tolist()
    [1, 0, -1]

    Attributes:
        answers: What is answered, as the dataset writes it.
        normalise: Whether answers are looked up in the form of `normalise_answer`. Otherwise they
            count as listed only where they are written as the list has them: VLE's published way,
            which finds no `Two` where the list has `2`.

    Raises:
        DatasetFormatError: The list is empty or too long, or has an answer that is empty, too long
            or in it twice.
    """

    answers: tuple[str, ...]
    normalise: bool = True
    _place_of: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.answers) <= MOST_ANSWERS:
            raise DatasetFormatError(
                f"a list of answers has 1 to {MOST_ANSWERS:,} of them, found {len(self.answers):,}"
            )
        place_of: dict[str, int] = {}
        for place, (answer, form) in enumerate(zip(self.answers, self._forms(), strict=True)):
            if len(answer) > LONGEST_ANSWER:
                raise DatasetFormatError(
                    f"answer {place + 1} of the list has {len(answer):,} characters, at most "
                    f"{LONGEST_ANSWER:,} are read"
                )
            if (first := place_of.setdefault(form, place)) != place:
                raise DatasetFormatError(_twice(self.answers, first, place))
        object.__setattr__(self, "_place_of", place_of)

    def __len__(self) -> int:
        return len(self.answers)

    def places(self, answers: Sequence[str]) -> Int64[np.ndarray, " n"]:
        """Return the place of each answer, from 0; -1 where the list has none like it."""
        of_answer = {
            answer: self._place_of.get(
                normalise_answer(answer) if self.normalise else answer, UNLISTED
            )
            for answer in set(answers)
        }
        return np.fromiter((of_answer[answer] for answer in answers), np.int64, len(answers))

    def _forms(self) -> Sequence[str]:
        return normalise_answers(self.answers) if self.normalise else self.answers


def frequent_answers(
    chosen: Sequence[str], *, least_count: int = LEAST_COUNT, normalise: bool = True
) -> AnswerVocabulary:
    """Return the normalised answers that are chosen often enough, in order of first appearance.

    >>> frequent_answers(["no", "Two", "yes", "2", "no"], least_count=2).answers
    ('no', '2')

    Source: iflytek/VLE at e728012, `examples/VQA/write_vqa.py`: of VQAv2 the
    `multiple_choice_answer` of all questions of train, then of val.

    Args:
        chosen: The one answer of each question.
        least_count: Questions that an answer needs, of all its spellings together.
        normalise: As of `AnswerVocabulary`; the list has the normalised form either way.

    Raises:
        DatasetFormatError: No answer is chosen so often, or too many are.
    """
    # a dictionary keeps the order in which its keys came
    counts = Counter(normalise_answers(chosen))
    listed = tuple(answer for answer, count in counts.items() if count >= least_count)
    if not listed:
        most = "there is none at all"
        if counts:
            answer, count = counts.most_common(1)[0]
            most = (
                f"the most frequent, {answer[:60]!r}, is that of {count:,}: take a lower "
                f"--set task.least_count, or --set task.vocabulary=train"
            )
        raise DatasetFormatError(
            f"no answer is that of {least_count:,} or more of {len(chosen):,} questions; {most}"
        )
    return AnswerVocabulary(listed, normalise)


def all_answers(chosen: Sequence[str], *, normalise: bool = True) -> AnswerVocabulary:
    """Return every answer in its first spelling, in order of first appearance.

    The list of a dataset that has none; of train, as others are not known when a head is built.

    >>> all_answers(["no", "Two", "yes", "2", "no"]).answers
    ('no', 'Two', 'yes')

    Args:
        chosen: The one answer of each question.
        normalise: As of `AnswerVocabulary`; otherwise each spelling is an answer.

    Raises:
        DatasetFormatError: There is no answer, or there are too many.
    """
    forms = normalise_answers(chosen) if normalise else list(chosen)
    first: dict[str, str] = {}
    for form, answer in zip(forms, chosen, strict=True):
        first.setdefault(form, answer)
    return AnswerVocabulary(tuple(first.values()), normalise)


def _twice(answers: Sequence[str], first: int, second: int) -> str:
    both = f"answers {first + 1} and {second + 1} of the list"
    spellings = [repr(answers[place][:60]) for place in (first, second)]
    if answers[first] == answers[second]:
        return f"{both} are both {spellings[0]}"
    return (
        f"{both}, {' and '.join(spellings)}, are one answer in the form in which they are compared"
    )
