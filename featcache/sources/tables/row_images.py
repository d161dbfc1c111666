"""Ids of the images that the rows of a table name, or hold themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .parquet import StoredPicture, StoredPictures


@dataclass(frozen=True)
class RowImages:
    """Image of each row of a table.

    Attributes:
        names: Name of the image, which is made up of one that stands in the table itself.
        ids: Cell of the id column, or "".
        id_column: The id column, or None.
        stored: Place of each image that stands in the table, by its made-up name.
    """

    names: Sequence[str]
    ids: Sequence[str]
    id_column: str | None
    stored: Mapping[str, StoredPicture]

    def ids_of_names(
        self, path_ids: Mapping[str, str], pictures: StoredPictures | None
    ) -> tuple[Mapping[str, str], str]:
        """Return the id of each image by its name, and what the ids are.

        Args:
            path_ids: Id of each image that is a file, by its name: that of its path.
            pictures: The images that stand in the table.
        """
        if self.stored and pictures is not None:
            ids, named_by = self._stored_ids(set(path_ids.values()), pictures)
            return {**path_ids, **ids}, named_by
        if self.id_column is not None:
            names = [path_ids[name] for name in self.names]
            if _are_keys(self.ids, names):
                by_name = dict(zip(names, self.ids, strict=True))
                ids = {name: by_name[path_id] for name, path_id in path_ids.items()}
                return ids, f"ids from {self.id_column}"
        return path_ids, "ids are the image paths"

    def _stored_ids(
        self, taken: set[str], pictures: StoredPictures
    ) -> tuple[Mapping[str, str], str]:
        """Return the id of each image that stands in the table, and what the ids are.

        An id or a path that comes once in all rows names an image for certain. Where they repeat,
        the images are compared, as each may stand in several rows.
        """
        keys = [name for name in self.names if name in self.stored]
        candidates = [([self.stored[key].name or "" for key in keys], "ids are the image paths")]
        if self.id_column is not None and not taken:
            candidates.insert(0, (list(self.ids), f"ids from {self.id_column}"))
        candidates = [
            (names, title) for names, title in candidates if all(names) and not taken & set(names)
        ]
        for names, title in candidates:
            if len(set(names)) == len(names):
                return dict(zip(keys, names, strict=True)), title
        digests = [pictures.digest(self.stored[key]) for key in keys]
        for names, title in candidates:
            if _are_keys(names, digests):
                return dict(zip(keys, names, strict=True)), title
        first: dict[bytes, str] = {}
        numbered = enumerate(digests, start=1)
        names = [first.setdefault(digest, f"row-{number}") for number, digest in numbered]
        return dict(zip(keys, names, strict=True)), "ids are the numbers of the rows"


def made_up_name(picture: StoredPicture) -> str:
    """Return a name of an image that stands in a table, which no path can be."""
    return f"{picture.file}\0{picture.row}"


def _are_keys(ids: Sequence[str], names: Sequence[str | bytes]) -> bool:
    """Return whether each of the names has one id, and each id one name."""
    pairs = set(zip(ids, names, strict=True))
    return all(ids) and len(pairs) == len(set(ids)) == len(set(names))
