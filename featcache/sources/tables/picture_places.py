"""Keep the pictures that a table names below the folder of the dataset, or where a user allows."""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

from ...errors import DatasetFormatError, SourceOptionError
from ..base import format_error
from ..splits import split_name
from .table_files import folders_in

# folders of pictures beside a table that names them without a folder; in lower case
_USUAL = frozenset(("images", "image", "imgs", "img", "photos", "pictures", "pics"))
_PROBED = 100  # pictures of a split by which their folder is found
# what more than one path can be written as: absolute ones, empty parts, `.` and `..`
_ODD_PATH = re.compile(r"^/|//|/$|(^|/)\.\.?(/|$)")


class PicturePlaces:
    """Find the files of pictures that a table names, and refuse those that lie elsewhere.

    A table of somebody else's could name any file of this machine: a path with `..`, an absolute
    one, or one through a link out of the dataset. The dataset's folder itself may be a link.

    What is not where its path says is looked for in folders such as `images` beside the table, and
    below the further folders.

    Args:
        file: The table, for messages.
        folder: Folder that its paths start from.
        root: Absolute path of a further folder below which pictures may lie, or None.
        dataset: Folder of the dataset, if the table stands in a folder of it.

    Raises:
        SourceOptionError: `root` is no absolute path of a folder.
    """

    def __init__(
        self, file: Path, folder: Path, root: str | None, *, dataset: Path | None = None
    ) -> None:
        self._file = file
        self._folder = folder
        folders = [str(folder), *([] if root is None else [_checked_root(root)])]
        folders += [] if dataset is None or dataset == folder else [str(dataset)]
        self._written = [os.path.abspath(path) for path in folders]  # noqa: PTH100  # keeps links
        self._real = [os.path.realpath(path) for path in folders]
        self._inside: dict[str, bool] = {}  # by parent folder: most pictures share one
        self._outside: list[tuple[str, str, str]] = []
        self._elsewhere: dict[str, Path] = {}  # by path as it is written
        self._as_written: set[str] = set()  # looked up once: on a network each look is a wait

    def path_of(self, name: str, place: str) -> Path:
        """Return the file of a picture.

        Args:
            name: Its path as the table writes it.
            place: Where in the table, such as `line 7`.
        """
        path = self._file_of(name)
        if not self._holds(path):
            self._outside.append((name, place, _real(str(path))))
        return path

    def allowed_path(self, name: str) -> Path | None:
        """Return the file of a picture, or None where it lies elsewhere."""
        path = self._file_of(name)
        return path if self._holds(path) else None

    def leave_out(
        self, written: Sequence[tuple[str, str]], skip: Callable[[str, str], None]
    ) -> set[str]:
        """Return the names of pictures that lie elsewhere; their rows are to be left out.

        Args:
            written: Path of the picture of each row as the table writes it, and the place there.
            skip: Takes the place of each row to be left out, and why.

        Raises:
            DatasetFormatError: Those of half of the rows do, or of more.
        """
        names = dict.fromkeys(name for name, _ in written)
        outside = {name for name in names if self.allowed_path(name) is None}
        for name, place in written:
            if name in outside:
                self.path_of(name, place)
        if outside and 2 * len(self._outside) >= len(written):
            raise self._refused()
        for name, place, real in self._outside:
            problem = f"image {name!r:.200} lies outside of {self._folder}"
            skip(place, f"{problem}; where that is meant, add {_allowing([real])}")
        return outside

    def in_folders_of_splits(self, written: Sequence[tuple[str, str | None]]) -> list[str]:
        """Return the path of each picture, with a folder called like its split where all lie so.

        Args:
            written: Path of the picture of each row as the table writes it, and its split.
        """
        of_split: dict[str, list[str]] = {}
        for name, split in written:
            names = of_split.setdefault(split_name(split or ""), [])
            if len(names) < _PROBED and not _is_absolute(name):
                names.append(name)
        folders = {split: self._folder_of_split(split, of_split[split]) for split in of_split}
        return [
            name
            if (folder := folders[split_name(split or "")]) is None or _is_absolute(name)
            else f"{folder}/{name}"
            for name, split in written
        ]

    def _folder_of_split(self, split: str, names: Sequence[str]) -> str | None:
        if not split or any(_exists(str(self._file_of(name))) for name in names):
            return None
        for top in (*self._written, *map(str, self._image_folders)):
            for folder in _folders_in(top):
                if split_name(folder.name) != split:
                    continue
                if any(_exists(f"{folder}/{name}") for name in names):
                    return _relative(str(folder), self._written[:1]) or str(folder)
        return None

    def _file_of(self, name: str) -> Path:
        """Return the file of a picture, which may lie in a folder that its path does not name."""
        if name in self._elsewhere:
            return self._elsewhere[name]
        name_here = self._with_slashes(name)
        path = _without_detour(self._folder / name_here)
        if not self._other_folders or _is_absolute(name) or name in self._as_written:
            return path
        for folder in () if _exists(str(path)) else self._other_folders:
            other = _without_detour(folder / name_here)
            if _exists(str(other)) and self._holds(other):
                return self._elsewhere.setdefault(name, other)
        self._as_written.add(name)
        return path

    @cached_property
    def _image_folders(self) -> list[Path]:
        folders = (folder for top in self._written for folder in _folders_in(top))
        return [folder for folder in folders if folder.name.lower() in _USUAL]

    @cached_property
    def _other_folders(self) -> list[Path]:
        """Return where a picture may lie that is not where its path says."""
        return list(dict.fromkeys((*map(Path, self._written[1:]), *self._image_folders)))

    def key_of(self, name: str) -> str:
        """Return one name for all ways to write the path of a picture.

        It is relative to the folder, without `.` and `..`, for a picture below it, else absolute.
        Links are what they are called, but for those that `..` climbs out of.
        """
        if self._other_folders:
            self._file_of(name)  # which finds what lies elsewhere
        name = str(self._elsewhere[name]) if name in self._elsewhere else self._with_slashes(name)
        if _ODD_PATH.search(name) is None:
            return name
        full = os.path.join(self._written[0], name)  # noqa: PTH118  # names that no file can have
        key = os.path.normpath(full)
        if ".." in name and _real_parent(full) != _real_parent(key):
            key = os.path.join(_real_parent(full), os.path.basename(full))  # noqa: PTH118, PTH119
        relative = _relative(key, (self._written[0],))
        if relative is None:
            real = os.path.join(_real_parent(key), os.path.basename(key))  # noqa: PTH118, PTH119
            relative = _relative(real, (self._real[0],))
        return key if relative is None else relative

    def _with_slashes(self, name: str) -> str:
        r"""Return a path of Windows, such as `photos\0.jpg`, as it is here; others as they are."""
        if "\\" not in name or _exists(os.path.join(self._written[0], name)):  # noqa: PTH118
            return name
        other = name.replace("\\", "/")
        return other if _exists(str(_without_detour(Path(self._written[0], other)))) else name

    def below(self, name: str) -> str:
        """Return a path as it is below the folder, without `.` and `..`; no file is looked at."""
        path = os.path.normpath(name.replace("\\", "/"))
        return _relative(path, (self._written[0], self._real[0])) or path

    def ids_of(self, names: Iterable[str]) -> dict[str, str]:
        """Return the id of the picture that each name is of; names of one picture have one id.

        A picture that is written in one way only, and relative, is called so. One that is written
        in several ways, or absolute, is called by its path below the folder, or below `root`: ids
        stay when the dataset moves.

        Raises:
            DatasetFormatError: Two pictures would have the same id.
        """
        names_of: dict[str, list[str]] = {}
        for name in names:
            names_of.setdefault(self.key_of(name), []).append(name)
        ids: dict[str, str] = {}
        picture_of: dict[str, str] = {}
        for key, written in names_of.items():
            image_id = self._id_of(key, written)
            if picture_of.setdefault(image_id, key) != key:
                both = f"{picture_of[image_id]!r:.200} and {key!r:.200}"
                problem = f"pictures {both} would have one id, {image_id!r:.200}"
                remedy = "set source.root to a folder above both"
                raise format_error(self._file, "", f"{problem}; {remedy}")
            ids |= dict.fromkeys(written, image_id)
        return ids

    def _id_of(self, key: str, written: Sequence[str]) -> str:
        relative = [name for name in written if name[:1] != "/"]
        if len(written) == len(relative) == 1:
            return self._with_slashes(written[0])
        if key[:1] != "/":
            return key
        if relative:
            return os.path.relpath(key, self._written[0])
        return _relative(key, (*self._written[1:], *self._real[1:])) or key

    def check(self) -> None:
        """Pass if no path was outside of what is allowed.

        Raises:
            DatasetFormatError: One was; the message names it and the option that allows it.
        """
        if self._outside:
            raise self._refused()

    def _refused(self) -> DatasetFormatError:
        name, place, _ = self._outside[0]
        count = len(self._outside)
        more = f" (and {count - 1:,} more)" if count > 1 else ""
        option = _allowing([real for *_, real in self._outside])
        problem = f"image {name!r:.200}{more} lies outside of {self._folder}"
        return format_error(self._file, place, f"{problem}; where that is meant, add {option}")

    def _holds(self, path: Path) -> bool:
        """Return whether a file is below an allowed folder once links are followed.

        A link whose target is not there leads nowhere: its row is listed as missing.
        """
        parent = str(path.parent)
        if parent not in self._inside:
            real = _real(parent)
            written = os.path.abspath(parent)  # noqa: PTH100  # keeps links
            self._inside[parent] = _is_below(real, self._real) or (
                _is_below(written, self._written) and not _exists(real)
            )
        if path.name == ".." or not self._inside[parent]:
            return False
        if not os.path.islink(path):  # noqa: PTH114  # a name that no file can have is none
            return True
        real = _real(str(path))
        return _is_below(real, self._real) or not _exists(real)


