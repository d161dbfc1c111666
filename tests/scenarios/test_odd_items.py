"""One row whose picture or text is no picture or text: one line of the ledger, and no more."""

import json
import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from lightalign.featcache.reading.reader import FeatureReader
from lightalign.pipelines.extraction.reports import StoreReport

from ..helpers import lightalign
from ..pipelines.conftest import extract_toy
from .test_broken_pictures import RED

LONG = "x" * 300 + ".jpg"
ODD = {  # by file name as the table writes it: what the ledger says of it
    "pipe.jpg": "is a named pipe, not a regular file",
    "socket.jpg": "not a regular file",
    "folder.jpg": "Is a directory",
    "loop.jpg": "Too many levels of symbolic links",
    "dangling.jpg": "No such file or directory",
    "file.jpg/below.jpg": "Not a directory",
    "nul\0.jpg": "no file can have this name",
    "half\ud83d.jpg": "no file can have this name",
    LONG: "File name too long",
    "huge.jpg": "are more than the 268,435,456 allowed",
}


def write_odd_dataset(folder: Path) -> None:
    """Write a table of one good picture and every odd one; each has a caption."""
    folder.mkdir()
    (folder / "file.jpg").write_bytes(RED)
    os.mkfifo(folder / "pipe.jpg")
    here = Path.cwd()
    os.chdir(folder)  # the address of a socket is at most 108 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket.jpg")
    finally:
        os.chdir(here)
    (folder / "folder.jpg").mkdir()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    with (folder / "huge.jpg").open("wb") as file:
        file.truncate(2**40)
    rows = [
        {"image": name, "caption": f"caption {number}", "split": "train"}
        for number, name in enumerate(["file.jpg", *ODD])
    ]
    (folder / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture(scope="module")
def odd_home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StoreReport, StoreReport]:
    folder = tmp_path_factory.mktemp("odd")
    write_odd_dataset(folder / "data")
    home = folder / "home"
    options = {
        "data": f"image-text-table={folder / 'data'}",
        "source": {},
        "split": "train",
        "on_error": "skip",
    }
    images = extract_toy(home, "toy-image", **options).stores[0]
    texts = extract_toy(home, "toy-text", **options).stores[0]
    return home, images, texts


def test_a_picture_that_is_no_regular_file_is_one_line_of_the_ledger(odd_home) -> None:
    _, images, _ = odd_home
    reasons = [one.reason for one in images.skipped]
    assert images.rows == 1
    assert len(reasons) == len(ODD)
    for name, reason in ODD.items():
        place = list(ODD).index(name)
        assert reason in reasons[place], name
        assert "\n" not in reasons[place]


def test_what_has_no_utf8_is_escaped_in_ids(odd_home) -> None:
    _, images, texts = odd_home
    ids = [one.id for one in images.skipped]
    assert r"nul\x00.jpg" in ids
    assert r"half\ud83d.jpg" in ids
    assert r"half\ud83d.jpg#0" in FeatureReader(texts.folder).ids
    assert not texts.skipped


def test_cache_info_lists_them(odd_home) -> None:
    home, images, _ = odd_home
    shown = lightalign("cache", "info", images.key[:12], home=home)
    assert shown.returncode == 0
    listed = [one["id"] for one in json.loads(shown.stdout)["skipped"]]
    assert listed == [one.id for one in images.skipped]


def test_a_key_does_not_tell_how_a_picture_is_missing(odd_home, tmp_path: Path) -> None:
    """A fingerprint knows sizes, and that of all but a regular file is unknown."""
    _, images, _ = odd_home
    write_odd_dataset(tmp_path / "data")
    for name in ("pipe.jpg", "socket.jpg"):
        (tmp_path / "data" / name).unlink()
    data = f"image-text-table={tmp_path / 'data'}"
    again = extract_toy(
        tmp_path / "h", "toy-image", data=data, source={}, split="train", on_error="skip"
    )
    assert again.stores[0].key == images.key


