"""Infer the dataset family that reads the files at a place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from .. import notes
from ..errors import (
    DatasetFormatError,
    DatasetNotFoundError,
    LightalignError,
    SeveralTablesError,
    SourceOptionError,
    SpecError,
    UnknownColumnError,
)
from ..home import command_line
from ..known_datasets import source_words
from .base import Doubt, Source, require_place
from .tables.table_files import Elsewhere, tables_elsewhere, tables_of

# Those with files of fixed names come first; then tables; then folders of images, of which the one
# that says the most of each image comes first.
OFFICIAL = ("flickr8k", "flickr30k", "cifar10", "cifar100", "tiny-imagenet")
OFFICIAL_QUESTIONS = ("daquar", "vqav2", "easy-vqa")
OFFICIAL_REGIONS = ("flickr30k-entities", "visual-genome")
OFFICIAL_TEXTS = ("stsb", "sick", "mrpc", "qqp")
QUESTIONS = "vqa-table"
TABLES = ("image-text-table", "text-pair-table", QUESTIONS)
CLASSES = "image-folder"  # which reads a table of images and classes, too
IMAGES = "images"
FOLDERS = ("image-text-files", CLASSES, IMAGES)
_TABLE_KINDS = (*TABLES, CLASSES)
_MOST_TABLES = 20  # that are tried one by one; more are of one image each
_SHOWN = 3  # of them in a message
_COLUMNS = "the options source.image_column and source.caption_columns or source.class_column"

Open = Callable[[str, Path, Mapping[str, object]], Source]


@dataclass(frozen=True)
class Inferred:
    """Family of what lies at a place, and the dataset.

    Attributes:
        kind: Name of the family.
        place: The place, or the table in it that is read.
        opened: What was opened there.
        doubt: Why a column may hold something else, which only people can tell.
    """

    kind: str
    place: Path
    opened: Source
    doubt: Doubt | None = None


class _Trial(NamedTuple):
    """Result of trying some families at a place.

    Attributes:
        inferred: What the first that can reads there, or None.
        refusals: Why those before it cannot.
        question: Why a column may hold something else, which only people can tell.
    """

    inferred: Inferred | None
    refusals: dict[str, LightalignError]
    question: Doubt | None


@dataclass(frozen=True)
class Request:
    """Dataset whose family is to be found.

    Attributes:
        name: What it will be called, for the commands in a message.
        options: Options that the family has to know.
        open_family: Opens a place by a family.
        home: Folder of everything lightalign keeps, for the commands.
    """

    name: str
    options: Mapping[str, object]
    open_family: Open
    home: Path

    def add_command(self, place: Path, kind: str, *words: str) -> str:
        """Return the command that has a place read by a family, in backquotes."""
        path = str(place.absolute())
        command = ("data", "add", self.name, path, "--kind", kind, *words)
        return f"`{command_line(*command, home=self.home)}`"

    def first_of(self, kinds: Sequence[str], place: Path) -> _Trial:
        """Try families at a place until one reads it."""
        refusals: dict[str, LightalignError] = {}
        question: Doubt | None = None
        for kind in kinds:
            opened = try_family(kind, place, self.options, self.open_family)
            if not isinstance(opened, Source):
                refusals[kind] = opened
                continue
            doubt = opened.doubt()
            if doubt is not None and doubt.is_open:
                question = question or doubt
            if doubt is None or doubt.stands:
                return _Trial(Inferred(kind, place, opened, question), refusals, question)
            refusals[kind] = UnknownColumnError(f"{place}: {doubt.reason}")
        return _Trial(None, refusals, question)


def infer_kind(place: Path, request: Request) -> Inferred:
    """Return the first family that can read a place, with what it opened.

    In a folder with tables beside images, a note names the tables that are not read.

    Args:
        place: A folder or a file.
        request: What is known of the dataset.

    Raises:
        DatasetNotFoundError: Nothing lies there.
        DatasetFormatError: No family can read it; the message has what the likeliest one says. Or
            several tables in it can be read, and the message has the commands that choose.
    """
    require_place(place)
    inferred = _Folder(place, request).infer() if place.is_dir() else _infer_file(place, request)
    if inferred.doubt is not None:
        notes.note(_question(inferred, inferred.doubt, request))
    return inferred


def _question(inferred: Inferred, doubt: Doubt, request: Request) -> str:
    """Return a line on a column that may hold two things, with the commands that settle it."""
    ways: dict[str, tuple[str, dict[str, object]]] = {
        "captions": (TABLES[0], {"caption_columns": [doubt.column]}),
        "classes": (CLASSES, {"class_column": doubt.column}),
    }
    commands = []
    for content, (kind, column) in ways.items():
        words = source_words({**request.options, **column})
        commands.append(f"{request.add_command(inferred.place, kind, *words)} reads {content}")
    return f"{inferred.place}: {doubt.reason}; it is read as {inferred.kind}: {', '.join(commands)}"


def _infer_file(place: Path, request: Request) -> Inferred:
    trial = request.first_of(_TABLE_KINDS, place)
    if trial.inferred is None:
        kind = _likeliest_kind(trial.refusals)
        raise DatasetFormatError(f"{trial.refusals[kind]} (read as {kind}; else name a --kind)")
    return trial.inferred


def _likeliest_kind(refusals: Mapping[str, LightalignError]) -> str:
    """Return the family whose refusal says best what a table lacks.

    Most tables are of images and captions; one whose columns are those of classes, or of
    questions, is not.
    """
    lacks_captions = isinstance(refusals[TABLES[0]], UnknownColumnError)
    for kind in (CLASSES, QUESTIONS) if lacks_captions else ():
        refusal = refusals.get(kind)
        if refusal and not isinstance(refusal, UnknownColumnError):
            return kind
    return TABLES[0]


class _Folder:
    """Folder in which a dataset may lie in one of several ways."""

    def __init__(self, place: Path, request: Request) -> None:
        self.place = place
        self.request = request
        self.tables, others = tables_of(place)
        self.all_tables = [*self.tables, *others]
        self.refusals: dict[str, LightalignError] = {}  # of the folder, by family
        self.question: Doubt | None = None  # of the folder
        self.unread: dict[Path, LightalignError] = {}  # why a table can be read by no family

    def infer(self) -> Inferred:
        """Return what can be read; see `infer_kind`."""
        official = self._first((*OFFICIAL, *OFFICIAL_QUESTIONS, *OFFICIAL_REGIONS, *OFFICIAL_TEXTS))
        if official is not None:
            return official
        readable: list[Inferred] = []
        chosen = self._first(TABLES)
        if chosen is not None:
            left_out = self.all_tables[len(self.tables) :]
        else:
            readable = self._readable_tables()
            chosen = self._chosen(readable)
            read = {chosen.place, *chosen.opened.table_files()}
            left_out = [table for table in self.all_tables if table not in read]
        if left_out:
            first = left_out[0]
            why = f" ({self.unread[first]})" if first in self.unread else ""
            without = self._read_without(chosen, left_out)
            notes.note(f"{without}{why}{self._way_to(first, readable)}")
        self._note_elsewhere(chosen)
        return chosen

    def _chosen(self, readable: Sequence[Inferred]) -> Inferred:
        """Return the only table that can be read, or the folder itself, which may say as much."""
        of_classes = [inferred for inferred in readable if inferred.kind == CLASSES]
        if len(readable) == 1 and not of_classes:
            return readable[0]
        folder: Inferred | None = None
        if len(of_classes) == len(readable):
            # class folders and texts beside images say as much of each image as a table of classes
            folder = self._first([kind for kind in FOLDERS if not readable or kind != IMAGES])
        if folder is not None:
            return folder
        if len(readable) == 1:
            return readable[0]
        raise self._several(readable) if readable else self._nothing()

    def _first(self, kinds: Sequence[str]) -> Inferred | None:
        """Return the first family that reads the whole folder."""
        trial = self.request.first_of(kinds, self.place)
        self.refusals.update(trial.refusals)
        self.question = self.question or trial.question
        return trial.inferred

    def _readable_tables(self) -> list[Inferred]:
        """Return the tables that can be read, each by the first family that can."""
        if len(self.all_tables) > _MOST_TABLES:
            return []
        tables = [self._readable(table) for table in self.all_tables]
        return [table for table in tables if table is not None]

    def _readable(self, table: Path) -> Inferred | None:
        # a lone table was opened as the folder: a large one takes minutes to read
        was_tried = self.tables == [table]  # with the folder
        inferred, refusals, question = self.request.first_of(
            (CLASSES,) if was_tried else _TABLE_KINDS, table
        )
        if inferred is None:
            of_all = {**self.refusals, **refusals} if was_tried else refusals
            self.unread[table] = of_all[_likeliest_kind(of_all)]
        elif was_tried:
            return replace(inferred, doubt=question or self.question)
        return inferred

    def _several(self, readable: Sequence[Inferred]) -> DatasetFormatError:
        ways = [self._command_for(inferred) for inferred in readable[:_SHOWN]]
        more = " ..." if len(readable) > _SHOWN else ""
        folder = self._first(FOLDERS)  # a table may name its images elsewhere, or be of texts
        subject = "images alone" if folder is None or folder.kind == IMAGES else "folder itself"
        alone = "" if folder is None else f", or the {subject} by {self._command_for(folder)}"
        of_classes = all(inferred.kind == CLASSES for inferred in readable)
        why = self._why_not_as_one(CLASSES if of_classes else TABLES[0])
        return DatasetFormatError(
            f"{self.place} holds {len(readable)} tables that can be read{why}: name one of them by "
            f"{', '.join(ways)}{more}{alone}"
        )

    def _why_not_as_one(self, kind: str) -> str:
        """Return why several tables are not read as one by a family, or nothing."""
        refusal = self.refusals.get(kind)
        is_reason = isinstance(refusal, DatasetFormatError)
        says_nothing = isinstance(refusal, UnknownColumnError | SeveralTablesError)
        return f" (not as one: {refusal})" if is_reason and not says_nothing else ""

    def _command_for(self, inferred: Inferred) -> str:
        return self.request.add_command(inferred.place, inferred.kind)

    def _read_without(self, chosen: Inferred, left_out: Sequence[Path]) -> str:
        """Return a line on what is read, and what is not."""
        shown = ", ".join(self._name_of(path) for path in left_out[:_SHOWN])
        more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        table = "" if chosen.place == self.place else f"{chosen.place.name} in "
        return f"{table}{self.place} is read as {chosen.kind}, without {shown}{more}"

    def _name_of(self, table: Path) -> str:
        is_beside = table in self.all_tables
        return table.name if is_beside else table.relative_to(self.place).as_posix()

    def _note_elsewhere(self, chosen: Inferred) -> None:
        """Note the tables that are not read because they lie in subfolders, or for their format."""
        by_remedy: dict[str, list[Path]] = {}
        for table, remedy in self._elsewhere.unread.items():
            by_remedy.setdefault(remedy, []).append(table)
        for remedy, tables in by_remedy.items():
            notes.note(f"{self._read_without(chosen, tables)} (not read: {remedy})")
        read = set(chosen.opened.table_files())
        below = [table for table in self._elsewhere.below if table not in read]
        if below:
            why = self._why_not_as_one(TABLES[0]) if len(below) > 1 else ""
            command, refusal = self._way_below(below[0])
            way = f"; {command}" if command else f" ({refusal})"
            notes.note(f"{self._read_without(chosen, below)}{why}{way}")

    def _way_below(self, table: Path) -> tuple[str, str]:
        """Return how to have a table read that stands in a folder below, or why it cannot be."""
        trial = replace(self.request, options={}).first_of(_TABLE_KINDS, table)
        if trial.inferred is not None:
            return f"{self._command_for(trial.inferred)} reads {self._name_of(table)}", ""
        return "", str(trial.refusals[_likeliest_kind(trial.refusals)])

    def _way_to(self, table: Path, readable: Sequence[Inferred]) -> str:
        """Return how to have a table read, where that is a matter of a command."""
        for inferred in readable:
            if inferred.place == table:
                return f"; {self._command_for(inferred)} reads {table.name}"
        if not isinstance(self.unread.get(table), UnknownColumnError):
            return ""
        return f"; if it holds captions or classes, name their columns by {_COLUMNS}"

    def _nothing(self) -> DatasetFormatError:
        broken = [
            kind for kind, why in self.refusals.items() if isinstance(why, DatasetFormatError)
        ]
        if broken:
            is_table = broken[0] == TABLES[0] and CLASSES in broken
            kind = _likeliest_kind(self.refusals) if is_table else broken[0]
            problem = f"{self.refusals[kind]} (read as {kind}; name another kind by --kind)"
        else:
            of_options = [
                f" ({why})" for why in self.refusals.values() if isinstance(why, SourceOptionError)
            ]
            kinds = f"{', '.join(self.refusals)}{''.join(of_options[:1])}"
            problem = f"{self.place} can be read as none of {kinds}; name one by --kind"
        return DatasetFormatError(f"{problem}{self._other_ways()}")

    def _other_ways(self) -> str:
        """Return what might be meant instead: a table of another format, or in a folder below."""
        unread = list(self._elsewhere.unread.items())[:_SHOWN]
        ways = [f"; {self._name_of(table)} is not read: {remedy}" for table, remedy in unread]
        for table in self._elsewhere.below[:1]:
            command, refusal = self._way_below(table)
            ways.append(f"; {command or f'nor can {self._name_of(table)} ({refusal})'}")
        return "".join(ways)

    @cached_property
    def _elsewhere(self) -> Elsewhere:
        return tables_elsewhere(self.place)


def try_family(
    kind: str, place: Path, options: Mapping[str, object], open_family: Open
) -> Source | LightalignError:
    """Return the dataset at a place, or why a family cannot read it."""
    try:
        return open_family(kind, place, options)
    except (DatasetFormatError, DatasetNotFoundError, SpecError) as error:
        return error
