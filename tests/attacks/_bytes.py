"""Mutations of any file: its bytes, and what stands in its place."""

import os
import random
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

Mutation = Callable[[Path, random.Random], str | None]
"""Change the file and say how, or None where it does not apply."""

HUGE = 100 * 2**20  # bytes of an oversized text


def flip_a_bit(path: Path, chance: random.Random) -> str | None:
    content = bytearray(path.read_bytes())
    if not content:
        return None
    place, bit = chance.randrange(len(content)), chance.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} flipped"


def zero_a_block(path: Path, chance: random.Random) -> str | None:
    content = bytearray(path.read_bytes())
    size = chance.choice([1, 16, 64, 512, len(content)])
    start = chance.randrange(max(1, len(content) - size + 1))
    if not any(content[start : start + size]):
        return None
    content[start : start + size] = bytes(len(content[start : start + size]))
    path.write_bytes(content)
    return f"{size} bytes from {start} zeroed"


def reverse_rows(path: Path, chance: random.Random) -> str | None:
    """Reverse the order of units of a second half, which keeps a header."""
    content = path.read_bytes()
    unit = chance.choice([1, 2, 4, 32, 64])
    half = len(content) // 2 // unit * unit
    tail = content[len(content) - half :]
    units = [tail[start : start + unit] for start in range(0, len(tail), unit)]
    changed = content[: len(content) - half] + b"".join(reversed(units))
    if changed == content:
        return None
    path.write_bytes(changed)
    return f"the last {half} bytes reversed by {unit}"


def truncate(path: Path, chance: random.Random) -> str | None:
    size = path.stat().st_size
    if not size:
        return None
    length = chance.choice([size - 1, size // 2, min(10, size - 1)])
    os.truncate(path, length)
    return f"cut from {size} to {length} bytes"


def extend(path: Path, chance: random.Random) -> str | None:
    more = chance.choice([b"\0", b"\n", b"x" * 64, bytes(4096), b"}"])
    with path.open("ab") as file:
        file.write(more)
    return f"{len(more)} bytes {more[:1]!r} added"


def empty(path: Path, _: random.Random) -> str | None:
    path.write_bytes(b"")
    return "emptied"


def random_bytes(path: Path, chance: random.Random) -> str | None:
    path.write_bytes(chance.randbytes(path.stat().st_size))
    return "replaced by random bytes of the same size"


def remove(path: Path, _: random.Random) -> str | None:
    path.unlink()
    return "removed"


def swap_with_a_sibling(path: Path, chance: random.Random) -> str | None:
    """Swap two files of the same name ending and other content, anywhere below the same place."""
    root = path.parent
    for _ in range(3):
        root = root.parent
    others = [
        other
        for other in sorted(root.rglob(f"*{path.suffix}"))
        if other.is_file() and other.suffix == path.suffix
        if other.parent.name == path.parent.name or other.name == path.name
        if other.read_bytes() != path.read_bytes()
    ]
    if not others:
        return None
    other = chance.choice(others)
    first, second, times = path.read_bytes(), other.read_bytes(), other.stat()
    path.write_bytes(second)
    other.write_bytes(first)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    return f"swapped with {other.relative_to(root)}"


def become_a_folder(path: Path, _: random.Random) -> str | None:
    path.unlink()
    path.mkdir()
    return "replaced by a folder"


def become_a_pipe(path: Path, _: random.Random) -> str | None:
    path.unlink()
    os.mkfifo(path)
    return "replaced by a named pipe"


def become_a_socket(path: Path, _: random.Random) -> str | None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket has about 100 characters at most
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)
    return "replaced by a socket"


def link_to_itself(path: Path, _: random.Random) -> str | None:
    path.unlink()
    path.symlink_to(path.name)
    return "replaced by a link to itself"


def link_to_zeros(path: Path, _: random.Random) -> str | None:
    path.unlink()
    path.symlink_to("/dev/zero")
    return "replaced by a link to /dev/zero"


def link_to_nothing(path: Path, _: random.Random) -> str | None:
    path.unlink()
    path.symlink_to("gone")
    return "replaced by a dangling link"


def make_sparse(path: Path, _: random.Random) -> str | None:
    """Give the file a terabyte of zeros behind its content, of which nothing is on the disk."""
    os.truncate(path, 2**40)
    return "a terabyte of zeros added"


def parent_becomes_a_file(path: Path, _: random.Random) -> str | None:
    parent = path.parent
    shutil.rmtree(parent)
    parent.write_bytes(b"x")
    return "its folder replaced by a file"


ANY: Mapping[str, Mutation] = {
    made.__name__: made
    for made in (
        flip_a_bit,
        zero_a_block,
        reverse_rows,
        truncate,
        extend,
        empty,
        random_bytes,
        remove,
        swap_with_a_sibling,
        become_a_folder,
        become_a_pipe,
        become_a_socket,
        link_to_itself,
        link_to_zeros,
        link_to_nothing,
        make_sparse,
    )
}
