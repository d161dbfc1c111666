"""The VQA benchmark's form of answers, against what its own evaluator makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightalign.pipelines.metrics.answer_normaliser import normalise_answer, normalise_answers

# by `processPunctuation` and `processDigitArticle` of the published evaluator
PUBLISHED = {
    "Two": "2",
    "none": "0",
    "a red car": "red car",
    "1,000": "1000",
    "T-shirt": "t shirt",
    "dont": "don't",
    "U.S.": "us",
    "yes, it is": "yes it is",
    "3.5": "3.5",
    "": "",
    "The": "",
    "  An\tapple\n": "apple",
    "garbage_bin": "garbage bin",
    "red/white": "red white",
    "red / white": "red white",
    "1,000 red/white": "1000 redwhite",  # a comma in a number takes all marks away
    "a/b, c/d": "b c d",  # the comma stands beside a space, the stroke does not
    "-a -b": "b",
    "10:30 a.m.": "10:30 am",
    "costs .5": "costs .5",
    "v1.": "v1",
    "ten/twelve": "10 twelve",
    "he's": "he's",
    "couldnt've": "couldn't've",
    "couldn'tve": "couldn't've",
    "couldntve": "couldntve",
    "ow's'at": "'ow's'at",
    "somebody'd": "somebodyd",
    "Im": "im",
    "lets": "lets",
    "shes": "shes",
    "wont wont": "won't won't",
    "what? no!": "what no",
    "don\u2019t": "don\u2019t",
    "50%": "50%",
    "ÉTÉ": "été",
}


@pytest.mark.parametrize(("answer", "form"), PUBLISHED.items())
def test_an_answer_has_the_published_form(answer, form):
    assert normalise_answer(answer) == form


def test_all_periods_go_however_many():
    """The published evaluator leaves those after the 32nd."""
    assert normalise_answer("no" + 40 * ".") == "no"


@given(st.text(max_size=20))
def test_a_form_is_words_in_lower_case_with_one_space_between(answer):
    form = normalise_answer(answer)
    assert form == " ".join(form.split())
    assert not {"a", "an", "the"} & set(form.split())
    assert not set(form) & set(';/[]"{}()=+\\_-><@`,?!')


@given(st.lists(st.sampled_from(list(PUBLISHED))))
def test_many_answers_have_the_form_of_each_in_their_order(answers):
    assert normalise_answers(answers) == [PUBLISHED[answer] for answer in answers]