def test_a_picture_that_becomes_a_pipe_ends_extraction_with_one_line(tmp_path: Path) -> None:
    """The store's key stands for a file that was there."""
    (tmp_path / "data").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "data" / name).write_bytes(RED)
    (tmp_path / "data" / "table.csv").write_text("image,caption\na.jpg,x\nb.jpg,y\n")
    from lightalign.featcache.sources import base

    fingerprint = base.fingerprint_items

    def then_replaced(opened, split):
        try:
            return fingerprint(opened, split)
        finally:
            (tmp_path / "data" / "b.jpg").unlink(missing_ok=True)
            if not (tmp_path / "data" / "b.jpg").exists():
                os.mkfifo(tmp_path / "data" / "b.jpg")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightalign.featcache.sources.base.fingerprint_items", then_replaced)
        done = lightalign(
            *("extract", "--encoder", "toy-image", "--device", "cpu"),
            *("--data", f"image-text-table={tmp_path / 'data'}"),
            home=tmp_path / "h",
        )
    assert done.returncode == 2
    assert "b.jpg: cannot read b.jpg: is a named pipe" in done.stderr
    assert "run the same command again" in done.stderr


def test_half_of_a_surrogate_pair_is_one_line_of_the_ledger_and_no_more(tmp_path: Path) -> None:
    """JSON can write what has no UTF-8; all that comes after extraction runs without it."""
    (tmp_path / "data").mkdir()
    rows = []
    for number in range(8):
        colour = Image.new("RGB", (8, 8), (number * 30, 9 * number, 255 - number))
        colour.save(tmp_path / "data" / f"{number}.jpg")
        caption = "half \ud83d of it" if number == 3 else f"caption {number}"
        rows.append({"image": f"{number}.jpg", "caption": caption, "split": "train"})
    (tmp_path / "data" / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {"data": f"image-text-table={tmp_path / 'data'}", "source": {}, "on_error": "skip"}
    home = tmp_path / "home"
    extract_toy(home, "toy-image", **options)
    texts = extract_toy(home, "toy-text", **options).stores[0]
    (skipped,) = texts.skipped
    assert skipped.id == "3.jpg#0"
    assert skipped.reason == (
        "3.jpg#0: the text is not valid Unicode: half of a surrogate pair, '\\ud83d', at letter 6"
    )
    for command in (
        ["train-adapter", "--name", "r", "--set", "train.epochs=1", "--device", "cpu"],
        ["index", "r", "--split", "train", "--side", "text"],
        ["search", "r", "caption 1", "--side", "text", "--sheet", str(tmp_path / "s.png")],
        ["report", "r", "--out", str(tmp_path / "r.html")],
        ["cache", "info", texts.key[:12]],
    ):
        done = lightalign(*command, home=home)
        assert done.returncode == 0, (command, done.stderr)


def test_strings_of_an_index_come_back_whatever_they_hold(tmp_path: Path) -> None:
    from lightalign.featcache.string_array import Strings

    strings = ["", "a", "half \ud83d", "caf\udce9.jpg", "\0", "é"]
    Strings.of(strings).write(tmp_path, "contents")
    read = Strings.read(tmp_path, "contents")
    assert [read.at(row) for row in range(len(strings))] == strings


def test_names_in_another_encoding_are_read_and_escaped(tmp_path: Path) -> None:
    for name in (b"a", b"caf\xe9"):
        folder = tmp_path / "data" / os.fsdecode(name)
        folder.mkdir(parents=True)
        for number in range(4):
            (folder / os.fsdecode(b"\xe9%d.jpg" % number)).write_bytes(RED)
    done = lightalign(
        *("extract", "--encoder", "toy-image", "--device", "cpu", "--split", "train"),
        *("--data", f"image-folder={tmp_path / 'data'}"),
        home=tmp_path / "home",
    )
    assert done.returncode == 0, done.stderr
    assert r"escaped or shortened as ids, such as a/\udce90.jpg" in done.stderr
    store = next((tmp_path / "home" / "features" / "image-folder" / "train").glob("toy-image*"))
    ids = FeatureReader(store).ids
    assert len(ids) == 4
    assert all("\\udce9" in one for one in ids)
