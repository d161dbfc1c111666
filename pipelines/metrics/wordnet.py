"""Nouns of WordNet, read from its database files, and how alike two words are by them.

Nothing is downloaded and no package is needed: the files are `index.noun`, `data.noun` and
`noun.exc`, as Princeton, Debian and NLTK have them.

Source: the manual pages wndb(5WN) and morphy(7WN) of WordNet 3.0 for the files and for base forms.
"""

import os
import re
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...featcache.errors import DatasetFormatError, DatasetNotFoundError, one_line
from ...featcache.home import expanded
from ...featcache.regular_files import is_regular, read_regular

VARIABLE = "LIGHTALIGN_WORDNET"
VERSION = "3.0"  # by which published numbers are
_INDEX, _DATA, _EXCEPTIONS = "index.noun", "data.noun", "noun.exc"
_MOST_BYTES = {_INDEX: 2**26, _DATA: 2**28, _EXCEPTIONS: 2**24}  # of 3.0: 4.8, 15.3 and 0.04 MB
_HYPERNYMS = {b"@", b"@i"}  # what a noun is a kind of, or an instance of
_MOST_STEPS = 64  # from a noun up to the root; of 3.0 at most 19
# what zipfile raises where an archive is none; ValueError for names that are not UTF-8
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)
_ENDINGS = (
    (b"s", b""),
    (b"ses", b"s"),
    (b"ves", b"f"),
    (b"xes", b"x"),
    (b"zes", b"z"),
    (b"ches", b"ch"),
    (b"shes", b"sh"),
    (b"men", b"man"),
    (b"ies", b"y"),
)  # of plurals, and of what they are plurals


@dataclass(frozen=True, eq=False)
class Noun:
    """One sense of a noun, a synset, with all that it is a kind of.

    Attributes:
        name: Its first word with its number among the senses of that word.
        least_depth: Steps of the shortest way up to the root.
        most_depth: Steps of the longest.
        above: Fewest steps up to itself and to each sense that it is a kind of.
    """

    name: bytes
    least_depth: int
    most_depth: int
    above: Mapping["Noun", int]


