"""Types are checked in every test, whether a function has shapes or none."""

from dataclasses import dataclass

import pytest
import torch
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import Item
from lightalign.pipelines.common.byte_sizes import parse_bytes

from .typing_hook import check_types

REFUSED = (BeartypeCallHintViolation, TypeCheckError)
checked = check_types(typechecker=beartype)


@checked
def count(text: str, wrong: bool = False) -> int:
    return text if wrong else len(text)  # type: ignore[return-value]


@checked
def add(first: Float[Tensor, " n"], second: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return first + second if len(first) > 1 else first.repeat(2)


@checked
@dataclass
class Named:
    name: str


@checked
@dataclass
class Pair:
    first: Float[Tensor, " n"]
    second: Float[Tensor, " n"]


ONE, TWO, THREE = torch.zeros(1), torch.zeros(2), torch.zeros(3)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: count(5),
        lambda: count("five", wrong=True),
        lambda: add(TWO, "two"),
        lambda: add(TWO, THREE),
        lambda: add(ONE, ONE),
        lambda: Named(5),
        lambda: Pair(TWO, THREE),
    ],
)
def test_wrong_arguments_results_and_fields_are_refused(wrong):
    with pytest.raises(REFUSED):
        wrong()


def test_what_is_right_passes():
    assert (count("five"), add(TWO, TWO).shape, Named("a").name) == (4, TWO.shape, "a")
    assert Pair(TWO, TWO).first is TWO


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: parse_bytes(5),
        lambda: Item(id=5),
        lambda: Tokens(torch.zeros(2, 3, 4), torch.zeros(3, 3, dtype=torch.bool)),
    ],
)
def test_the_package_is_checked(wrong):
    with pytest.raises(REFUSED):
        wrong()
