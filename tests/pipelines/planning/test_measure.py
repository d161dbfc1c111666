"""Real steps in a process of their own, beside what is predicted of them."""

import numpy as np
import pytest

from lightalign.featcache.errors import OutOfMemoryError
from lightalign.pipelines.planning import measure, plan
from lightalign.pipelines.planning.measure import STATUS, watching_memory
from lightalign.pipelines.planning.spec import PlanSpec


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("kill -9 $$", OutOfMemoryError, "three steps do not fit this machine: signal 9"),
        ("echo RuntimeError: out of memory >&2; exit 1", OutOfMemoryError, "out of memory"),
        ("echo no such module >&2; exit 1", RuntimeError, "has failed:\nno such module"),
    ],
)
def test_what_stops_the_measured_steps_is_told_apart(script, error, message, monkeypatch, tmp_path):
    other = tmp_path / "python"
    other.write_text(f"#!/bin/sh\n{script}\n")
    other.chmod(0o755)
    monkeypatch.setattr(measure.sys, "executable", str(other))
    with pytest.raises(error, match=message):
        measure.measure(PlanSpec(), "cpu")


@pytest.mark.skipif(not STATUS.is_file(), reason="Linux says what a process takes")
def test_what_a_process_takes_and_gives_back_is_seen():
    with watching_memory() as own:
        taken = np.ones(2**25)  # 256 MiB
        del taken
    assert own.bytes == pytest.approx(2**28, rel=0.1)


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.is_file(), reason="Linux says what a process takes")
def test_three_steps_are_measured():
    small = ("towers.both.project.out=8", "train.batch_size=4", "train.accumulate=2")
    spec = PlanSpec(preset="linear", overrides=small, measure=True, image_tokens=4, device="cpu")
    assert 0 <= plan.run(spec).measured < 10**9


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("preset", "batch_size", "chunk_size"),
    [
        ("peme/bridge", 16, 0),
        ("peme/bridge", 64, 16),
        ("linear", 4096, 64),
        ("lightalign/base", 256, 0),
        ("lightcrl/additive", 256, 64),
    ],
)
def test_a_measured_process_takes_what_is_predicted(preset, batch_size, chunk_size):
    sizes = (f"train.batch_size={batch_size}", f"train.chunk_size={chunk_size}")
    overrides = (*sizes, "train.accumulate=1")
    spec = PlanSpec(preset=preset, overrides=overrides, measure=True, device="cpu")
    planned = plan.run(spec)
    assert planned.predicted.total == pytest.approx(planned.measured, rel=0.15)
