"""Names that columns of a table usually have, and the look of the texts in one of them."""

import json
import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# Usual names of columns, the preferred first; compared in lower case.
IMAGE_NAMES = (
    *("image", "image_path", "filepath", "file_path", "file_name", "filename", "path"),
    "img",
)
CLASS_NAMES = ("class", "class_name", "category", "label")  # of classes of images
CAPTION_NAMES = (
    *("caption", "captions", "text", "texts", "sentence", "sentences"),
    *("description", "descriptions", "title"),
)
# in which order they were preferred once: a dataset that is remembered so stays what it was
CAPTION_NAMES_ONCE = (*CAPTION_NAMES[:6], "title", *CAPTION_NAMES[6:8])
_NUMBERED = re.compile(r"(caption|text|sentence|description)[_.]?\d+")
_NUMBERED_ONCE = re.compile(r"(caption|text|sentence|description)_?\d+")
_LIKE_CAPTION = re.compile(
    r"(.*[^a-z])?(caption|text|sentence|description|title|comment)s?([^a-z].*)?"
)
_ROW_NUMBERS = re.compile(r"(unnamed: ?\d+|index)?", re.IGNORECASE)  # of pandas
_CODE = re.compile(r"[!-~]*\d[!-~]*")  # or a number
# scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Chinese characters
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)
_LETTERS_OF_A_WORD = 2  # of these scripts, about
_MOST_ALIKE = 0.8  # share of the texts that are numbers or codes
_HALF = 0.5  # share of different texts: with fewer, each stands twice on average
_WORDS_OF_CAPTION = 2  # on average, where most texts differ
_WORDS_OF_SENTENCE = 4  # on average, which no names of classes have


def caption_names(columns: Sequence[str], *, as_once: bool = False) -> tuple[str, ...]:
    """Return the columns that are called as captions are: all numbered ones, or one.

    A column of the same name without a number goes with them, as `caption` beside `caption_2`.

    Args:
        columns: All columns.
        as_once: Whether as it once was: `title` before `description`, numbered columns alone.
    """
    numbered_name = _NUMBERED_ONCE if as_once else _NUMBERED
    numbered = {
        column: name[1] for column in columns if (name := numbered_name.fullmatch(column.lower()))
    }
    stems = set() if as_once else set(numbered.values())
    read = [column for column in columns if column in numbered or column.lower() in stems]
    usual = CAPTION_NAMES_ONCE if as_once else CAPTION_NAMES
    by_lower = {column.lower(): column for column in reversed(columns)}
    return tuple(read or [by_lower[name] for name in usual if name in by_lower][:1])


def is_like_caption(column: str) -> bool:
    """Return whether a column is called as if it held texts of images, such as `caption_de`."""
    return _LIKE_CAPTION.fullmatch(column.lower()) is not None


def left_columns(columns: Sequence[str], taken: Collection[str | None]) -> list[str]:
    """Return the columns that are not taken, nor the numbers of rows of pandas."""
    return [
        column for column in columns if column not in taken and not _ROW_NUMBERS.fullmatch(column)
    ]


def set_option(option: str, columns: Sequence[str]) -> str:
    """Return an option of a command that names columns."""
    if option != "caption_columns":
        return f"--set {shlex.quote(f'source.{option}={columns[0]}')}"
    value = json.dumps(list(columns), ensure_ascii=False)
    return f"--set {shlex.quote(f'source.{option}={value}')}"


@dataclass(frozen=True)
class ColumnTexts:
    """Look of all texts of a column.

    Attributes:
        num_texts: Texts that are not empty.
        num_different: Different ones among them.
        num_words: Words of one on average; of scripts without spaces they are estimated.
        are_codes: Whether nearly all are numbers or codes.
    """

    num_texts: int
    num_different: int
    num_words: float
    are_codes: bool

    @classmethod
    def of(cls, texts: Sequence[str]) -> "ColumnTexts":
        """Return what texts look like; empty ones do not count."""
        texts = [text for cell in texts if (text := cell.strip())]
        codes = sum(_CODE.fullmatch(text) is not None for text in texts)
        words = sum(map(_num_words, texts))
        count = max(1, len(texts))
        return cls(len(texts), len(set(texts)), words / count, codes >= _MOST_ALIKE * count)

    @property
    def mostly_differ(self) -> bool:
        """Return whether a text stands in fewer than two rows on average."""
        return self.num_different > _HALF * self.num_texts

    @property
    def are_captions(self) -> bool:
        """Return whether they are captions for certain: of several words, and mostly different."""
        return self.mostly_differ and self.num_words >= _WORDS_OF_CAPTION and not self.are_codes

    @property
    def are_sentences(self) -> bool:
        """Return whether they are captions whatever the column is called."""
        return self.are_captions and self.num_words >= _WORDS_OF_SENTENCE

    @property
    def are_classes(self) -> bool:
        """Return whether they are names of classes for certain: short, and few different ones."""
        is_short = self.num_words < _WORDS_OF_SENTENCE
        return is_short and not self.mostly_differ and self.num_different > 1

    def describe(self) -> str:
        """Return what was counted, for a note."""
        words = f"{self.num_words:.1f} words on average"
        return f"{self.num_different:,} different texts in {self.num_texts:,} rows, {words}"


def _num_words(text: str) -> float:
    unspaced = len(_UNSPACED.findall(text))
    spaced = len(_UNSPACED.sub(" ", text).split()) if unspaced else len(text.split())
    return spaced + unspaced / _LETTERS_OF_A_WORD
