"""Memory, files and devices of this machine; importing it takes no torch."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DeviceError

if TYPE_CHECKING:
    from torch import device as Device
else:
    Device = Any  # torch is imported where it is asked: free memory is known without it

_UNLIMITED = 2**62  # control groups write their absence of a limit as a huge number


def free_memory(
    *, proc: Path = Path("/proc"), control_groups: Path = Path("/sys/fs/cgroup")
) -> int:
    """Return how many bytes this process can still take without swapping or being stopped.

    It is the least of what the system has available, what the control groups of this process, of
    version 1 or 2, leave, and what its limits on data and address space leave.
    """
    # other systems say what is installed, not what is free in one place
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = [memory_fields(proc / "meminfo").get("MemAvailable", installed)]
    free += _left_by_control_groups(proc, control_groups)
    used = memory_fields(proc / "self" / "status")
    for limit, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            free.append(soft - used.get(field, 0))
    return max(0, min(free))


def free_address_space(*, proc: Path = Path("/proc")) -> int | None:
    """Return how many bytes can still be mapped, or None where that is not limited."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return None
    return max(0, soft - memory_fields(proc / "self" / "status").get("VmSize", 0))


def reserve_files(num_files: int) -> int:
    """Return how many of these files may be kept open, after raising the soft limit if need be.

    A memory map keeps its file open, and a store of 100 GB has more shards than the usual soft
    limit of 1024 has files; half of the limit is left to everything else.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 2 * num_files > soft:
        soft = 2 * num_files if hard == resource.RLIM_INFINITY else min(hard, 2 * num_files)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(num_files, soft // 2)


def _left_by_control_groups(proc: Path, root: Path) -> Iterator[int]:
    """Yield what each control group with a limit leaves to its processes, in bytes."""
    path = proc / "self" / "cgroup"
    for line in path.read_text().splitlines() if path.is_file() else ():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            top, limit, used, cache = root, "memory.max", "memory.current", "inactive_file"
        elif controllers == "memory":
            top, cache = root / "memory", "total_inactive_file"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        below = top / group.lstrip("/")
        # within a container the path may be that of the host; the mount itself then is the group
        for folder in {below, *below.parents, top}:
            if folder.is_relative_to(top) and (folder / limit).is_file():
                most = (folder / limit).read_text().strip()
                if most != "max" and int(most) < _UNLIMITED:
                    held = int((folder / used).read_text())
                    # pages of files that nobody used lately are given back when memory runs short
                    statistics = folder / "memory.stat"
                    lines = statistics.read_text().splitlines() if statistics.is_file() else ()
                    counts = {name: int(number) for name, number in map(str.split, lines)}
                    held -= counts.get(cache, 0)
                    yield int(most) - held


def memory_fields(path: Path) -> dict[str, int]:
    """Return the lines `Name:  123 kB` of a file, in bytes."""
    if not path.is_file():
        return {}
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: int(value.split()[0]) * 1024 for name, _, value in lines if value.endswith(" kB")}


def resolve_device(name: str) -> Device:
    """Return the device called `name`; `auto` is CUDA where there is any, else the CPU.

    Raises:
        DeviceError: This machine has no such device.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # torch built without CUDA asserts; a device that is not there is a RuntimeError.
        reason = str(error).splitlines()[0]
        raise DeviceError(f"device {name!r} cannot be used: {reason}") from error
    return device


def has_fast_bfloat16(device: Device) -> bool:
    """Return whether `device` multiplies bfloat16 matrices several times as fast as float32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported())
