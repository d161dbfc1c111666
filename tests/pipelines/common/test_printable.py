"""What text of others does on a terminal, on a page, in a picture: nothing."""

import io
import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from PIL import Image
from rich.console import Console

from lightalign.featcache import atomic_files
from lightalign.pipelines.commands import _common
from lightalign.pipelines.commands._common import CommandOutput
from lightalign.pipelines.common.plots import draw_confusion
from lightalign.pipelines.common.printable import for_page, printable, printable_lines
from lightalign.pipelines.metrics.number import SCHEMA
from lightalign.pipelines.rendering.progress_bars import BarProgress, LineProgress
from lightalign.pipelines.rendering.tables import ResultTable, rows_table
from lightalign.pipelines.reports import report
from lightalign.pipelines.search.contact_sheet import Cell, write_sheet

# clears the screen; sets the title; the clipboard; an 8-bit CSI; bell; backspace; return to the
# beginning of the line; turns what follows around; half of a surrogate pair; markup, emoji
ATTACKS = {
    "clear": "\x1b[2J",
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJmCg==\x1b\\",
    "csi": "\x9b31m",
    "backspace": "abc\b\b\b",
    "delete": "\x7f",
    "return": "good\rbad",
    "newline": "first\nsecond",
    "tab": "a\tb",
    "override": "\u202egnp.exe",
    "isolate": "\u2067abc",
    "line separator": "a\u2028b",
    "half": "\ud800",
    "file name": "caf\udce9",
    "tag": "\U000e0041",
    "markup": "[bold red]x[/bold red]",
    "closing": "[/]",
    "link": "[link=https://example.org]x[/link]",
    "emoji": ":dog:",
}
every_attack = pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)


def is_quiet(shown):
    return all(character == "\n" or character.isprintable() for character in shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b", r"\x9b"),
        ("a\tb\nc\r", r"a\tb\nc\r"),
        ("\u202e", r"\u202e"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("", ""),
    ],
)
def test_what_acts_is_shown_as_an_escape(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a dog in the snow",
        "\u00e4\u6f22 \u05d0\u05d1\u200f \u0645\u06cc\u200c\u062e",  # Hebrew and Persian marks
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f",  # a family, a heart
        r"C:\x1b\new",
    ],
)
def test_what_people_write_stays_as_it_is(text):
    assert printable(text) == printable_lines(text) == for_page(text) == text


def test_lines_of_a_result_stay_lines():
    assert printable_lines("a\nb\x1b\tc") == "a\nb\\x1b\\tc"


@pytest.fixture
def printed(capsys):
    """Return a function that prints a result and returns what reaches standard output."""

    def show(value, *parts, as_json=False):
        CommandOutput(as_json=as_json, quiet=True).result(value, *parts)
        return capsys.readouterr().out

    return show


@every_attack
def test_a_table_shows_its_cells_as_they_are(printed, text):
    shown = printed({}, rows_table([{"id": text, "found": text, "more": "x"}]))
    assert is_quiet(shown)
    assert shown.count("\n") == 2  # the header and one row
    assert shown.count(printable(text)) == 2


@every_attack
def test_title_and_header_of_a_table_are_shown_as_they_are(printed, text):
    table = ResultTable(text)
    table.add_column(text.replace("\n", ""))
    table.add_row(text)
    shown = printed({}, table)
    assert is_quiet(shown)
    assert printable(text) in shown.split("\n")[0]


@every_attack
def test_a_line_of_a_result_is_shown_as_it_is(printed, text):
    shown = printed({}, f"report: {text}")
    assert shown == f"report: {printable_lines(text)}\n"
    assert is_quiet(shown)


@every_attack
def test_json_says_the_text_and_acts_on_nothing(printed, text):
    shown = printed({"id": text}, as_json=True)
    assert is_quiet(shown)
    assert shown.isascii()
    assert json.loads(shown) == {"id": text}


@every_attack
def test_a_note_is_one_line_that_does_nothing(text):
    for kind, terminal in ((LineProgress, False), (BarProgress, True)):
        stream = io.StringIO()
        progress = kind(Console(file=stream, force_terminal=terminal, width=200, color_system=None))
        progress.note(text)
        assert stream.getvalue() == f"{printable(text)}\n"


