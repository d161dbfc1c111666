"""Sizes of memory as people write them."""

import re

from ...featcache.errors import SpecError

_MOST = 2**63  # bytes, which no machine has
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Return the bytes of a size such as `6GB` or `512 MiB`.

    Raises:
        SpecError: The text is no size, or one that no machine has.
    """
    matched = _SIZE.fullmatch(text.strip())
    if matched is None:
        raise SpecError(f"{text!r:.200} is no size: write one such as 6GB or 512MiB")
    number, prefix, binary = matched.groups()
    power = " KMGT".index(prefix.upper() or " ")
    size = float(number) * (1024 if binary else 1000) ** power
    if not size < _MOST:
        raise SpecError(f"{text!r:.200} is more than any machine has: write a size such as 6GB")
    return int(size)
