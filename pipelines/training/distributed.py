"""Several processes that train one adapter together, each on its share of every batch.

Each process embeds its share of the rows, all embeddings are gathered, and every process computes
the loss of the whole batch. Each takes the gradient that goes through its own rows, and the sum
over the processes is the gradient that one process would have.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, distributed, nn

from ...featcache.errors import DeviceError, ProcessLostError, SpecError
from ...featcache.hardware import resolve_device
from ..common.torchrun import Launch

T = TypeVar("T")
_PATIENCE = timedelta(hours=6)  # the first may validate for long; one that ends is noticed before


@dataclass(frozen=True)
class ProcessGroup:
    """Collective operations of the processes of one training; no-ops for one alone.

    All of them raise a ProcessLostError where another process has ended.

    Attributes:
        rank: Number of this process, in [0, count).
        count: Number of processes, all of which must make the same calls in the same order.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Return whether this is the process that writes files and prints for all."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """Return a seed of this process's own; the first has `seed` itself."""
        if self.is_first:
            return seed
        # 32 bits, as the generator of the CPU ignores all further ones
        return int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0])

    def shares(self, num_rows: int) -> list[Int64[np.ndarray, " share"]]:
        """Return the rows of a batch that each process embeds; some may have one more, or none."""
        return np.array_split(np.arange(num_rows), self.count)

    def gather(
        self, share: Float[Tensor, "share embed"], num_rows: int
    ) -> Float[Tensor, "rows embed"]:
        """Return the embeddings of all processes, in the order of `shares`.

        A gradient goes through the `share` of this process only, part of the `num_rows` of all.
        """
        if self.count == 1:
            return share
        sizes = [len(rows) for rows in self.shares(num_rows)]
        assert sizes[self.rank] == len(share), "these are not the embeddings of the share"
        # an all-gather wants tensors of one size from all processes
        padded = share.new_zeros(max(sizes), share.shape[1])
        padded[: len(share)] = share.detach()
        gathered = [torch.empty_like(padded) for _ in sizes]
        with _with_others():
            distributed.all_gather(gathered, padded)
        parts = [part[:size] for part, size in zip(gathered, sizes, strict=True)]
        # our own share keeps its graph, which no message carries
        parts[self.rank] = share
        return torch.cat(parts)

    def all_reduce_gradients(
        self, parameters: Sequence[nn.Parameter], *, alike: Sequence[nn.Parameter] = ()
    ) -> None:
        """Sum the gradients over the processes, to the same bits in each.

        Args:
            parameters: What has a part of its gradient in each process.
            alike: What has its whole gradient in each, such as the scale of an objective: that of
                the first process is taken.
        """
        if self.count == 1:
            return
        trained = [p for p in (*parameters, *alike) if p.requires_grad]
        if not self.is_first:
            for parameter in alike:
                parameter.grad = None
        partials = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        # a parameter that no process has used must stay without a gradient, or it would decay
        used = partials[0].new_tensor([p.grad is not None for p in trained])
        summed = torch.cat([used, *(partial.flatten() for partial in partials)])
        with _with_others():
            distributed.all_reduce(summed)
        gradients = torch.split(summed[len(trained) :], [p.numel() for p in trained])
        uses = summed[: len(trained)].tolist()
        for parameter, gradient, used_by in zip(trained, gradients, uses, strict=True):
            whole = gradient.view_as(parameter).to(parameter.dtype)
            parameter.grad = whole if used_by else None

    def broadcast_from_rank0(self, work: Callable[[], T]) -> T:
        """Call `work` in the first process and return its result, a JSON value, in all.

        Raises:
            ProcessLostError: It has failed in the first process, or another process has ended. The
                first process raises what `work` has raised.
        """
        if self.count == 1:
            return work()
        if not self.is_first:
            message = json.loads(self._receive())
            if "error" in message:
                raise ProcessLostError(f"the first process has failed: {message['error']}")
            value: T = message["value"]
            return value
        try:
            done = work()
        except Exception as error:
            self._send({"error": str(error)})
            raise
        self._send({"value": done})
        return done

    def barrier(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            with _with_others():
                distributed.barrier()

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Copy the values of these tensors from the first process to all."""
        if self.count == 1:
            return
        for tensor in tensors:
            with _with_others():
                distributed.broadcast(tensor.detach(), src=0)

    def check_alike(self, fingerprint: str) -> None:
        """Refuse to train different things together.

        Raises:
            SpecError: The fingerprint of what this process trains is not that of the first.
        """
        if self.broadcast_from_rank0(lambda: fingerprint) != fingerprint:
            raise SpecError(
                f"process {self.rank} of {self.count} would train something else than the first: "
                "all need the same command, presets and newest stores"
            )

    def random_states(self, device: torch.device) -> dict[str, UInt8[Tensor, " bytes"]]:
        """Return the states of the random generators of all processes but the first, by rank."""
        if self.count == 1:
            return {}
        states = [torch.get_rng_state()]
        if device.type == "cuda":
            states.append(torch.cuda.get_rng_state(device))
        own_state = torch.cat(states)
        gathered = [torch.empty_like(own_state) for _ in range(self.count)]
        with _with_others():
            distributed.all_gather(gathered, own_state)
        return {str(rank): state for rank, state in enumerate(gathered) if rank > 0}

    def set_random_state(
        self, states: dict[str, UInt8[Tensor, " bytes"]], device: torch.device
    ) -> None:
        """Restore this process's part of `random_states`, in which the first has none."""
        if self.is_first:
            return
        state = states[str(self.rank)]
        size = len(torch.get_rng_state())
        torch.set_rng_state(state[:size].clone())
        # the generator of a GPU follows that of the CPU where the run was begun on one
        if device.type == "cuda" and len(state) > size:
            torch.cuda.set_rng_state(state[size:].clone(), device)

    # bytes of JSON, as torch's broadcast of objects would pickle them
    def _send(self, value: object) -> None:
        content = bytearray(json.dumps(value).encode())
        with _with_others():
            distributed.broadcast(torch.tensor([len(content)]), src=0)
            distributed.broadcast(torch.frombuffer(content, dtype=torch.uint8), src=0)

    def _receive(self) -> bytes:
        length = torch.zeros(1, dtype=torch.int64)
        with _with_others():
            distributed.broadcast(length, src=0)
            content = torch.empty(int(length), dtype=torch.uint8)
            distributed.broadcast(content, src=0)
        return content.numpy().tobytes()


ALONE = ProcessGroup()


@contextmanager
def joined(device_name: str) -> Iterator[tuple[ProcessGroup, torch.device]]:
    """Join the processes that torchrun started; yield them and this one's device.

    Args:
        device_name: `auto`, `cpu` or `cuda`; on CUDA each process has a GPU of its own.

    Raises:
        SpecError: This process's number is missing or wrong.
        DeviceError: There is no such device, or there are more processes than GPUs.
        ProcessLostError: Another process has ended before it came here.
    """
    launch = Launch.of_environment()
    if launch.count == 1:
        yield ALONE, resolve_device(device_name)
        return
    device = _own_device(device_name, launch)
    # what is said beside the training, such as scores, goes through the CPU
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    # its functions keep the group of all processes as a default if there is one when they are first
    # imported, as the first step of an optimiser does; a kept group has threads to the end, and
    # Python aborts where one of them still frees a tensor then
    import_module("torch.distributed.nn.functional")
    with _with_others():
        distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield ProcessGroup(launch.rank, launch.count), device
    finally:
        distributed.destroy_process_group()


def _own_device(name: str, launch: Launch) -> torch.device:
    device = resolve_device(name)
    if device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise DeviceError(f"{launch.count} processes train on cpu or cuda, not on {name!r}")
    if launch.local_rank >= torch.cuda.device_count():
        raise DeviceError(
            f"process {launch.local_rank} of this machine has no GPU of its own: there are "
            f"{torch.cuda.device_count()}; start as many processes"
        )
    gpu = torch.device("cuda", launch.local_rank)
    torch.cuda.set_device(gpu)
    return gpu


@contextmanager
def _with_others() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:  # of this process
        raise
    except RuntimeError as error:
        raise ProcessLostError(
            "another process of this training has failed or was stopped; it says why, and "
            f"`--resume` goes on ({str(error).splitlines()[0]})"
        ) from error
