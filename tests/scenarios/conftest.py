"""The small homes of the tests of the verbs: scenarios go through several of them."""

from ..pipelines.conftest import (
    home,
    questions,
    short_measurements,
    toy_home,
    toy_questions,
    untried,
)

__all__ = ["home", "questions", "short_measurements", "toy_home", "toy_questions", "untried"]
