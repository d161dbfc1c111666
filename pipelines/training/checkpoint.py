"""State of a training, from which it goes on as if it had never stopped: one file of a run."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...adapters.checkpoint import tensor_hash
from ...featcache.atomic_files import replacing
from ...featcache.config import fingerprint
from ...featcache.documents import check, parse_json
from ...featcache.errors import StoreCorruptError
from ...featcache.regular_files import check_regular
from ...featcache.store.verified_files import promise_of
from ...featcache.writing import open_new, safetensors_header
from ..runs import run_folder
from ..runs.state_record import ENTRY, LogPromise

T = TypeVar("T")
# what safetensors, json and torch raise of content that is not that of a state
_UNREADABLE = (
    safetensors.SafetensorError,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    MemoryError,
)


@dataclass
class TrainingState:
    """State of a training at the end of an epoch, besides its tensors.

    Attributes:
        epoch: Epochs that are done.
        step: Steps that are done.
        best: Record of the best epoch, or nothing yet.
        best_files: Size and checksum of each file of its weights, and of the spec, by name.
        best_score: Its score, the higher the better.
        bad_epochs: Epochs since then.
        lowest_loss: Lowest validation loss, for the plateau schedule.
        flat_epochs: Epochs since the plateau schedule last saw a lower one.
        factor: Factor of the plateau schedule on the learning rate.
        seconds: Wall-clock time so far.
        seconds_waiting: Time of it in which the next batch was not ready.
        log: Lines, bytes and checksum of the log; None in states of earlier versions.
        is_finishing: Whether all epochs are done, and the modules of the state are the best ones.
    """

    epoch: int = 0
    step: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    best_files: dict[str, Any] = field(default_factory=dict)
    best_score: float = -float("inf")
    bad_epochs: int = 0
    lowest_loss: float = float("inf")
    flat_epochs: int = 0
    factor: float = 1.0
    seconds: float = 0.0
    seconds_waiting: float = 0.0
    log: LogPromise | None = None
    is_finishing: bool = False

    def begin_finish(self) -> None:
        """Remember that the best weights are in the state itself, and their files may change."""
        self.is_finishing = True
        names = {run_folder.SPEC} & set(self.best_files)
        self.best_files = {name: self.best_files[name] for name in names}

    def promise_best(self, folder: Path) -> None:
        """Remember what the files of the best weights are, once they are written."""
        names = (run_folder.SPEC, run_folder.TABLE, run_folder.WEIGHTS)
        self.best_files = {name: promise_of(folder / name) for name in names}

    def require_spec(self, folder: Path) -> None:
        """Check that the spec is that which the training began with.

        Raises:
            StoreCorruptError: It is another.
        """
        name = run_folder.SPEC
        spec = {name: self.best_files[name]} if name in self.best_files else {}
        run_folder.require_files(
            folder,
            spec,
            "its training began with another spec; restore it, or remove the run by "
            f"`{run_folder.removal(folder)}`",
        )

    def require_best(self, folder: Path) -> None:
        """Check that the best weights are those that were written, maybe before a stop.

        Raises:
            StoreCorruptError: They are others.
        """
        run_folder.require_files(
            folder,
            self.best_files,
            "the best weights of the run are lost; remove it by "
            f"`{run_folder.removal(folder)}` and train anew",
        )

    def waiting_for(self, batches: Iterator[T]) -> Iterator[T]:
        """Yield the same and count the seconds in which the next one was not ready."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.seconds_waiting += time.perf_counter() - began
            if batch is None:
                return
            yield batch


