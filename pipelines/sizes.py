"""Sizes of memory as people write them."""

import re

from ..featcache.errors import SpecError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Return the bytes of a size such as `6GB` or `512 MiB`.

    Raises:
        SpecError: The text is no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise SpecError(f"{text!r} is no size: write one such as 6GB or 512MiB")
    number, prefix, binary = found.groups()
    power = " KMGT".index(prefix.upper() or " ")
    return int(float(number) * (1024 if binary else 1000) ** power)
