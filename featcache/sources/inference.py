"""Find out which family reads what lies at a place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import notes
from ..errors import (
    DatasetFormatError,
    DatasetNotFoundError,
    LightalignError,
    SpecError,
    UnknownColumnError,
)
from ..home import command_line
from ..known_datasets import source_words
from .base import Doubt, Source, require_place

if TYPE_CHECKING:
    from .tables.table import Elsewhere

# Those with files of fixed names come first; then tables; then folders of images, of which the one
# that says the most of each image comes first.
OFFICIAL = ("flickr8k", "flickr30k", "cifar10", "cifar100", "tiny-imagenet")
OFFICIAL_TEXTS = ("stsb", "sick", "mrpc", "qqp")
TABLES = ("image-text-table", "text-pair-table")
CLASSES = "image-folder"  # which reads a table of images and classes, too
IMAGES = "images"
FOLDERS = ("image-text-files", CLASSES, IMAGES)
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


def infer_kind(
    place: Path, options: Mapping[str, object], open_family: Open, *, name: str, home: Path
) -> Inferred:
    """Return the first family that can read a place, with what it opened.

    In a folder with tables beside images, a note names the tables that are not read.

    Args:
        place: A folder or a file.
        options: Options that the family has to know.
        open_family: Opens a place by a family.
        name: What the dataset will be called, for the commands in a message.
        home: Folder of everything lightalign keeps, for these.

    Raises:
        DatasetNotFoundError: Nothing lies there.
        DatasetFormatError: No family can read it; the message has what the likeliest one says. Or
            several tables in it can be read, and the message has the commands that choose.
    """
    require_place(place)
    inferred = (
        _Folder(place, options, open_family, name, home).infer()
        if place.is_dir()
        else _infer_file(place, options, open_family)
    )
    if inferred.doubt is not None:
        notes.note(_question(inferred, inferred.doubt, options, name, home))
    return inferred


def _question(
    inferred: Inferred, doubt: Doubt, options: Mapping[str, object], name: str, home: Path
) -> str:
    """Return a line on a column that may hold two things, with the commands that settle it."""
    ways: dict[str, tuple[str, dict[str, object]]] = {
        "captions": (TABLES[0], {"caption_columns": [doubt.column]}),
        "classes": (CLASSES, {"class_column": doubt.column}),
    }
    commands = []
    for what, (kind, column) in ways.items():
        words = source_words({**options, **column})
        place = str(inferred.place.absolute())
        command = command_line("data", "add", name, place, "--kind", kind, *words, home=home)
        commands.append(f"`{command}` reads {what}")
    return f"{inferred.place}: {doubt.reason}; it is read as {inferred.kind}: {', '.join(commands)}"


def _infer_file(place: Path, options: Mapping[str, object], open_family: Open) -> Inferred:
    trial = _first_of((*TABLES, CLASSES), place, options, open_family)
    if trial.inferred is None:
        kind = _likeliest_kind(trial.refusals)
        raise DatasetFormatError(f"{trial.refusals[kind]} (read as {kind}; else name a --kind)")
    return trial.inferred


def _likeliest_kind(refusals: Mapping[str, LightalignError]) -> str:
    """Return the family whose refusal says best what a table lacks.

    Most tables are of images and captions; one whose columns are those of classes is not.
    """
    of_classes = refusals.get(CLASSES)
    lacks_captions = isinstance(refusals[TABLES[0]], UnknownColumnError)
    if lacks_captions and of_classes and not isinstance(of_classes, UnknownColumnError):
        return CLASSES
    return TABLES[0]


def _first_of(
    kinds: Sequence[str], place: Path, options: Mapping[str, object], open_family: Open
) -> _Trial:
    """Try families at a place until one reads it."""
    refusals: dict[str, LightalignError] = {}
    question: Doubt | None = None
    for kind in kinds:
        opened = try_family(kind, place, options, open_family)
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


class _Folder:
    """Try what may lie in a folder.

    Args:
        place: The folder.
        options: Options that the family has to know.
        open_family: Opens a place by a family.
        name: What the dataset will be called.
        home: Folder of everything lightalign keeps.
    """

    def __init__(
        self,
        place: Path,
        options: Mapping[str, object],
        open_family: Open,
        name: str,
        home: Path,
    ) -> None:
        from .tables.table import tables_of

        self.place = place
        self.options = options
        self.open_family = open_family
        self.name = name
        self.home = home
        self.tables, self.others = tables_of(place)
        self.refusals: dict[str, LightalignError] = {}  # of the folder, by family
        self.question: Doubt | None = None  # of the folder
        self.unread: dict[Path, LightalignError] = {}  # why a table can be read by no family

    def infer(self) -> Inferred:
        """Return what can be read; see `infer_kind`."""
        official = self._first((*OFFICIAL, *OFFICIAL_TEXTS))
        if official is not None:
            return official
        whole = self._first(TABLES)
        if whole is not None:
            self._note_tables(whole, self.others)
            self._note_elsewhere(whole)
            return whole
        readable = self._readable_tables()
        if len(readable) > 1:
            folders = self._folders_before(readable)
            if folders is None:
                raise self._several(readable)
            chosen = folders
        else:
            chosen = self._table_or_folders(readable[0] if readable else None)
        read = {chosen.place, *chosen.opened.table_files()}
        self._note_tables(
            chosen, [table for table in self._all_tables if table not in read], readable
        )
        self._note_elsewhere(chosen)
        return chosen

    def _table_or_folders(self, table: Inferred | None) -> Inferred:
        """Return the only table that can be read, or the folder itself, which may say as much."""
        if table is not None and table.kind in TABLES:
            return table
        # class folders and texts beside images say as much of each image as a table of classes
        folder = self._first([kind for kind in FOLDERS if table is None or kind != IMAGES])
        chosen = folder or table
        if chosen is None:
            raise self._nothing()
        return chosen

    def _folders_before(self, readable: Sequence[Inferred]) -> Inferred | None:
        """Return the folder itself where all its tables are of classes, and it says as much."""
        if any(inferred.kind != CLASSES for inferred in readable):
            return None
        return self._first([kind for kind in FOLDERS if kind != IMAGES])

    @property
    def _all_tables(self) -> list[Path]:
        return [*self.tables, *self.others]

    def _first(self, kinds: Sequence[str]) -> Inferred | None:
        """Return the first family that reads the whole folder."""
        trial = _first_of(kinds, self.place, self.options, self.open_family)
        self.refusals.update(trial.refusals)
        self.question = self.question or trial.question
        return trial.inferred

    def _readable_tables(self) -> list[Inferred]:
        """Return the tables that can be read, each by the first family that can."""
        if len(self._all_tables) > _MOST_TABLES:
            return []
        tables = [self._readable(table) for table in self._all_tables]
        return [table for table in tables if table is not None]

    def _readable(self, table: Path) -> Inferred | None:
        was_tried = self.tables == [table]  # with the folder
        kinds = (CLASSES,) if was_tried else (*TABLES, CLASSES)
        inferred, refusals, question = _first_of(kinds, table, self.options, self.open_family)
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
        what = "images alone" if folder is None or folder.kind == IMAGES else "folder itself"
        alone = "" if folder is None else f", or the {what} by {self._command_for(folder)}"
        of_classes = all(inferred.kind == CLASSES for inferred in readable)
        why = self._why_not_as_one(CLASSES if of_classes else TABLES[0])
        return DatasetFormatError(
            f"{self.place} holds {len(readable)} tables that can be read{why}: name one of them by "
            f"{', '.join(ways)}{more}{alone}"
        )

    def _why_not_as_one(self, kind: str) -> str:
        """Return why several tables are not read as one by a family, or nothing."""
        refusal = self.refusals.get(kind)
        is_said = isinstance(refusal, DatasetFormatError)
        is_reason = is_said and not isinstance(refusal, UnknownColumnError)
        return f" (not as one: {refusal})" if is_reason and " tables: " not in str(refusal) else ""

    def _command_for(self, inferred: Inferred) -> str:
        return self._command(inferred.place, inferred.kind)

    def _command(self, place: Path, kind: str) -> str:
        words = ("data", "add", self.name, str(place.absolute()), "--kind", kind)
        return f"`{command_line(*words, home=self.home)}`"

    def _note_tables(
        self, chosen: Inferred, left_out: Sequence[Path], readable: Sequence[Inferred] = ()
    ) -> None:
        """Note the tables that are not read beside the chosen data, and what reads the first."""
        if not left_out:
            return
        first = left_out[0]
        refusal = self.unread.get(first)
        why = "" if refusal is None else f" ({refusal})"
        notes.note(f"{self._read_without(chosen, left_out)}{why}{self._way_to(first, readable)}")

    def _read_without(self, chosen: Inferred, left_out: Sequence[Path]) -> str:
        """Return a line on what is read, and what is not."""
        shown = ", ".join(self._name_of(path) for path in left_out[:_SHOWN])
        more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        what = "" if chosen.place == self.place else f"{chosen.place.name} in "
        return f"{what}{self.place} is read as {chosen.kind}, without {shown}{more}"

    def _name_of(self, table: Path) -> str:
        is_found_by_name = table in self._all_tables
        return table.name if is_found_by_name else table.relative_to(self.place).as_posix()

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
            notes.note(f"{self._read_without(chosen, below)}{why}{self._way_below(below[0])}")

    def _way_below(self, table: Path) -> str:
        """Return how to have a table read that stands in a folder below, or why it cannot be."""
        trial = _first_of((*TABLES, CLASSES), table, {}, self.open_family)
        if trial.inferred is not None:
            return f"; {self._command_for(trial.inferred)} reads {self._name_of(table)}"
        return f" ({trial.refusals[_likeliest_kind(trial.refusals)]})"

    def _way_to(self, table: Path, readable: Sequence[Inferred]) -> str:
        """Return how to have a table read, where that is a matter of a command."""
        kinds = {inferred.place: inferred.kind for inferred in readable}
        if table in kinds:
            return f"; {self._command(table, kinds[table])} reads {table.name}"
        if not isinstance(self.unread.get(table), UnknownColumnError):
            return ""
        return f"; if it holds captions or classes, name their columns by {_COLUMNS}"

    def _nothing(self) -> DatasetFormatError:
        broken = [
            (kind, why)
            for kind, why in self.refusals.items()
            if isinstance(why, DatasetFormatError)
        ]
        if broken:
            kind = broken[0][0]
            if kind == TABLES[0] and CLASSES in dict(broken):
                kind = _likeliest_kind(self.refusals)
            problem = self.refusals[kind]
            advice = f"(read as {kind}; name another kind by --kind)"
            return DatasetFormatError(f"{problem} {advice}{self._other_ways()}")
        looked_for = ", ".join(self.refusals)
        said = [str(why) for why in self.refusals.values() if str(why).startswith("source.")]
        why = f" ({said[0]})" if said else ""  # of an option
        return DatasetFormatError(
            f"{self.place} can be read as none of {looked_for}{why}; name one by --kind"
            f"{self._other_ways()}"
        )

    def _other_ways(self) -> str:
        """Return what might be meant instead: a table of another format, or in a folder below."""
        unread = list(self._elsewhere.unread.items())[:_SHOWN]
        ways = [f"; {self._name_of(table)} is not read: {remedy}" for table, remedy in unread]
        for table in self._elsewhere.below[:1]:
            way = self._way_below(table)
            ways.append(way if way[:1] == ";" else f"; nor can {self._name_of(table)}{way}")
        return "".join(ways)

    @cached_property
    def _elsewhere(self) -> "Elsewhere":
        from .tables.table import tables_elsewhere

        return tables_elsewhere(self.place)


def try_family(
    kind: str, place: Path, options: Mapping[str, object], open_family: Open
) -> Source | LightalignError:
    """Return the dataset at a place, or why a family cannot read it."""
    try:
        return open_family(kind, place, options)
    except (DatasetFormatError, DatasetNotFoundError, SpecError) as error:
        return error
