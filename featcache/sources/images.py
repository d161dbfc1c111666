"""Any folder of images alone, to search in."""

from pathlib import Path

from ..source import missing_dataset
from ._caption_source import CaptionedImages, CaptionSource
from ._image_files import image_files


class ImagesSource(CaptionSource):
    """Read all images below a folder; they have neither texts nor classes, and no split but `test`.

    Image ids are paths below the folder.

    Args:
        place: The folder.

    Raises:
        DatasetNotFoundError: There is no image.
        DatasetFormatError: Two images would get the same id.
    """

    title = "Your own images alone, in any folders: to search in"

    def __init__(self, place: Path, /) -> None:
        paths = {path.relative_to(place).as_posix(): path for path in image_files(place)}
        if not paths:
            get_it = "It is your own folder of images."
            raise missing_dataset("images", place, ("image.jpg in any folder",), get_it)
        images = CaptionedImages(place, dict.fromkeys(paths, ()), dict.fromkeys(paths, "test"))
        super().__init__(place, images, paths)
