import threading

import pytest

from lightalign.pipelines.common.prefetch import prefetch


def test_results_come_in_order_whatever_finishes_first():
    gates = {0: threading.Event(), 1: threading.Event()}

    def work(value: int) -> int:
        if value == 1:
            gates[0].set()
        if value == 0:
            assert gates[0].wait(5)  # the second must have started before the first may end
        return value * 10

    assert list(prefetch(work, [0, 1], ahead=2, workers=2)) == [0, 10]


def test_no_more_than_asked_is_computed_ahead():
    started = []
    results = prefetch(lambda value: started.append(value), range(100), ahead=3)
    next(results)
    results.close()
    assert len(started) <= 5


def test_an_error_is_raised_in_its_place():
    results = prefetch(lambda value: 1 // value, [1, 0, 1], ahead=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
