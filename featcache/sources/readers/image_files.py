"""Find image files below a folder, and collect what is none."""

import os
import re
from pathlib import Path

from ...item_ids import storable_id
from ...regular_files import is_regular, open_regular
from ..base import counted

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".gif"),
        *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"),
        *(".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
    )
)
_SEEN = 32  # bytes by which a file without a suffix is told to be a picture
_BEGINNING = re.compile(  # of the formats that are decoded
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|BM.{4}\0{4}|II\*\0|MM\0\*|RIFF.{4}WEBP|.{4}ftypavif"
    rb"|\0\0\0\x0cjP {2}|\xff\x4f\xff\x51|P[1-6]\s",
    re.DOTALL,
)


class LeftOut:
    """Collect what stands among images and is not read, by the reason.

    Args:
        root: Folder of the dataset.
        expected: Suffix of files that belong to the images.
    """

    def __init__(self, root: Path, *, expected: str | None = None) -> None:
        self._root = root
        self._expected = expected
        self.beside: list[Path] = []  # files of that suffix
        self._paths: dict[tuple[str, str], list[Path]] = {}

    def add(self, noun: str, reason: str, path: Path) -> None:
        """Add a file or folder: `3 <noun>s <reason> left out`, the note will say."""
        if self._expected is not None and path.suffix.lower() == self._expected:
            self.beside.append(path)
        else:
            self._paths.setdefault((noun, reason), []).append(path)

    def notes(self) -> tuple[str, ...]:
        """Return a note for each reason."""
        notes = []
        for (noun, reason), paths in self._paths.items():
            example = storable_id(min(paths).relative_to(self._root).as_posix())
            entries = f"{counted(len(paths), noun)} {reason}".rstrip()
            notes.append(f"{entries} left out, such as {example!r:.200}")
        return tuple(notes)


def note_strays(folder: Path, left_out: LeftOut) -> None:
    """Note the images that stand beside class folders, and links in the place of these."""
    for entry in _entries(folder, left_out):
        path = Path(entry.path)
        if entry.is_symlink() and not os.path.exists(path):  # noqa: PTH110  # never raises
            left_out.add("link", "to nothing", path)
        elif path.suffix.lower() in SUFFIXES and is_regular(path):
            left_out.add("image", "outside of class folders", path)


def paths_below(root: Path, left_out: LeftOut) -> dict[str, str]:
    """Return the path of each image below a folder by its path there; see `image_files`."""
    files = image_files(root, left_out) if root.is_dir() else []
    return {path.relative_to(root).as_posix(): str(path) for path in files}


def image_files(folder: Path, left_out: LeftOut) -> list[Path]:
    """Return the images below a folder in a stable order; hidden ones are none.

    The folder may be a link; links to folders below it are not followed, as they could lead to any
    folder, and back.
    """
    images: list[Path] = []
    folders = [folder]
    while folders:
        for entry in _entries(folders.pop(), left_out):
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif _is_image(path, left_out):
                images.append(path)
    return sorted(images)


def _entries(folder: Path, left_out: LeftOut) -> list[os.DirEntry[str]]:
    """Return what stands in a folder and is not hidden; hidden images are noted."""
    try:
        with os.scandir(folder) as scanned:
            everything = list(scanned)
    except OSError:
        left_out.add("folder", "that cannot be read", folder)
        return []
    for entry in everything:
        if entry.name[:1] == "." and Path(entry.name).suffix.lower() in SUFFIXES:
            left_out.add("hidden file", "", Path(entry.path))
    return [entry for entry in everything if entry.name[:1] != "."]


def _is_image(path: Path, left_out: LeftOut) -> bool:
    """Return whether a file is an image by its suffix, or by its content where it has none."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES and is_regular(path):
        return True
    if os.path.isdir(path):  # noqa: PTH112  # of what may not be looked at, too
        left_out.add("linked folder", "among the images", path)
    elif not is_regular(path):
        is_link = os.path.islink(path)  # noqa: PTH114  # as above
        left_out.add(*(("link", "to nothing") if is_link else ("entry", "that is no file")), path)
    elif suffix:
        left_out.add("file", "without the suffix of an image", path)
    elif _begins_like_image(path):
        return True
    else:
        left_out.add("file", "without a suffix and of unknown content", path)
    return False


def _begins_like_image(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return _BEGINNING.match(file.read(_SEEN)) is not None
    except OSError:  # it may not be read: nobody can tell
        return False