def save_state(
    folder: Path,
    counts: TrainingState,
    modules: Mapping[str, nn.Module],
    optimiser: Optimizer,
    others: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the state of a training into its run folder, atomically, after at least one step.

    `others` are further tensors and numbers, by owner and name.
    """
    tensors: dict[str, Tensor] = {"random": torch.get_rng_state()}
    # of every GPU: a state does not say which of them trained
    if torch.cuda.is_available():
        for number, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"random.cuda.{number}"] = state
    for owner, module in modules.items():
        tensors |= {f"module.{owner}.{name}": value for name, value in module.state_dict().items()}
    for number, parameter in enumerate(_parameters(optimiser)):
        for name, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{number}.{name}"] = torch.as_tensor(value)
    for owner, table in others.items():
        for name, value in table.items():
            tensors[f"other.{owner}.{name}"] = torch.as_tensor(value)
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    written = vars(counts)
    entry = {"counts": written, "checksum": _checksum(written, whole)}
    metadata = {ENTRY: json.dumps(entry, sort_keys=True)}
    with replacing(folder / run_folder.STATE) as temporary:
        _write_tensors(temporary, whole, metadata)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    # larger elements first: then each begins at a multiple of its element's size
    ordered = dict(sorted(tensors.items(), key=lambda named: (-named[1].itemsize, named[0])))
    described = {
        name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.nbytes)
        for name, tensor in ordered.items()
    }
    with open_new(path) as file:
        file.write(safetensors_header(described, metadata))
        # one after the other: all of them as bytes would be in memory once more
        for tensor in ordered.values():
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


def load_state(
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimiser: Optimizer,
    tell: Callable[[str], None],
) -> tuple[TrainingState, dict[str, dict[str, Tensor]]]:
    """Load the state of a run folder into modules, optimiser and random generators.

    Returns what is not a tensor, and `others`. `tell` receives a line where nobody can tell whether
    the state is as it was written.

    Raises:
        StoreCorruptError: The file is damaged, or of another training.
    """
    path = folder / run_folder.STATE
    with restoring(folder):
        check_regular(path)
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            written = parse_json(file.metadata()[ENTRY], where=f"{path}: metadata")
        counts = _checked(written, tensors)
        for owner, module in modules.items():
            module.load_state_dict(_below(tensors, f"module.{owner}."))
    if "checksum" not in written:
        tell(f"{path} was written without a checksum: nobody can tell whether it is whole")
    # another spec under the same weights would train something that no report could describe
    counts.require_spec(folder)
    with restoring(folder):
        _restore_optimiser(optimiser, tensors)
        torch.set_rng_state(tensors["random"])
        cuda = _below(tensors, "random.cuda.")
        if cuda and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([cuda[str(number)] for number in range(len(cuda))])
    others: dict[str, dict[str, Tensor]] = {}
    for name, value in _below(tensors, "other.").items():
        owner, _, rest = name.partition(".")
        others.setdefault(owner, {})[rest] = value
    return counts, others


@contextmanager
def restoring(folder: Path) -> Iterator[None]:
    """Name the state of a run where what is read of it does not fit the training.

    Raises:
        StoreCorruptError: It does not.
    """
    try:
        yield
    # the file may be well where its reader lacks the right
    except PermissionError:
        raise
    except _UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StoreCorruptError(
            f"{folder / run_folder.STATE} cannot be gone on from: {reason}; remove the run by "
            f"`{run_folder.removal(folder)}` and train anew"
        ) from error


def _restore_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the state of each parameter in an optimiser.

    Raises:
        ValueError: It is of parameters of another shape.
    """
    for number, parameter in enumerate(_parameters(optimiser)):
        state = _below(tensors, f"optimiser.{number}.")
        for name, value in state.items():
            if value.ndim > 0 and value.shape != parameter.shape:
                raise ValueError(f"{name} of parameter {number} has shape {list(value.shape)}")
        if state:
            # counts of steps stay on the CPU, as the optimisers have them
            optimiser.state[parameter] = {
                name: value if value.ndim == 0 else value.to(parameter.device)
                for name, value in state.items()
            }


def _checked(written: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TrainingState:
    """Return the counts of a state whose content is as it was written.

    Raises:
        ValueError: Its checksum differs.
    """
    # earlier versions wrote the counts alone, without a table around them
    counts = written.get("counts", written)
    check(counts, TrainingState, where="its metadata")
    if "checksum" in written and written["checksum"] != _checksum(counts, tensors):
        raise ValueError("its checksum differs")
    return TrainingState(**counts)


def _checksum(counts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the hash of all that a state holds, in hexadecimal."""
    return fingerprint([dict(counts), tensor_hash(tensors)])


def _parameters(optimiser: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
