"""Untrusted text made harmless for a terminal, a page or a picture.

Captions, ids, names of files and messages of libraries may hold escape sequences that move a
terminal's cursor or set its clipboard, characters that turn the direction of all that follows, and
halves of surrogate pairs, which have no encoding.
"""

import re

# C0, DEL and C1; zero-width space and word joiner; line and paragraph separator; embeddings,
# overrides and isolates of direction; interlinear marks; tags; halves of surrogate pairs. What
# scripts and emoji need stays: the joiners U+200C and U+200D, the marks of direction.
_ACTIVE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_ACTIVE_BUT_NEWLINE = re.compile(f"(?!\n){_ACTIVE.pattern}")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# of a page: tab and newline are spaces there, and noncharacters are as illegal as controls
_NOT_IN_PAGES = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Return a text in one line, with escapes for all characters that a terminal would act on.

    The character ESC becomes the four characters `\x1b`.
    """
    return _ACTIVE.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """Return a text as `printable` does, but keep its lines apart."""
    return _ACTIVE_BUT_NEWLINE.sub(_escaped, text)


def for_page(text: str) -> str:
    """Return a text, or a whole page, without the characters that HTML and XML forbid.

    Each one becomes the replacement character U+FFFD, also those that turn the direction of text.
    """
    return _NOT_IN_PAGES.sub("\N{REPLACEMENT CHARACTER}", text)


def _escaped(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if code < 0x100:
        return _SHORT.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