@every_attack
def test_the_label_of_a_bar_is_shown_as_it_is(text):
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=True, force_interactive=False, width=200, color_system=None
    )
    progress = BarProgress(console)
    progress.start(text, 3, unit=text)
    progress.detail(text)
    progress.advance(1)
    assert progress.bars is not None
    console.print(progress.bars.get_renderable())
    progress.finish()
    assert stream.getvalue().count(printable(text)) >= 3


@every_attack
def test_an_error_is_one_line_that_does_nothing(monkeypatch, tmp_path, text):
    from lightalign.featcache.errors import SpecError

    from ...helpers import lightalign

    def fail(*_):
        raise SpecError(f"no such thing: {text}")

    monkeypatch.setattr(_common.CommandOutput, "result", fail)
    result = lightalign("list", "fusions", home=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert is_quiet(result.stderr)


class Page(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.attributes = set(), "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes

    def handle_data(self, text):
        self.text += text


TAGS = '"><script>alert(1)</script><a href="javascript:alert(1)" onload=\'x\'>&#27;'


@pytest.mark.parametrize("text", [*ATTACKS.values(), TAGS], ids=[*ATTACKS, "tags"])
def test_a_sheet_holds_text_as_text(tmp_path, text):
    with_picture = Cell(picture=Image.new("RGB", (24, 18)), text="", title=text, name=text)
    without = Cell(picture=None, text=text, title=text, name=text)
    write_sheet(tmp_path / "sheet.html", without, [with_picture, without])
    content = (tmp_path / "sheet.html").read_bytes().decode()
    assert all(character in "\n\t" or ord(character) >= 32 for character in content)
    page = Page(content)
    assert not page.tags & {"script", "a"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert for_page(text) in page.text
    assert for_page(text) in [value for name, value in page.attributes if name == "alt"]
    assert "default-src 'none'" in content


@pytest.mark.parametrize("text", [*ATTACKS.values(), "", "\u6f22" * 500, "x\n" * 500])
def test_a_picture_of_answers_is_drawn_whatever_their_texts(tmp_path, text):
    cell = Cell(picture=None, text=text, title="1. 0.500", name=text)
    write_sheet(tmp_path / "sheet.png", cell, [cell])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (5 * 250 + 10, 3 * 15 + 10 + 310 + 10)


@pytest.mark.parametrize("text", [*ATTACKS.values(), TAGS], ids=[*ATTACKS, "tags"])
def test_a_report_holds_text_as_text(tmp_path, text):
    key = text.encode("utf-8", "replace").decode()  # names of fields have an encoding
    names = {"id": text, "score": 0.5, "text": text}
    failure = {"query": text, "direction": text, "rank": 3, "first": [names], "right": [names]}
    evaluation = {
        "schema": SCHEMA,
        "kind": text,
        "dataset": "shapes",
        "split": "val",  # of a split, and of a dataset, the schema asks for a name of a folder
        "variant": text,
        "metrics": {key: {"value": 1.0, "num": 3, "interval": [0.5, 1.5], "chance": 0.1}},
        "definitions": {key: text},
        "warnings": [text],
        "failures": [failure],
        "options": {key: text},
    }
    atomic_files.write_json(tmp_path / "odd.json", evaluation)
    report.run(report.ReportSpec(home=tmp_path, runs=(str(tmp_path / "odd.json"),)))
    content = (tmp_path / "odd.html").read_bytes().decode()
    assert all(character in "\n\t" or ord(character) >= 32 for character in content)
    page = Page(content)
    assert not page.tags & {"script", "a"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert for_page(text) in page.text


def test_a_plot_of_odd_class_names_is_xml():
    names = ["\x1b[2J", "\ud800", "<script>"]
    curve = {"names": names, "matrix": [[1, 1, 1]] * 3, "x_label": "\b", "y_label": "\x9b"}
    svg = for_page(draw_confusion({**curve, "title": "</text><script/>"}))
    texts = "".join(ElementTree.fromstring(svg.encode()).itertext())
    assert "\ufffd[2J" in texts
    assert "<script>" in texts


def test_an_odd_id_is_written_and_read_as_json(tmp_path):
    atomic_files.write_json(tmp_path / "x.json", list(ATTACKS.values()))
    assert json.loads((tmp_path / "x.json").read_text()) == list(ATTACKS.values())
