"""Keep the pictures that a table names below the folder of the dataset, or where a user allows."""

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import DatasetFormatError, SpecError
from ._decoding import format_error

# what more than one path can be written as: absolute ones, empty parts, `.` and `..`
_ODD_PATH = re.compile(r"^/|//|/$|(^|/)\.\.?(/|$)")


class PicturePlaces:
    """Find the files of pictures that a table names, and refuse those that lie elsewhere.

    A table of somebody else's could name any file of this machine: a path with `..`, an absolute
    one, or one through a link out of the dataset. The dataset's folder itself may be a link.

    Args:
        file: The table, for messages.
        folder: Folder that its paths start from.
        root: Absolute path of a further folder below which pictures may lie, or None.

    Raises:
        SpecError: `root` is no absolute path of a folder.
    """

    def __init__(self, file: Path, folder: Path, root: str | None) -> None:
        self._file = file
        self._folder = folder
        folders = [str(folder), *([] if root is None else [_checked_root(root)])]
        self._written = [os.path.abspath(one) for one in folders]  # noqa: PTH100  # keeps links
        self._real = [os.path.realpath(one) for one in folders]
        self._inside: dict[str, bool] = {}  # by parent folder: most pictures share one
        self._outside: list[tuple[str, str, str]] = []

    def path_of(self, name: str, place: str) -> Path:
        """Return the file of a picture.

        Args:
            name: Its path as the table writes it.
            place: Where in the table, such as `line 7`.
        """
        path = self._folder / self._with_slashes(name)
        if not self._holds(path):
            self._outside.append((name, place, _real(str(path))))
        return path

    def allowed_path(self, name: str) -> Path | None:
        """Return the file of a picture, or None where it lies elsewhere."""
        path = self._folder / self._with_slashes(name)
        return path if self._holds(path) else None

    def key_of(self, name: str) -> str:
        """Return one name for all ways to write the path of a picture.

        It is relative to the folder, without `.` and `..`, for a picture below it, else absolute.
        Links are what they are called, but for those that `..` climbs out of.
        """
        name = self._with_slashes(name)
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
        return other if _exists(os.path.join(self._written[0], other)) else name  # noqa: PTH118

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
                problem = (
                    f"pictures {picture_of[image_id]!r:.200} and {key!r:.200} would have one id"
                )
                remedy = "set source.root to a folder above both"
                raise format_error(self._file, "", f"{problem}, {image_id!r:.200}; {remedy}")
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
        below = _relative(key, (*self._written[1:], *self._real[1:]))
        return key if below is None else below

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
        others = f" (and {count - 1:,} more)" if count > 1 else ""
        parents = {os.path.dirname(real) for *_, real in self._outside}  # noqa: PTH120  # texts
        common = os.path.commonpath(parents)
        while not os.path.isdir(common):  # noqa: PTH112  # a name that no file can have is none
            common = os.path.dirname(common)  # noqa: PTH120
        option = shlex.quote(f"source.root={common}")
        return format_error(
            self._file,
            place,
            f"image {name!r:.200}{others} lies outside of {self._folder}; where that is meant, add "
            f"--set {option}",
        )

    def _holds(self, path: Path) -> bool:
        """Say whether a file is below an allowed folder, as it is written and as it is found.

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


def _relative(path: str, folders: Sequence[str]) -> str | None:
    """Return a path below the first of some folders that it is in, or None."""
    below = (one for one in folders if path.startswith(f"{one.rstrip('/')}/"))
    folder = next(below, None)
    return None if folder is None else path[len(folder.rstrip("/")) + 1 :]


def _real_parent(path: str) -> str:
    return _real(os.path.dirname(path))  # noqa: PTH120  # a name that no file can have


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in folders)


def _checked_root(root: str) -> str:
    if not os.path.isabs(root) or not os.path.isdir(root):  # noqa: PTH112, PTH117  # as above
        raise SpecError(f"source.root must be the absolute path of a folder, found {root!r:.200}")
    return root


def _real(path: str) -> str:
    """Return `path` with its links followed, as far as they lead."""
    try:
        return os.path.realpath(path)
    except ValueError:  # a NUL in it, or half of a surrogate pair
        return os.path.abspath(path)  # noqa: PTH100


def _exists(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110  # a name that no file can have does not
