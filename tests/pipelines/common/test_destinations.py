"""Where users say that something is written: nothing of theirs is lost, no link is followed."""

import os
import socket

import pytest
from PIL import Image

from lightalign.featcache import atomic_files
from lightalign.featcache.errors import SpecError
from lightalign.pipelines.common.destinations import check_file, check_folder
from lightalign.pipelines.exporting import export
from lightalign.pipelines.exporting.export_spec import ExportSpec
from lightalign.pipelines.metrics.number import SCHEMA
from lightalign.pipelines.reports import report
from lightalign.pipelines.reports.report_spec import ReportSpec
from lightalign.pipelines.search.contact_sheet import Cell, write_sheet
from lightalign.pipelines.search.search_spec import SearchSpec

from ...helpers import lightalign

CELL = Cell(picture=None, text="a text", title="1.", name="x")


def wants_file(path, *, force=False):
    check_file(path, option="--sheet", force=force)


def wants_folder(path, *, force=False):
    check_folder(
        path,
        option="--output",
        force=force,
        is_own=lambda folder: (folder / "ours").exists(),
        what="export",
    )


def bind(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)  # from the working directory: such addresses are short


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (os.mkfifo, "is a device or a pipe"),
        (bind, "is a device or a pipe"),
        (lambda path: path.symlink_to("nowhere"), "is a symbolic link"),
        (lambda path: path.symlink_to(path), "is a symbolic link"),
        (lambda path: path.symlink_to("/dev/null"), "is a symbolic link"),
    ],
)
def test_what_is_no_file_is_never_replaced(tmp_path, monkeypatch, make, message, force):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "there")
    with pytest.raises(SpecError, match=message):
        wants_file(tmp_path / "there", force=force)


def test_a_link_to_a_file_of_ours_is_not_written_through(tmp_path):
    write_sheet(tmp_path / "own.html", CELL, [])
    (tmp_path / "link.html").symlink_to("own.html")
    with pytest.raises(SpecError, match="is a symbolic link: name the place"):
        wants_file(tmp_path / "link.html")


@pytest.mark.parametrize("wants", [wants_file, wants_folder])
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file/x.html", "file is no folder|Not a directory"),
        ("file/more/x.html", "Not a directory|is no folder"),
        ("dangling/x.html", "is a symbolic link to nothing"),
        ("loop/x.html", "symbolic link"),
        ("x" * 300, "File name too long"),
        ("a\0b", "cannot be a name"),
    ],
)
def test_a_place_that_cannot_be_made_is_said_before_the_work(tmp_path, wants, place, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SpecError, match=message):
        wants(tmp_path / place)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o500)
    with pytest.raises(SpecError, match=r"nothing can be written in .*theirs: Permission denied"):
        wants_file(tmp_path / "theirs" / "x.html")


@pytest.mark.parametrize("wants", [wants_file, wants_folder])
def test_a_free_place_is_taken_with_folders_that_miss(tmp_path, wants):
    wants(tmp_path / "x")
    wants(tmp_path / "new" / "newer" / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["sheet.html", "sheet.png"])
def test_a_sheet_of_ours_is_replaced_without_force(tmp_path, name):
    write_sheet(tmp_path / name, CELL, [CELL])
    wants_file(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!doctype html>\n<title>mine</title>",
        b'a note about <meta name="generator" content="lightalign">',
        b"<!doctype html>" + b" " * 5000 + b'<meta name="generator" content="lightalign">',
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xfe\x00",
    ],
)
def test_a_file_of_somebody_else_is_replaced_by_force_only(tmp_path, content):
    (tmp_path / "x.html").write_bytes(content)
    with pytest.raises(
        SpecError, match=r"is there already .* name another --sheet, or add --force"
    ):
        wants_file(tmp_path / "x.html")
    wants_file(tmp_path / "x.html", force=True)


def test_a_picture_of_another_program_is_not_ours(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    with pytest.raises(SpecError, match="add --force"):
        wants_file(tmp_path / "x.png")


def test_a_folder_is_replaced_by_force_only_if_it_is_ours(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    wants_folder(folder)  # empty
    (folder / "ours").write_text("")
    with pytest.raises(SpecError, match="is there already: name another --output, or add --force"):
        wants_folder(folder)
    wants_folder(folder, force=True)
    (folder / "ours").rename(folder / "theirs")
    with pytest.raises(SpecError, match="is no export, so --force does not replace it"):
        wants_folder(folder, force=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match=r"is a folder, and .* is none"):
        wants_folder(tmp_path / "file", force=True)


def test_a_search_refuses_its_sheet_before_it_looks_for_a_run(tmp_path):
    (tmp_path / "mine.html").write_text("mine")
    arguments = ("search", "no-such-run", "a dog", "--sheet", str(tmp_path / "mine.html"))
    refused = lightalign(*arguments, home=tmp_path)
    assert refused.returncode == 2
    assert "add --force" in refused.stderr
    assert "no-such-run" in lightalign(*arguments, "--force", home=tmp_path).stderr
    assert (tmp_path / "mine.html").read_text() == "mine"
    assert SearchSpec(home=tmp_path, query="a", sheet=tmp_path / "mine.html", force=True).sheet


@pytest.fixture
def evaluated(tmp_path):
    """Return the file of an evaluation that a page can be written about."""
    table = {"schema": SCHEMA, "kind": "x", "dataset": "d", "split": "s", "metrics": {}}
    atomic_files.write_json(tmp_path / "evaluated.json", table)
    return tmp_path / "evaluated.json"


def test_a_page_of_ours_is_replaced_and_another_by_force(tmp_path, evaluated):
    page, mine = tmp_path / "page.html", tmp_path / "mine.txt"
    for _ in range(2):
        report.run(ReportSpec(home=tmp_path, runs=(str(evaluated),), out=page))
    mine.write_text("mine")
    arguments = ("report", str(evaluated), "--out", str(mine))
    refused = lightalign(*arguments, home=tmp_path)
    assert (refused.returncode, mine.read_text()) == (2, "mine")
    assert lightalign(*arguments, "--force", home=tmp_path).returncode == 0
    assert mine.read_bytes() == page.read_bytes()


def test_a_page_beside_its_evaluation_replaces_one_of_an_earlier_version(tmp_path, evaluated):
    evaluated.with_suffix(".html").write_text("<!doctype html>")  # had no generator
    report.run(ReportSpec(home=tmp_path, runs=(str(evaluated),)))
    report.run(ReportSpec(home=tmp_path, runs=(str(evaluated),)))
    evaluated.with_suffix(".html").unlink()
    evaluated.with_suffix(".html").symlink_to("elsewhere")
    with pytest.raises(SpecError, match="is a symbolic link"):
        report.run(ReportSpec(home=tmp_path, runs=(str(evaluated),)))


def test_an_exported_run_is_told_from_other_folders(tmp_path):
    spec = ExportSpec(home=tmp_path, run=None, to="onnx", output=tmp_path / "out", force=True)
    assert spec.force
    for content, own in (
        ({"format": "lightalign towers for onnx"}, True),
        ({"format": 3}, False),
        ([], False),
    ):
        atomic_files.write_json(tmp_path / export.ABOUT, content)
        assert export.is_export(tmp_path) == own
    (tmp_path / export.ABOUT).write_text("{")
    assert not export.is_export(tmp_path)
