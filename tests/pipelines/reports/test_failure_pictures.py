"""What a page shows of the worst answers, where a dataset has moved or has changed."""

import numpy as np
import pytest
from PIL import Image

from lightalign.featcache.errors import SpecError
from lightalign.featcache.sources.opening import open_source
from lightalign.featcache.store.catalog import pairs_path, write_pairs
from lightalign.pipelines.inputs.datasets import add
from lightalign.pipelines.reports.failure_pictures import FailurePictures

IDS = [f"val/{name}/{number}.png" for name in ("ash", "birch") for number in range(2)]


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos", side=8)


def write_photos(root, *, side):
    random = np.random.default_rng(0)
    for name in IDS:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cells = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(cells).save(path)
    return root


def evaluated(home, root):
    """Return a report on all photos of a folder, as it is now."""
    data = f"image-folder={root}"
    source = open_source(data, home=home)
    fingerprint = source.fingerprint("val")
    write_pairs(pairs_path(home, "image-folder", "val", fingerprint), source.pairs("val"))
    return {
        "dataset": "image-folder",
        "split": "val",
        "source": fingerprint,
        "options": {"data": data},
        "failures": [{"query": name} for name in IDS],
    }


def shown(pictures, report):
    """Return for each photo whether its picture is shown."""
    return [card["query"][0]["picture"] is not None for card in pictures.cards(report, most=9)]


def test_a_deleted_photo_takes_no_other_picture_with_it(tmp_path, photos):
    report = evaluated(tmp_path, photos)
    (photos / IDS[1]).unlink()
    pictures = FailurePictures(tmp_path)
    assert shown(pictures, report) == [True, False, True, True]
    (note,) = pictures.notes
    assert "1 of 4 pictures of image-folder/val are not there any more" in note


def test_a_folder_with_other_photos_besides_is_another_dataset(tmp_path, photos):
    report = evaluated(tmp_path, photos)
    (photos / IDS[1]).rename(photos / "val" / "ash" / "7.png")
    pictures = FailurePictures(tmp_path)
    assert shown(pictures, report) == [False] * 4
    assert pictures.notes == [
        "image-folder/val is not what was evaluated any more: ids are shown alone"
    ]


def test_photos_of_other_sizes_under_the_same_names_are_another_dataset(tmp_path, photos):
    report = evaluated(tmp_path, photos)
    (photos / IDS[0]).write_bytes((photos / IDS[0]).read_bytes() + b"\0")
    assert shown(FailurePictures(tmp_path), report) == [False] * 4


def test_a_wrong_place_hides_nothing_and_is_refused(tmp_path, photos):
    report = evaluated(tmp_path, photos)
    add(tmp_path, "image-folder", photos)
    for place in (tmp_path / "nowhere", write_photos(tmp_path / "other", side=9)):
        pictures = FailurePictures(tmp_path, [f"image-folder={place}"])
        assert shown(pictures, report) == [True] * 4
        assert pictures.notes == []
        with pytest.raises(SpecError, match=f"--data image-folder={place} is not what was"):
            pictures.require_used()


def test_a_place_that_is_named_is_used_though_the_old_one_is_there(tmp_path, photos):
    report = evaluated(tmp_path, photos)
    add(tmp_path, "image-folder", photos)
    copied = write_photos(tmp_path / "copied", side=8)
    pictures = FailurePictures(tmp_path, [f"image-folder={copied}"])
    for name in IDS:  # pictures can come from nowhere else
        (photos / name).write_bytes(b"")
    assert shown(pictures, report) == [True] * 4
    pictures.require_used()


def test_a_dataset_that_has_moved_is_found_where_it_is_said_to_be(tmp_path, photos):
    report = evaluated(tmp_path, photos)
    photos.rename(tmp_path / "elsewhere")
    assert shown(FailurePictures(tmp_path), report) == [False] * 4
    moved = [f"image-folder={tmp_path / 'elsewhere'}"]
    assert shown(FailurePictures(tmp_path, moved), report) == [True] * 4
