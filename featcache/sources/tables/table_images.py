"""Images that the rows of a table name or hold: where they lie, their ids and their splits."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from ..splits import splits_by_folder
from .parquet import StoredPicture
from .picture_places import PicturePlaces
from .table import Table
from .table_files import Cells
from .text_files import text_of

_BY_PATH = "ids are the image paths"


class ImageRow(NamedTuple):
    """Row of a table that is of an image.

    Attributes:
        place: Where the row stands, such as `line 7`.
        image: Path of the image as the table writes it, or the made-up name of one that stands in
            the table itself.
        value: What the row says of it.
        split: Its split as the table writes it, or None.
        item_id: Cell of the id column, or "".
    """

    place: str
    image: str
    value: Any
    split: str | None
    item_id: str


class TableImages:
    """Images of one table.

    Args:
        table: The table.
        column: Its column of images.
        root: Absolute path of a folder below which images may lie, too, or None.

    Attributes:
        id_column: Its column of ids, or None.
        pictures: The images that stand in the table, or None.

    """

    def __init__(self, table: Table, column: str, *, root: str | None) -> None:
        self._table = table
        self._column = column
        self.id_column = "id" if "id" in table.columns else None
        self._stored: dict[str, StoredPicture] = {}  # by made-up name
        self._root = root
        self.pictures = table.pictures(column)
        if self.pictures is not None:
            self.pictures.read_files_by(lambda path: self._places.allowed_path(path))

    @cached_property
    def _places(self) -> PicturePlaces:
        """Where images may lie; a wrong root is said after what is wrong with the rows."""
        dataset = self._table.files.root
        return PicturePlaces(self._table.name, self._table.folder, self._root, dataset=dataset)

    def name_in(self, cells: Cells) -> Any:
        """Return a name of the image that stands in a row, which no path can be, or the cell."""
        image = self._table.image_of(cells, self._column)
        if not isinstance(image, StoredPicture):
            return image
        name = f"{image.file}\0{image.row}"
        self._stored[name] = image
        return name

    def row_of(self, place: str, cells: Cells) -> ImageRow:
        """Return a row by the image that it names or holds, without what it says of that.

        Args:
            place: Where the row stands, such as `line 7`.
            cells: Its cells.

        Raises:
            ValueError: The cell of the image is neither a path nor holds an image.
        """
        image = self.name_in(cells)
        name = text_of(image).strip() if isinstance(image, str) else ""
        if not name:
            problem = f"column {self._column!r} must hold the path of an image, found {image!r:.80}"
            raise ValueError(problem)
        item_id = None if self.id_column is None else cells.get(self.id_column)
        return ImageRow(place, name, None, None, "" if item_id is None else str(item_id).strip())

    def is_stored(self, name: str) -> bool:
        """Return whether an image stands in the table."""
        return name in self._stored

    def inside(self, rows: Sequence[ImageRow]) -> list[ImageRow]:
        """Return rows by where their images lie in the dataset, without those that lie elsewhere.

        Raises:
            DatasetFormatError: Those of half of the rows lie elsewhere, or of more.
        """
        of_files = [row for row in rows if row.image not in self._stored]
        names = self._places.in_folders_of_splits(
            [(row.image, row.split or self._table.split_of_name) for row in of_files]
        )
        path_of = {row.place: name for row, name in zip(of_files, names, strict=True)}
        written = [(name, row.place) for row, name in zip(of_files, names, strict=True)]
        outside = self._places.leave_out(written, self._table.ledger.skip)
        moved = (row._replace(image=path_of.get(row.place, row.image)) for row in rows)
        return [row for row in moved if row.image not in outside]

    def in_splits_of_folders(self, rows: Sequence[ImageRow]) -> list[ImageRow] | None:
        """Return rows with the splits of the folders that all paths begin with.

        None without two splits: a lone folder, such as `train`, says nothing of what is held out.
        """
        images = dict.fromkeys(row.image for row in rows)
        below = {image: self._places.below(self._path_of(image)) for image in images}
        split_of = splits_by_folder(below.values())
        if split_of is None or len(set(split_of.values())) < 2:
            return None
        return [row._replace(split=split_of[below[row.image]]) for row in rows]

    def places_of(self, rows: Sequence[ImageRow]) -> dict[str, str | StoredPicture]:
        """Return where each image lies, by its name: its file, or its place in the table."""
        places: dict[str, str | StoredPicture] = {}
        for row in rows:
            if row.image not in places:
                stored = self._stored.get(row.image)
                places[row.image] = stored or str(self._places.path_of(row.image, row.place))
        return places

    def ids_of(self, rows: Sequence[ImageRow]) -> tuple[Mapping[str, str], str]:
        """Return the id of each image by its name, and what the ids are.

        Raises:
            DatasetFormatError: Two pictures would have the same id.
        """
        stored = [row for row in rows if row.image in self._stored]
        path_ids = self._places.ids_of(
            dict.fromkeys(row.image for row in rows if row.image not in self._stored)
        )
        if stored:
            ids, title = self._ids_of_stored(stored, set(path_ids.values()))
            return {**path_ids, **ids}, title
        names = [path_ids[row.image] for row in rows]
        item_ids = [row.item_id for row in rows]
        if self.id_column is None or not _are_keys(item_ids, names):
            return path_ids, _BY_PATH
        id_of = dict(zip(names, item_ids, strict=True))
        return {name: id_of[path] for name, path in path_ids.items()}, f"ids from {self.id_column}"

    def _ids_of_stored(
        self, rows: Sequence[ImageRow], taken: set[str]
    ) -> tuple[Mapping[str, str], str]:
        """Return the id of each image that stands in the table, and what the ids are.

        An id or a path that comes once in all rows names an image for certain. Where they repeat,
        the images are compared, as each may stand in several rows.

        Args:
            rows: The rows of such images.
            taken: Ids of images that are files.
        """
        keys = [row.image for row in rows]
        candidates = [([self._path_of(key) for key in keys], _BY_PATH)]
        if self.id_column is not None and not taken:
            candidates.insert(0, ([row.item_id for row in rows], f"ids from {self.id_column}"))
        candidates = [
            (names, title) for names, title in candidates if all(names) and not taken & set(names)
        ]
        for names, title in candidates:
            if len(set(names)) == len(names):
                return dict(zip(keys, names, strict=True)), title
        assert self.pictures is not None
        # only where names repeat, as it reads the bytes of all pictures
        digests = [self.pictures.digest_of(self._stored[key]) for key in keys]
        for names, title in candidates:
            if _are_keys(names, digests):
                return dict(zip(keys, names, strict=True)), title
        first: dict[bytes, str] = {}
        numbered = enumerate(digests, start=1)
        names = [first.setdefault(digest, f"row-{number}") for number, digest in numbered]
        return dict(zip(keys, names, strict=True)), "ids are the numbers of the rows"

    def _path_of(self, name: str) -> str:
        """Return the path of an image, which one that stands in the table may lack."""
        stored = self._stored.get(name)
        return name if stored is None else stored.name or ""


def _are_keys(ids: Sequence[str], names: Sequence[str | bytes]) -> bool:
    """Return whether each of the names has one id, and each id one name."""
    pairs = set(zip(ids, names, strict=True))
    return all(ids) and len(pairs) == len(set(ids)) == len(set(names))