class WordNet:
    """Nouns of one WordNet.

    Args:
        files: Content of `index.noun`, `data.noun` and `noun.exc`, by name.
        origin: Where they are from, for messages.

    Attributes:
        version: Such as `3.0`; `unknown` where the files do not say it.

    Raises:
        DatasetFormatError: They hold no nouns.
    """

    def __init__(self, files: Mapping[str, bytes], origin: str) -> None:
        self._origin = origin
        self._data = files[_DATA]
        # a word is the first field of its line; lines of the licence begin with spaces
        self._line_of = {
            line.partition(b" ")[0]: line
            for line in files[_INDEX].split(b"\n")
            if line and not line.startswith(b" ")
        }
        if not self._line_of:
            raise DatasetFormatError(f"{origin}: {_INDEX} has no nouns")
        self._irregular = {
            fields[0]: fields[1:]
            for line in files[_EXCEPTIONS].split(b"\n")
            if (fields := line.split())
        }
        self._nouns: dict[int, Noun] = {}
        self._senses: dict[str, tuple[Noun, ...]] = {}
        self._similarities: dict[tuple[str, str], float] = {}
        told = re.search(rb"WordNet (\d[\d.]*) Copyright", self._data[:4096])
        self.version = told[1].decode() if told else "unknown"

    @classmethod
    def open(cls, path: Path) -> "WordNet":
        """Read the files of a folder, or of a zip file such as NLTK's `wordnet.zip`.

        Raises:
            DatasetNotFoundError: One of them is not there or cannot be read.
            DatasetFormatError: One of them is too large or damaged.
        """
        read = _read_zipped if path.suffix == ".zip" else _read
        return cls({name: read(path, name) for name in _MOST_BYTES}, str(path))

    def senses(self, word: str) -> tuple[Noun, ...]:
        """Return the noun senses of a word and of what it may be a plural of; none if unknown.

        Upper and lower case are one, and words of an expression are joined by underscores.

        Raises:
            DatasetFormatError: The files contradict one another.
        """
        if word not in self._senses:
            self._senses[word] = tuple(
                self._noun(offset)
                for form in self._base_forms(word.lower().encode(errors="surrogatepass"))
                for offset in self._offsets(form)
            )
        return self._senses[word]

    def similarity(self, first: str, second: str) -> float:
        """Return the largest `wu_palmer` of a sense of one word and one of the other; 0 for none.

        Raises:
            DatasetFormatError: The files contradict one another.
        """
        pair = first, second
        if pair not in self._similarities:
            self._similarities[pair] = max(
                (
                    wu_palmer(sense, other)
                    for sense in self.senses(first)
                    for other in self.senses(second)
                ),
                default=0.0,
            )
        return self._similarities[pair]

    def _base_forms(self, word: bytes) -> Iterator[bytes]:
        regular = (
            word.removesuffix(ending) + singular
            for ending, singular in _ENDINGS
            if word.endswith(ending)
        )
        bases = self._irregular.get(word) or regular
        return (form for form in dict.fromkeys([word, *bases]) if form in self._line_of)

    def _offsets(self, word: bytes) -> list[int]:
        """Return where in `data.noun` the senses of a word are, in the order of their numbers."""
        # lemma pos num_senses num_pointers [pointer...] num_senses num_tagged [offset...]
        fields = self._line_of[word].split()
        try:
            offsets = [int(field) for field in fields[6 + int(fields[3]) :]]
            is_whole = len(offsets) == int(fields[2]) > 0
        except (IndexError, ValueError):
            is_whole = False
        if not is_whole:
            raise self._damaged(_INDEX, word)
        return offsets

    def _noun(self, offset: int, steps: int = 0) -> Noun:
        if offset not in self._nouns:
            if steps > _MOST_STEPS:
                raise DatasetFormatError(
                    f"{self._origin}: {_DATA} is damaged: a noun is more than {_MOST_STEPS} steps "
                    "below the root"
                )
            word, kinds = self._parsed(offset)
            number = self._offsets(word).index(offset) + 1
            parents = [self._noun(kind, steps + 1) for kind in kinds]
            above: dict[Noun, int] = {}
            noun = Noun(
                b"%s.%02d" % (word, number),
                1 + min((parent.least_depth for parent in parents), default=-1),
                1 + max((parent.most_depth for parent in parents), default=-1),
                above,
            )
            above[noun] = 0
            for parent in parents:
                for ancestor, distance in parent.above.items():
                    above[ancestor] = min(distance + 1, above.get(ancestor, _MOST_STEPS + 1))
            self._nouns[offset] = noun
        return self._nouns[offset]

    def _parsed(self, offset: int) -> tuple[bytes, list[int]]:
        """Return the first word of a sense, and where that is which it is a kind of."""
        # offset file type num_words [word number]... num_pointers [symbol offset pos words]...
        line = self._data[offset : self._data.find(b"\n", offset)]
        fields = line.partition(b"|")[0].split()
        try:
            first_pointer = 5 + 2 * int(fields[3], 16)
            pointers = fields[first_pointer : first_pointer + 4 * int(fields[first_pointer - 1])]
            kinds = [
                int(place)
                for symbol, place in zip(pointers[::4], pointers[1::4], strict=True)
                if symbol in _HYPERNYMS
            ]
            word = fields[4].lower()
            is_whole = int(fields[0]) == offset in self._offsets(word)
        except (IndexError, KeyError, ValueError):
            is_whole = False
        if not is_whole:
            raise self._damaged(_DATA, b"%08d" % offset)
        return word, kinds

    def _damaged(self, name: str, entry: bytes) -> DatasetFormatError:
        shown = entry.decode(errors="replace")[:60]
        return DatasetFormatError(f"{self._origin}: {name} is damaged at its entry {shown}")


