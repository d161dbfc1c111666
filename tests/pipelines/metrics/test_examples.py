"""The worked examples in the docstrings of metrics are as they say."""

import doctest
import importlib
import pkgutil

import pytest

from lightalign.pipelines import metrics

MODULES = [module.name for module in pkgutil.iter_modules(metrics.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_file_are_right(name):
    module = importlib.import_module(f"{metrics.__name__}.{name}")
    assert doctest.testmod(module).failed == 0


def test_formulas_have_examples():
    tests = [
        test
        for name in MODULES
        for test in doctest.DocTestFinder().find(
            importlib.import_module(f"{metrics.__name__}.{name}")
        )
        if test.examples
    ]
    assert len(tests) >= 15
