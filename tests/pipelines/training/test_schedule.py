from itertools import pairwise

import pytest

from lightalign.pipelines.training.optimisation import cosine_with_warmup


def test_the_rate_rises_and_falls_as_worked_out():
    """Ten steps, two of warm-up: 1/2, 1, then (1 + cos(pi i / 8)) / 2; half down at step 6."""
    factors = [cosine_with_warmup(step, num_steps=10, warmup=0.2) for step in range(10)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[6] == pytest.approx(0.5)
    assert factors[9] == pytest.approx(0.0380602)  # (1 + cos(7 pi / 8)) / 2
    assert all(after <= before for before, after in pairwise(factors[2:]))


def test_without_warmup_the_first_step_is_the_highest():
    assert cosine_with_warmup(0, num_steps=5, warmup=0.0) == 1.0
