"""Form in which answers to questions about pictures are compared: that of the VQA benchmark."""

import re
from collections.abc import Sequence

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_LINE_BREAKS = str.maketrans("\n\t", "  ")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_NUMBERS = "zero one two three four five six seven eight nine ten"
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS.split())} | {"none": "0"}
_ARTICLES = {"a", "an", "the"}
_WORDS = """
    ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't
    mustn't needn't oughtn't shan't shouldn't wasn't weren't won't wouldn't
    could've might've must've not've should've they've we've what've where've who've would've
    you've
    he'd how'd it'd someone'd something'd there'd they'd where'd who'd you'd
    how'll it'll somebody'll someone'll something'll they'll what'll who'll why'll you'll
    he's how's somebody's someone's that's there's what's when's where's who's why's
    there're they're what're why're you're
    ma'am o'clock 'twas y'all 'ow's'at
    couldn't've hadn't've mightn't've shouldn't've wouldn't've
    he'd've it'd've she'd've somebody'd've someone'd've something'd've there'd've they'd've
    we'd've who'd've you'd've y'all'd've y'all'll
"""
# each lacks one apostrophe: couldnt've and couldn'tve, but not couldntve
_CONTRACTIONS = {
    contraction[:place] + contraction[place + 1 :]: contraction
    for contraction in _WORDS.split()
    for place, letter in enumerate(contraction)
    if letter == "'"
} | {"somebody'd": "somebodyd"}  # the wrong way round, as published


def normalise_answer(answer: str) -> str:
    """Return the form in which an answer is compared with others.

    Marks such as `/`, `-`, `_`, `?` and `!` become a space, but not `'`, `:`, `%` or `$`; one that
    stands beside a space anywhere in the answer is removed instead, and all are where a comma
    stands between digits. Periods are removed unless a digit follows. Then, in lower case and word
    by word: zero to ten and none are digits, `a`, `an` and `the` are dropped, and contractions that
    lack an apostrophe get it.

    >>> [normalise_answer(answer) for answer in ("A T-shirt.", "yes, it is", "1,000", "dont")]
    ['t shirt', 'yes it is', '1000', "don't"]

    Source: Antol et al., VQA: Visual Question Answering, ICCV 2015; GT-Vision-Lab/VQA at c4e6a0e,
    `PythonEvaluationTools/vqaEvaluation/vqaEval.py`. It removes the first 32 periods alone, as it
    gives a flag where a count is expected; here all are. Its entries with a capital `I`, as of
    `Im`, never match, as words are in lower case by then: they are left out.
    """
    text = answer.translate(_LINE_BREAKS).strip()
    in_number = _COMMA_IN_NUMBER.search(text) is not None
    spaced = {
        ord(mark): "" if in_number or f"{mark} " in text or f" {mark}" in text else " "
        for mark in _PUNCTUATION
    }
    words = _PERIOD.sub("", text.translate(spaced)).lower().split()
    digits = (_DIGITS.get(word, word) for word in words)
    return " ".join(_CONTRACTIONS.get(word, word) for word in digits if word not in _ARTICLES)


def normalise_answers(answers: Sequence[str]) -> list[str]:
    """Return `normalise_answer` of each; equal ones, of which there are many, are read once."""
    forms = {answer: normalise_answer(answer) for answer in set(answers)}
    return [forms[answer] for answer in answers]
