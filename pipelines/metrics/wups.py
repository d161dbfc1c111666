"""How near wrong answers are to right ones by the meaning of words: WUPS of DAQUAR."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from .wordnet import VERSION, WordNet, find_wordnet, how_to_install

# 0.9 and 0 as in the paper, 0.925 as OneEncoder's scripts
THRESHOLDS = (0.9, 0.0, 0.925)
_FAR = 0.1  # what the similarity of two words below the threshold is multiplied by


def wups_definition(wordnet: WordNet) -> str:
    """Return what `wups_...` means, and by which WordNet it is."""
    return (
        "mean over all questions of the Wu-Palmer similarity of the answer to all right ones, "
        "percent; the number in the name is the threshold below which a similarity counts a tenth; "
        "words without a noun sense are like none but themselves; by the nouns of WordNet "
        f"{wordnet.version}"
    )


def wordnet_or_warning() -> tuple[WordNet | None, str | None]:
    """Return WordNet, and what to know before its numbers are believed, or why there are none.

    Raises:
        DatasetNotFoundError: It is not where `LIGHTALIGN_WORDNET` says.
        DatasetFormatError: It is damaged.
    """
    wordnet = find_wordnet()
    if wordnet is None:
        return None, f"WUPS is left out, as WordNet is not installed; do: {how_to_install()}"
    if wordnet.version != VERSION:
        return wordnet, (
            f"WUPS is by WordNet {wordnet.version}; published numbers are by {VERSION}, whose "
            "nouns and similarities differ"
        )
    return wordnet, None


def word_similarity(wordnet: WordNet, first: str, second: str, threshold: float) -> float:
    """Return how alike two words are, in [0, 1].

    1 if they are the same, however written; 0 if one of them has no noun sense; else the largest
    Wu-Palmer similarity of their senses, times 0.1 where it is below the threshold.

    Args:
        wordnet: What the words mean.
        first: A word, or several with spaces or underscores between them.
        second: The other.
        threshold: Of similarities, in [0, 1].
    """
    words = _word(first), _word(second)
    if words[0] == words[1]:
        return 1.0
    similarity = wordnet.similarity(*words)
    return similarity if similarity >= threshold else _FAR * similarity


def set_similarity(
    wordnet: WordNet, answers: Sequence[str], truths: Sequence[str], threshold: float
) -> float:
    """Return how alike the answers to one question are to the right ones, in [0, 1].

    min(prod_a max_t m(a, t), prod_t max_a m(a, t)), m of `word_similarity`: every answer has to
    be near a right one, and every right one near an answer.

    To `chair, table` the answer `table` gets the smaller of 1 and .8421 x 1, at threshold 0.

    Source: Malinowski and Fritz, A Multi-World Approach to Question Answering about Real-World
    Scenes based on Uncertain Input, NeurIPS 2014, the WUPS score.

    Args:
        wordnet: What the words mean.
        answers: At least one.
        truths: At least one.
        threshold: As of `word_similarity`.
    """
    assert answers
    assert truths
    table = np.array(
        [
            [word_similarity(wordnet, answer, truth, threshold) for truth in truths]
            for answer in answers
        ]
    )
    near_truths, near_answers = (
        math.prod(float(largest) for largest in table.max(axis=axis)) for axis in (1, 0)
    )
    return min(near_truths, near_answers)


def wups_scores(
    wordnet: WordNet,
    answers: Sequence[str],
    truths: Sequence[str],
    ends: Int64[np.ndarray, " questions"],
    *,
    threshold: float,
) -> Float64[np.ndarray, " questions"]:
    """Return `set_similarity` of the one answer to each question and all right ones.

    Args:
        wordnet: What the words mean.
        answers: What is answered to each question.
        truths: All right answers to all questions, one question after the other. What ten
            annotators said is no such set: of them give the label alone.
        ends: Where those of each question end.
        threshold: As of `word_similarity`.
    """
    assert len(answers) == len(ends)
    right = list(truths)
    starts = [0, *ends.tolist()[:-1]]
    return np.array(
        [
            set_similarity(wordnet, [answer], right[start:end], threshold)
            for answer, start, end in zip(answers, starts, ends.tolist(), strict=True)
        ],
        dtype=np.float64,
    )


def _word(answer: str) -> str:
    return "_".join(answer.lower().split())
