"""Take three training steps on random features in a process of their own, and watch its memory."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...featcache.config import build, to_table
from ...featcache.errors import OutOfMemoryError, SpecError
from ...featcache.hardware import memory_fields
from ...featcache.memory_errors import lack_of_memory
from .planned import Planned
from .planned_steps import planned_step
from .spec import PlanSpec

STATUS = Path("/proc/self/status")  # where Linux says how much memory a process takes
_SECONDS = 0.005  # between two looks; the products and sums at a peak last longer
_STEPS = 3
# glibc otherwise keeps blocks of many megabytes when they are freed, up to half of a peak again,
# and from run to run another part of them
_RETURNED = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}


def measure(spec: PlanSpec, device: str) -> int:
    """Return the most bytes that three steps take on a device, `cpu` or `cuda`.

    Raises:
        SpecError: This system does not say how much memory a process takes.
        OutOfMemoryError: They do not fit.
    """
    if device == "cpu" and not STATUS.is_file():
        raise SpecError(f"--measure on a CPU needs {STATUS}, which this system has not")
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import main; main()"],
        input=json.dumps(to_table(spec)),
        env={**os.environ, **_RETURNED},
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return int(json.loads(done.stdout)["peak"])
    lacking = lack_of_memory(RuntimeError(done.stderr))
    if done.returncode < 0 or lacking or "MemoryError" in done.stderr:
        reason = (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1]
        raise OutOfMemoryError(f"three steps do not fit this machine: {reason}")
    raise RuntimeError(f"the process that measures has failed:\n{done.stderr}")


def main() -> None:
    """Read a `PlanSpec` as JSON from standard input and write the peak as JSON."""
    step = planned_step(build(PlanSpec, json.load(sys.stdin), where="plan"))
    json.dump({"peak": peak_of_steps(step)}, sys.stdout)


def peak_of_steps(step: Planned) -> int:
    """Return the bytes that three steps take at most, above what this process has without them."""
    few = replace(step.options, batch_size=2, chunk_size=min(step.options.chunk_size, 1))
    # the first step loads libraries, which are no part of a step's memory
    take_steps(replace(step, options=few))
    if step.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(step.device)
        before = torch.cuda.memory_allocated(step.device)
        take_steps(step)
        return torch.cuda.max_memory_allocated(step.device) - before
    with watching_memory() as memory:
        take_steps(step)
    return memory.bytes


def take_steps(step: Planned) -> None:
    """Take three steps, each of the gradients of as many batches as the options say."""
    options = step.options
    images = options.mixup.mixtures(options.batch_size)
    modules = step.modules(step.device)
    train_step = step.train_step(modules, images, step.device)
    batches = [
        step.batch(images, step.device, modules.objective) for _ in range(step.batches_ready)
    ]
    for number in range(_STEPS * options.accumulate):
        train_step.add_gradient(batches[number % len(batches)])
        if (number + 1) % options.accumulate == 0:
            train_step.take()


@dataclass
class ProcessMemory:
    """The most bytes that a process took for itself, above those before."""

    bytes: int = 0


@contextmanager
def watching_memory() -> Iterator[ProcessMemory]:
    """Watch how much memory this process takes within the block.

    Pages of files do not count: libraries that are read in when they are first needed, and stores
    that are mapped, can be dropped at any time. The kernel keeps no peak without them, so that
    someone has to look, two hundred times a second.
    """
    memory, before, done = ProcessMemory(), _anonymous_bytes(), threading.Event()

    def look() -> None:
        memory.bytes = max(memory.bytes, _anonymous_bytes() - before)

    def watch() -> None:
        while not done.wait(_SECONDS):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        done.set()
        thread.join()
        look()


def _anonymous_bytes() -> int:
    return memory_fields(STATUS)["RssAnon"]