def _allowing(paths: Sequence[str]) -> str:
    """Return the option that allows pictures at real paths."""
    parents = {os.path.dirname(path) for path in paths}  # noqa: PTH120  # texts
    common = os.path.commonpath(parents)
    while not os.path.isdir(common):  # noqa: PTH112  # a name that no file can have is none
        common = os.path.dirname(common)  # noqa: PTH120
    return f"--set {shlex.quote(f'source.root={common}')}"


def _folders_in(top: str) -> list[Path]:
    """Return the folders in one that are not hidden, in order; none where it may not be read."""
    try:
        return folders_in(Path(top))
    except OSError:
        return []


def _is_absolute(name: str) -> bool:
    return name[:1] == "/"


def _relative(path: str, folders: Sequence[str]) -> str | None:
    """Return a path below the first of some folders that it is in, or None."""
    below = (parent for parent in folders if path.startswith(f"{parent.rstrip('/')}/"))
    folder = next(below, None)
    return None if folder is None else path[len(folder.rstrip("/")) + 1 :]


def _real_parent(path: str) -> str:
    return _real(os.path.dirname(path))  # noqa: PTH120  # a name that no file can have


def _without_detour(path: Path) -> Path:
    """Return the file that a path through folders which are not there, such as `no/../a`, means.

    A path that leads somewhere as it is written stays, and so does one whose `..` climbs out of a
    link.
    """
    if ".." not in path.parts or _exists(str(path)):
        return path
    direct = os.path.normpath(path)
    is_meant = _real_parent(str(path)) == _real_parent(direct) and _exists(direct)
    return Path(direct) if is_meant else path


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _checked_root(root: str) -> str:
    if not os.path.isabs(root) or not os.path.isdir(root):  # noqa: PTH112, PTH117  # as above
        raise SourceOptionError(
            f"source.root must be the absolute path of a folder, found {root!r:.200}"
        )
    return root


def _real(path: str) -> str:
    """Return `path` with its links followed, as far as they lead."""
    try:
        return os.path.realpath(path)
    except ValueError:  # a NUL in it, or half of a surrogate pair
        return os.path.abspath(path)  # noqa: PTH100


def _exists(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110  # a name that no file can have does not