def wu_palmer(first: Noun, second: Noun) -> float:
    """Return how alike two senses are, 2 d / (2 d + a + b), in [0, 1].

    d is the depth of the sense that both are a kind of, a and b the fewest steps between it and
    either. Of several such senses it is the one whose shortest way to the root is longest, whose
    depth then is the longest way to the root, counted in senses with the root.

    A chair (10 senses deep) and a table (9) are both furniture (8): 16 / (16 + 2 + 1) = .8421.

    Source: Wu and Palmer, Verb Semantics and Lexical Selection, ACL 1994; which sense and which
    depth where there are several ways up, as of NLTK 3.10, `nltk/corpus/reader/wordnet.py`
    (`wup_similarity`).
    """
    common = first.above.keys() & second.above.keys()
    if not common:
        return 0.0
    deepest = max(noun.least_depth for noun in common)
    lowest = [noun for noun in common if noun.least_depth == deepest]
    shared = first if first in lowest else min(lowest, key=lambda noun: noun.name)
    depth = shared.most_depth + 1
    return 2 * depth / (2 * depth + _steps(first, shared) + _steps(second, shared))


def _steps(noun: Noun, other: Noun) -> int:
    """Return the fewest steps between two senses, up from both to one that is above both."""
    # which may be shorter than the way up, as a sense can be a kind of several
    return min(
        steps + other.above[ancestor]
        for ancestor, steps in noun.above.items()
        if ancestor in other.above
    )


def find_wordnet(places: Sequence[Path] | None = None) -> WordNet | None:
    """Read WordNet where `LIGHTALIGN_WORDNET` says, or else in the first place that has it.

    Returns:
        None where it is nowhere; `how_to_install` says what to do.

    Args:
        places: Folders and zip files to look at, by default where Debian, NLTK and Princeton put
            it.

    Raises:
        DatasetNotFoundError: It is not where the variable says.
        DatasetFormatError: What is there is damaged.
    """
    if named := os.environ.get(VARIABLE):
        return WordNet.open(expanded(Path(named)))
    for place in usual_places() if places is None else places:
        if is_regular(place if place.suffix == ".zip" else place / _INDEX):
            return WordNet.open(place)
    return None


def usual_places() -> list[Path]:
    """Return where packages put WordNet: Debian's, NLTK's data, and Princeton's own."""
    nltk_data = [
        *(Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder),
        expanded(Path("~/nltk_data")),
        *(Path(sys.prefix, *below, "nltk_data") for below in ((), ("share",), ("lib",))),
        *(Path(above, "nltk_data") for above in ("/usr/share", "/usr/local/share")),
        *(Path(above, "nltk_data") for above in ("/usr/lib", "/usr/local/lib")),
    ]
    corpora = [
        folder / "corpora" / name for folder in nltk_data for name in ("wordnet", "wordnet.zip")
    ]
    return [Path("/usr/share/wordnet"), *corpora, Path("/usr/local/WordNet-3.0/dict")]


def how_to_install() -> str:
    """Return a command that brings WordNet 3.0 to where it is found."""
    if shutil.which("apt-get"):
        root = "" if os.geteuid() == 0 else "sudo "
        return f"{root}apt-get install --no-install-recommends --yes wordnet-base"
    return "pip install nltk && python -m nltk.downloader wordnet"


def _read(folder: Path, name: str) -> bytes:
    try:
        return read_regular(folder / name, limit=_MOST_BYTES[name])
    except OSError as error:
        raise _not_found(folder, name, error) from error


def _read_zipped(path: Path, name: str) -> bytes:
    limit = _MOST_BYTES[name]
    try:
        if not is_regular(path):
            raise FileNotFoundError("there is no such file")
        with zipfile.ZipFile(path) as archive, archive.open(f"wordnet/{name}") as member:
            content = member.read(limit + 1)
    except _DAMAGED_ZIP as error:
        raise DatasetFormatError(f"{path} is damaged: {one_line(error)}") from error
    except (OSError, KeyError) as error:
        raise _not_found(path, name, error) from error
    if len(content) > limit:
        raise DatasetFormatError(f"{path}: {name} has more than the {limit:,} bytes allowed")
    return content


def _not_found(place: Path, name: str, error: Exception) -> DatasetNotFoundError:
    return DatasetNotFoundError(
        f"no {name} of WordNet that can be read in {place}: {one_line(error)}",
        f"{VARIABLE} names a folder with {', '.join(_MOST_BYTES)}; this brings one that is found "
        f"without it: {how_to_install()}",
    )
