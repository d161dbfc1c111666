"""Find the stores and pair lists below a home folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import NotRequired, TypedDict

from . import files
from .description import StoreDescription
from .documents import check
from .errors import StoreCorruptError, StoreNotFoundError
from .manifest import COPY, MANIFEST, read_manifest
from .types import Classes, Grades, Pairs

_KEY_DIGITS = 8
_LARGEST_PAIRS = 2**32  # bytes: those of 50 million captions


class _ClassesTable(TypedDict):
    names: list[str]
    of_image: dict[str, int]


class _GradesTable(TypedDict):
    links: list[tuple[str, str, float]]
    lowest: float
    highest: float
    binary: bool


class _PairsFile(TypedDict):
    image_ids: list[str]
    text_ids: list[str]
    links: list[tuple[str, str]]
    classes: NotRequired[_ClassesTable]
    grades: NotRequired[_GradesTable]


@dataclass(frozen=True)
class StoreEntry:
    """Describe one store on disk, as its manifest does.

    Attributes:
        folder: The store's folder.
        description: What it holds.
        key: Its full key.
        complete: Whether its extraction has finished.
        changed: When its manifest was written, in seconds since the epoch.
    """

    folder: Path
    description: StoreDescription
    key: str
    complete: bool
    changed: float

    @property
    def encoder_key(self) -> str:
        """Return the hash of what decides a feature but for the item: equal keys, equal features.

        The encoder's identity, the layer, the kind and the stored type.
        """
        return self.description.encoder_key


def list_stores(home: Path, place: str = "*/*") -> list[StoreEntry]:
    """List all stores below `home`, or those of one `DATASET/SPLIT`, newest first.

    What cannot be read, such as a store of another format version, is passed over: it answers no
    request. `manifest_folders` has it.
    """
    entries = list(_read_entries(home, place))
    return sorted(entries, key=lambda entry: (-entry.changed, str(entry.folder)))


def stores_by_key(home: Path) -> dict[str, StoreEntry]:
    """Return all complete stores below `home` by their keys."""
    return {entry.key: entry for entry in list_stores(home) if entry.complete}


def manifest_folders(home: Path, place: str = "*/*") -> list[Path]:
    """List all folders below `home` with a manifest or its copy, readable or not, by name.

    Args:
        home: Folder of everything lightalign keeps.
        place: `DATASET/SPLIT` for those of one split alone.
    """
    found = {
        path.parent
        for name in (MANIFEST, COPY)
        for path in (home / "features").glob(f"{place}/*/{name}")
    }
    return sorted(folder for folder in found if not files.is_temporary(folder))


def split_folders(home: Path) -> list[Path]:
    """List the folders `DATASET/SPLIT` below `features`, by name."""
    return sorted(path for path in (home / "features").glob("*/*") if path.is_dir())


def find_store(home: Path, name: str) -> Path:
    """Return a store's folder by its path, its name below `features`, or the start of its key.

    The start of a key is eight digits or more.

    Raises:
        StoreNotFoundError: No store, or more than one, has this name.
    """
    for folder in (Path(name), home / "features" / name):
        if any((folder / name).is_file() for name in (MANIFEST, COPY)):
            return folder
    entries = list_stores(home)
    is_key = len(name) >= _KEY_DIGITS  # fewer may be a slip, and `cache rm` removes what is found
    found = [entry.folder for entry in entries if is_key and entry.key.startswith(name)]
    if len(found) != 1:
        known = [str(entry.folder.relative_to(home / "features")) for entry in entries]
        what = f"{len(found)} stores have the key" if found else "no store is called"
        raise StoreNotFoundError(f"{what} {name!r} in {home}; known: {known or 'none'}")
    return found[0]


def _read_entries(home: Path, place: str) -> Iterator[StoreEntry]:
    for folder in manifest_folders(home, place):
        try:
            manifest = read_manifest(folder)
        except (StoreCorruptError, StoreNotFoundError):
            continue
        yield StoreEntry(
            folder=folder,
            description=StoreDescription(**manifest["description"]),
            key=manifest["key"],
            complete=manifest["complete"],
            changed=(folder / MANIFEST).stat().st_mtime,
        )


def pairs_path(home: Path, dataset: str, split: str, source: str) -> Path:
    """Return where the pairs of one split lie; `source` is the source's fingerprint."""
    return home / "features" / dataset / split / f"pairs--{source[:12]}.json"


def write_pairs(path: Path, pairs: Pairs) -> None:
    """Write `pairs` beside the stores, so that training and evaluation need the stores alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table: dict[str, Any] = {
        "image_ids": pairs.image_ids,
        "text_ids": pairs.text_ids,
        "links": pairs.links,
    }
    for name in ("classes", "grades"):
        labels = getattr(pairs, name)
        if labels is not None:
            table[name] = vars(labels)
    files.write_sealed(path, table)


def read_pairs(path: Path) -> Pairs:
    """Read the pairs of one split.

    Raises:
        StoreCorruptError: The file is missing or holds no pairs.
    """
    try:
        table = check(files.read_sealed(path, limit=_LARGEST_PAIRS), _PairsFile, where=path)
        classes, grades = table.get("classes"), table.get("grades")
        return Pairs(
            tuple(table["image_ids"]),
            tuple(table["text_ids"]),
            tuple((image, text) for image, text in table["links"]),
            classes=_classes(classes) if classes else None,
            grades=_grades(grades) if grades else None,
        )
    except (OSError, ValueError) as error:
        raise StoreCorruptError(
            f"cannot read the pairs in {path}: {error}; delete it and extract again"
        ) from error


def _classes(table: _ClassesTable) -> Classes:
    outside = [
        image
        for image, number in table["of_image"].items()
        if number not in range(len(table["names"]))
    ]
    if outside:
        raise ValueError(f"image {outside[0]!r} is of a class that has no name")
    return Classes(tuple(table["names"]), table["of_image"])


def _grades(table: _GradesTable) -> Grades:
    return Grades(
        links=tuple((first, second, float(grade)) for first, second, grade in table["links"]),
        lowest=table["lowest"],
        highest=table["highest"],
        binary=table["binary"],
    )
