"""The small homes of the tests of the verbs: scenarios go through several of them."""

from ..pipelines.conftest import home, short_measurements, toy_home, untried

__all__ = ["home", "short_measurements", "toy_home", "untried"]
