"""The commands that train, and the one that says beforehand what a training takes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, TypeVar

import typer

from ...featcache.bounds import MOST
from ...featcache.errors import SpecError
from ...featcache.settings import Setting
from ..classification.fine_tune_spec import FineTuneSpec, options_of
from ..planning.spec import PlanSpec
from ..training.joint_spec import TrainJointSpec
from ..training.spec import TrainReport, TrainSpec
from ._common import CommandOutput, Overrides, option
from ._from_spec import command
from ._set_keys import fine_tune_keys, joint_keys, plan_keys, training_keys

Resume = Annotated[
    str | None, typer.Option(help="Go on with this stopped run; without other options.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say parameters, memory and minutes; write nothing.")
]
SameText = Annotated[
    str | None,
    typer.Option(help="Captions that say the same: positive, negative or drop; the preset's rule."),
]
BatchSize = Annotated[
    int | None, option(Setting("Images of a batch; the preset's if none.", least=2, most=MOST))
]
ChunkSize = Annotated[
    int | None,
    option(Setting("Rows in memory with a graph; 0: all of the batch.", least=0, most=MOST)),
]
S = TypeVar("S", TrainSpec, PlanSpec)


@command(
    TrainSpec,
    before={"fusion": "preset", "resume": "tensorboard"},
    reads_stores=True,
    shared_by_processes=True,
    set_keys=training_keys,
)
def train_adapter(
    spec: TrainSpec,
    output: CommandOutput,
    *,
    resume: Resume = None,
    dry_run: DryRun = False,
    same_text: SameText = None,
) -> None:
    """Train a light adapter on cached features.

    Below `torchrun --nproc-per-node N --no-python` N processes share each batch, on a GPU each or
    on the CPU, and take the steps that one would.
    """
    from ..training import train

    if resume is not None:
        _go_on(spec, resume, output, is_alone=not (dry_run or same_text))
        return
    spec = _with_overrides(spec, {"same_text": same_text})
    if dry_run:
        _estimate(spec, output)
    else:
        _tell(train.run(spec, output.progress), output)


@command(
    TrainJointSpec,
    before={"resume": "tensorboard"},
    reads_stores=True,
    shared_by_processes=True,
    set_keys=joint_keys,
)
def train_joint(
    spec: TrainJointSpec,
    output: CommandOutput,
    *,
    resume: Resume = None,
    dry_run: DryRun = False,
) -> None:
    """Train an adapter that reads images and texts together, on cached features.

    It says whether an image and a text belong together (itm), and answers questions about images
    (answers). Below `torchrun --nproc-per-node N --no-python` N processes share each batch.
    """
    from ..training import train

    if resume is not None:
        _go_on(spec, resume, output, is_alone=not dry_run)
    elif dry_run:
        _estimate(spec, output)
    else:
        _tell(train.run_joint(spec, output.progress), output)


def _go_on(
    spec: TrainSpec | TrainJointSpec, run: str, output: CommandOutput, *, is_alone: bool
) -> None:
    """Go on with a stopped run, and tell what came of it.

    `is_alone` says that no option beside the spec asks for anything.

    Raises:
        SpecError: Something is.
    """
    from ..training import train

    if not is_alone or spec != type(spec)(home=spec.home, device=spec.device):
        raise SpecError("--resume goes on with what the run was begun with: give it alone")
    joint = isinstance(spec, TrainJointSpec)
    trained = train.resume(
        spec.home, run, device=spec.device, progress=output.progress, joint=joint
    )
    _tell(trained, output)


def _estimate(spec: TrainSpec | TrainJointSpec, output: CommandOutput) -> None:
    """Tell what a training would cost."""
    # imports torch, for seconds; mistakes of the options are told without it
    from ..planning.dry_run import run
    from ..rendering.training import train_estimate_parts

    estimated = run(spec, output.progress)
    output.answer(estimated, *train_estimate_parts(estimated))


def _tell(trained: TrainReport, output: CommandOutput) -> None:
    """Tell what came of a training."""
    from ..rendering.training import train_lines

    output.result({"folder": str(trained.folder), **trained.report}, *train_lines(trained))


@command(
    PlanSpec,
    before={"batch_size": "image_encoder", "chunk_size": "image_encoder"},
    set_keys=plan_keys,
)
def plan(
    spec: PlanSpec,
    output: CommandOutput,
    *,
    batch_size: BatchSize = None,
    chunk_size: ChunkSize = None,
) -> None:
    """Predict the memory of a step of a training, and find what fits a budget."""
    from ..planning.plan import run
    from ..rendering.training import plan_parts

    planned = run(_with_overrides(spec, {"batch_size": batch_size, "chunk_size": chunk_size}))
    output.answer(vars(planned), *plan_parts(planned))


def _with_overrides(spec: S, options: Mapping[str, Any]) -> S:
    """Return a spec in which options of `[train]` that have a flag are as these say."""
    options = {name: value for name, value in options.items() if value is not None}
    more = tuple(f"train.{name}={value}" for name, value in options.items())
    return replace(spec, overrides=spec.overrides + more)


@command(FineTuneSpec, reads_stores=True, set_keys=fine_tune_keys)
def fine_tune(spec: FineTuneSpec, output: CommandOutput, *, overrides: Overrides = None) -> None:
    """Train the adapter of a run on with a head of classes, on cached tokens."""
    from ...featcache.config import apply_overrides
    from ..classification.fine_tune import run
    from ..rendering.evaluations import accuracy_parts, fine_tuned_line

    options = options_of(spec.protocol, apply_overrides({}, overrides or []))
    tuned = run(replace(spec, **options), output.progress)
    output.result(
        {"folder": str(tuned.folder), "trained": tuned.trained, **tuned.report},
        *accuracy_parts(tuned.report),
        fine_tuned_line(tuned.trained),
        f"run: {tuned.folder}",
    )
