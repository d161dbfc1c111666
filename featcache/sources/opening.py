"""Find datasets by name and open them; nothing here imports torch."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import config, known_datasets, notes
from ..errors import DatasetFormatError, DatasetNotFoundError, LightalignError, SpecError
from ..home import command_line, expanded, is_same_place, plain_place
from ..known_datasets import DatasetVersion
from ..registry import Registry, unknown_name
from .base import NoOptions, Source
from .inference import FOLDERS, TABLES, Inferred, Request, infer_kind, try_family

SOURCES: Registry[Source] = Registry(
    "dataset",
    f"{__package__}.datasets",
    Path(__file__).parent / "datasets",
    Source,
)


def list_datasets() -> list[tuple[str, str, bool]]:
    """Return (name, title, whether it needs files) of every dataset family, by name."""
    families = [(name, SOURCES.load(name)) for name in SOURCES.names()]
    return [(name, family.title, family.needs_files) for name, family in families]


def parse_data(data: str) -> tuple[str, Path | None]:
    """Split `NAME` or `NAME=PATH` into the name, as it is remembered, and the path.

    Raises:
        SpecError: The name is empty, or `=` is followed by nothing, or by an address.
    """
    name, equals, path = data.partition("=")
    name = known_datasets.written_name(name)
    if not name or (equals and not path.strip()):
        raise SpecError(f"--data {data!r} is not of the form NAME or NAME=PATH")
    if "://" in path:
        raise SpecError(
            f"--data {data!r} names an address: download the files first, and name their place"
        )
    return name, expanded(Path(path.strip())) if equals else None


def absolute_data(data: str) -> str:
    """Return `NAME` or `NAME=PATH` so that it means the same in any folder."""
    name, path = parse_data(data)
    return name if path is None else f"{name}={plain_place(path)}"


def is_drawn(name: str) -> bool:
    """Return whether a family makes its items itself: it has no files, and no place."""
    return name in SOURCES.names() and not SOURCES.load(name).needs_files


def define(
    data: str,
    *,
    home: Path,
    options: Mapping[str, object] | None = None,
    kind: str | None = None,
) -> DatasetVersion:
    """Return what `NAME` or `NAME=PATH` asks for; see `locate`."""
    return locate(data, home=home, options=options, kind=kind)[0]


def open_defined(
    data: str,
    *,
    home: Path,
    options: Mapping[str, object] | None = None,
    kind: str | None = None,
) -> tuple[DatasetVersion, Source]:
    """Return what `NAME` or `NAME=PATH` asks for, and that dataset, opened once.

    For arguments and errors see `locate` and `open_version`.
    """
    version, opened = locate(data, home=home, options=options, kind=kind)
    return version, opened or open_version(version, home=home)


def open_source(data: str, *, home: Path, options: Mapping[str, object] | None = None) -> Source:
    """Open the dataset that `NAME` or `NAME=PATH` asks for; see `open_defined`."""
    return open_defined(data, home=home, options=options)[1]


def locate(
    data: str,
    *,
    home: Path,
    options: Mapping[str, object] | None = None,
    kind: str | None = None,
    anew: bool = False,
) -> tuple[DatasetVersion, Source | None]:
    """Return the family, the place and the options of a dataset that is asked for.

    A name is one that the home remembers, or that of a family, whose usual place is
    `home/datasets/NAME`, or where an installed package has the files. With a path, any name will
    do: its family is the one of that name, the one that is remembered, or the first that can read
    what lies there; the dataset that was opened to find it comes with the answer.

    Args:
        data: `NAME` or `NAME=PATH`.
        home: Folder of everything lightalign keeps.
        options: Options of the family; they change remembered ones by name.
        kind: Name of the family, or None to find it.
        anew: Whether a folder of images is looked at again for tables beside them.

    Raises:
        UnknownNameError: There is no such dataset or family.
        SpecError: `data` is malformed, or gives a path to a dataset that is drawn.
        DatasetFormatError: Nothing that lies at the path can be read.
        DatasetNotFoundError: Nothing lies there.
        StoreCorruptError: What the home remembers of the name cannot be read.
    """
    name, path = parse_data(data)
    if not known_datasets.is_name(name) and expanded(Path(data)).exists():
        option = shlex.quote(f"NAME={data}")
        raise SpecError(f"--data {data!r} is a path: give what lies there a name, --data {option}")
    known_datasets.checked_name(name)
    path = None if path is None else plain_place(path)
    earlier = known_datasets.version_at(home, name, path)
    if anew and earlier is not None and _is_plain_folder(earlier, path):
        earlier = None
    family = kind or (name if name in SOURCES.names() else None)
    opened: Source | None = None
    if family is None and path is None and earlier is not None:
        family = earlier.kind
    if family is None and path is None:
        names = {*SOURCES.names(), *known_datasets.known_names(home)}
        error = unknown_name("dataset", name, names)
        raise type(error)(f"{error}; name one of your own with its place: --data {name}=PATH")
    if family is None:
        assert path is not None
        request = Request(name, options or {}, open_family, home)
        inferred, earlier = _find_family_at(path, earlier, request)
        family, path, opened = inferred.kind, inferred.place, inferred.opened
    drawn = is_drawn(family)
    if path is not None and drawn:
        raise SpecError(f"--data {data!r}: dataset {name!r} is drawn and read from no path")
    place = path if path is not None else _remembered_place(earlier, family, home)
    # a table's columns stay what they were; a drawn family itself has the defaults each time
    keeps = earlier is not None and earlier.kind == family and not (drawn and name == family)
    earlier_options = earlier.options if earlier is not None and keeps else {}
    version = DatasetVersion(
        name=name,
        kind=family,
        place=None if drawn else place,
        options={**earlier_options, **(options or {})},
        splits={},
    )
    return version, None if opened is None else _as_remembered(opened, version, home=home)


def _as_remembered(opened: Source, version: DatasetVersion, *, home: Path) -> Source:
    """Return a dataset as the home remembers it, where it would be read otherwise by now.

    Readings may differ in one split alone: that of which most splits are remembered is taken.
    """
    is_known = version.splits or known_datasets.read_versions(home, version.name)
    if not opened.was_read_otherwise or not is_known:
        return opened
    best, most = opened, _num_remembered(opened, version, home)
    reading = opened
    # another reading costs as much as the first: none where this one is remembered whole
    while most < len(best.splits()) and (before := reading.as_read_before()) is not None:
        reading, num = before, _num_remembered(before, version, home)
        if num > most:
            best, most = reading, num
    return best


def _num_remembered(source: Source, version: DatasetVersion, home: Path) -> int:
    """Return how many splits of a dataset the home remembers as they are read."""

    def is_remembered(split: str) -> bool:
        fingerprint = source.fingerprint(split)
        if version.splits:
            return version.splits.get(split) == fingerprint
        return known_datasets.version_of(home, version.name, split, fingerprint) is not None

    return sum(map(is_remembered, source.splits()))


def _find_family_at(
    place: Path, earlier: DatasetVersion | None, request: Request
) -> tuple[Inferred, DatasetVersion | None]:
    """Return what lies at a place, and what was remembered of the name if it is that."""
    if earlier is None:
        return infer_kind(place, request), None
    is_there = known_datasets.lies_at(earlier, place)
    if is_there and not place.exists():
        raise _not_there(earlier, request.home)
    refusal: LightalignError | None = None
    is_other = _is_other_folder(earlier, place)
    if not is_other:
        there = known_datasets.place_in(earlier, place)
        options = {**earlier.options, **request.options}
        opened = try_family(earlier.kind, there, options, open_family)
        if isinstance(opened, Source):
            return Inferred(earlier.kind, there, opened), earlier
        refusal = opened
    # its columns are not those of what the name stood for
    inferred = infer_kind(place, request)
    if refusal is not None and is_there:
        _require_table_again(earlier, inferred, refusal, request.home)
    if is_other and inferred.kind != earlier.kind:
        was = f"{earlier.name!r} was {earlier.kind} at {earlier.place}"
        notes.note(f"{was}; {inferred.place} is read as {inferred.kind}")
    return inferred, None


def _is_plain_folder(earlier: DatasetVersion, path: Path | None) -> bool:
    """Return whether a path is the remembered folder of images, of which nothing more was said."""
    at_path = path is not None and path.is_dir() and is_same_place(earlier.place, path)
    return at_path and _is_plain(earlier)


def _is_other_folder(earlier: DatasetVersion, place: Path) -> bool:
    """Return whether a folder of images is another one: there may be tables beside them."""
    is_moved_table = known_datasets.place_in(earlier, place) != place
    is_elsewhere = not is_same_place(earlier.place, place)
    return _is_plain(earlier) and place.is_dir() and is_elsewhere and not is_moved_table


def _is_plain(earlier: DatasetVersion) -> bool:
    """Return whether a dataset is a folder of images that is read as folders are if nobody asks."""
    return earlier.kind in FOLDERS and not earlier.options


def _require_table_again(
    earlier: DatasetVersion, inferred: Inferred, refusal: LightalignError, home: Path
) -> None:
    """Refuse to read a folder without the table that it was read by, which holds its texts."""
    was_table = earlier.kind in TABLES or earlier.place != inferred.place
    if not was_table or inferred.kind not in FOLDERS or not inferred.place.is_dir():
        return
    words = ("data", "add", earlier.name, inferred.place, "--kind", inferred.kind)
    was = f"{earlier.name!r} is the {earlier.kind} at {earlier.place}"
    command = command_line(*words, home=home)
    raise DatasetFormatError(
        f"{was}, which cannot be read so: {refusal}; if it is to be {inferred.kind} from now on, "
        f"run `{command}`"
    )


def _remembered_place(earlier: DatasetVersion | None, family: str, home: Path) -> Path:
    """Return where a dataset lies that was named without a path."""
    usual = plain_place(home / "datasets" / (earlier.name if earlier else family))
    installed = None if usual.exists() else SOURCES.load(family).installed_at()
    usual = usual if installed is None else plain_place(installed)
    if earlier is None or earlier.place is None:
        return usual
    is_gone = earlier.name == earlier.kind and not earlier.place.exists()
    return usual if is_gone and usual.exists() else earlier.place


def open_family(kind: str, place: Path, options: Mapping[str, object]) -> Source:
    """Open what lies at a place by one family; for errors see `open_version`."""
    family = SOURCES.load(kind)
    checked: Any = config.build(family.Options, options, where=f"dataset {kind!r}")
    factory: Callable[..., Source] = family
    return factory(place) if family.Options is NoOptions else factory(place, checked)


def open_version(version: DatasetVersion, *, home: Path) -> Source:
    """Open a dataset as it is defined.

    Raises:
        UnknownNameError: There is no such family.
        SpecError: The family has no such option or value.
        DatasetNotFoundError: The files are not there.
        DatasetFormatError: The files cannot be understood.
    """
    place = home / "datasets" / version.name if version.place is None else version.place
    is_own = version.place is not None and version.name not in SOURCES.names()
    if is_own and not place.exists():
        raise _not_there(version, home)
    try:
        opened = open_family(version.kind, place, version.options)
    except DatasetNotFoundError as error:
        if not _once_lay_there(version, home):
            raise
        raise _not_there(version, home, reason=error.problem) from error
    return _as_remembered(opened, version, home=home)


def _once_lay_there(version: DatasetVersion, home: Path) -> bool:
    """Return whether a home knows that a dataset was once where a version says that it lies."""
    versions = known_datasets.read_versions(home, version.name)
    return any(past.splits and is_same_place(past.place, version.place) for past in versions)


def _not_there(version: DatasetVersion, home: Path, reason: str = "") -> DatasetNotFoundError:
    """Build the error for a dataset that is gone from its place, with the way out."""
    because = f" ({reason})" if reason else ""
    current = known_datasets.newest(home, version.name)
    if current is None or is_same_place(current.place, version.place):
        moved = command_line("data", "move", version.name, "PATH", home=home)
        return DatasetNotFoundError(
            f"dataset {version.name!r} is not at {version.place} any more{because}: say where it "
            f"is by `{moved}`"
        )
    return DatasetNotFoundError(
        f"what {version.name!r} stood for before is not at {version.place} any more{because}: put "
        f"it back, or name its place, --data {version.name}=PATH"
    )


def split_fingerprints(source: Source) -> dict[str, str]:
    """Return the fingerprint of every split of a dataset that was opened."""
    return {split: source.fingerprint(split) for split in source.splits()}


def identified(version: DatasetVersion, source: Source) -> DatasetVersion:
    """Return a version with the fingerprints of all its splits."""
    return replace(version, splits=split_fingerprints(source))
