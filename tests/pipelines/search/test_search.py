import json
import os
import shlex
import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest
from PIL import Image

import lightalign
from lightalign.featcache import atomic_files
from lightalign.featcache.documents import read_json
from lightalign.featcache.errors import (
    IndexNotFoundError,
    SpecError,
    StaleIndexError,
    StoreCorruptError,
    UnknownNameError,
)
from lightalign.featcache.store.catalog import list_stores
from lightalign.featcache.string_array import Strings
from lightalign.pipelines.inputs.datasets import add
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.search import build_index, saved_index
from lightalign.pipelines.search.build_index_spec import IndexSpec
from lightalign.pipelines.search.search import run as search
from lightalign.pipelines.search.search_spec import SearchSpec
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign as command
from ..conftest import extract_toy

COUNT = 12
TABLE = "image-text-table"


def write_photos(folder):
    """Write a table of pictures of one colour each, with two captions."""
    folder.mkdir()
    rows = []
    for number, colour in enumerate(np.random.default_rng(0).integers(0, 256, (COUNT, 3))):
        Image.new("RGB", (40, 32), tuple(colour.tolist())).save(folder / f"{number}.png")
        captions = [f"a picture number {number}", f"number {number} as a picture"]
        rows.append(json.dumps({"image": f"{number}.png", "captions": captions, "split": "train"}))
    (folder / "captions.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """Return a home with a run `mine` and indexes of both its sides; read only."""
    home = tmp_path_factory.mktemp("search-home")
    data = f"{TABLE}={write_photos(home / 'photos')}"
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, data=data, source={})
    sets = ("train.epochs=1", "train.batch_size=8", "train.validation=none")
    spec = TrainSpec(
        home=home, preset="linear", data=data, overrides=sets, device="cpu", name="mine"
    )
    train.run(spec)
    build_index.run(IndexSpec(home=home, run="mine", split="train", side="both", device="cpu"))
    return home


@pytest.fixture
def home(indexed, tmp_path):
    """Return a copy that a test may change; the photos stay where they are."""
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "features").symlink_to(indexed / "features")
    shutil.copytree(indexed / "runs", tmp_path / "h" / "runs")
    return tmp_path / "h"


def remembered(home):
    """Return a home that remembers where the photos lie, in itself."""
    shutil.copytree((home / "features").resolve().parent / "photos", home / "photos")
    add(home, TABLE, home / "photos")
    return home


def ask(home, query, **fields):
    return search(SearchSpec(home=home, run="mine", query=query, device="cpu", **fields))


def photos(home):
    return [home / "photos" / f"{number}.png" for number in range(COUNT)]


def test_a_text_finds_the_images_that_numpy_finds(indexed):
    bundle = lightalign.load("mine", home=indexed, device="cpu")
    text = bundle.embed_texts(["a picture number 3"]).astype(np.float64)
    cosines = (bundle.embed_images(photos(indexed)) @ text.T)[:, 0]
    found = ask(indexed, "a picture number 3", k=5)
    order = np.argsort(-cosines)[:5]
    assert [hit.path for hit in found.hits] == [str(photos(indexed)[row]) for row in order]
    np.testing.assert_allclose([hit.score for hit in found.hits], cosines[order], atol=1e-5)
    assert [hit.rank for hit in found.hits] == [1, 2, 3, 4, 5]


def test_a_photo_finds_itself_first(indexed):
    found = ask(indexed, str(photos(indexed)[7]))
    assert found.query_is == "image"
    assert len(found.hits) == COUNT  # all there are, though twenty were asked for
    assert found.hits[0].path == str(photos(indexed)[7])
    assert found.hits[0].score == pytest.approx(1, abs=1e-4)


def test_a_photo_finds_texts(indexed):
    found = ask(indexed, str(photos(indexed)[7]), side="text", k=2 * COUNT)
    assert {hit.text for hit in found.hits} >= {"a picture number 7", "number 7 as a picture"}


def test_a_folder_is_asked_for_as_text_only_where_that_is_said(indexed):
    with pytest.raises(SpecError, match=r"photos' is a folder, .* say --as text"):
        ask(indexed, str(indexed / "photos"))
    assert ask(indexed, str(indexed / "photos"), query_is="text").query_is == "text"


def test_texts_that_are_not_found_are_not_called_files(home, tmp_path):
    unknown = {"knows_dataset": False, "data": f"{TABLE}={tmp_path / 'empty'}"}
    rewrite(index_of(home, "text"), files=None, **unknown)
    Strings.of([""] * 2 * COUNT).write(index_of(home, "text"), "contents")
    warning = ask(home, "a picture", side="text", k=3).warnings[-1]
    assert "3 of 3 texts are not found, only their ids" in warning
    assert warning.count("--data image-text-table=PATH") == 1


def test_the_same_data_in_another_place_are_found_there_though_the_old_ones_stay(home, tmp_path):
    home = remembered(home)
    copied = shutil.copytree(home / "photos", tmp_path / "copied")
    found = ask(home, "a picture", data=f"{TABLE}={copied}")
    assert {Path(hit.path).parent for hit in found.hits} == {copied}
    build_index.run(
        IndexSpec(home=home, run="mine", split="train", data=f"{TABLE}={copied}", device="cpu")
    )
    found = ask(home, "a picture")
    assert {Path(hit.path).parent for hit in found.hits} == {copied}


def test_other_data_than_were_indexed_are_refused_with_the_command_that_indexes_them(
    home, tmp_path
):
    home = remembered(home)
    with pytest.raises(IndexNotFoundError, match="neither a folder nor a file at /nowhere; leave"):
        ask(home, "a picture", data=f"{TABLE}=/nowhere")
    other = f"{TABLE}={shutil.copytree(home / 'photos', tmp_path / 'other')}"
    Image.new("RGB", (50, 50)).save(tmp_path / "other" / "0.png")
    with pytest.raises(IndexNotFoundError, match="other ids, texts or image files") as refused:
        ask(home, "a picture", data=other)
    again = shlex.split(str(refused.value).split("`")[1])[1:]
    assert again[:7] == ["index", "mine", "--side", "image", "--split", "train", "--data"]
    features = (home / "features").resolve()
    (home / "features").unlink()
    shutil.copytree(features, home / "features")
    extract_toy(home, "toy-image", data=other, source={}, split="train")
    assert command(*again, home=home).returncode == 0
    assert ask(home, "a picture", data=other).warnings == ()


def test_a_text_that_is_called_like_a_photo_is_asked_for_as_text(indexed):
    with pytest.raises(SpecError, match=r"no image 'dog\.jpg'; .* say --as text"):
        ask(indexed, "dog.jpg")
    assert ask(indexed, "dog.jpg", query_is="text").query_is == "text"


@pytest.mark.parametrize("kind", ["flat", "IVF2,Flat", "hnsw", "PQ4x2np", "IVF2,PQ4x2np,RFlat"])
def test_an_index_that_is_mapped_into_memory_answers_alike(home, monkeypatch, kind):
    build_index.run(IndexSpec(home=home, run="mine", split="train", index=kind, device="cpu"))
    read = ask(home, "a picture number 3")
    monkeypatch.setattr(saved_index, "_MAPPED", 0)
    assert ask(home, "a picture number 3").hits == read.hits


def test_an_approximate_index_says_what_it_finds(home):
    spec = IndexSpec(home=home, run="mine", split="train", index="IVF2,Flat", device="cpu")
    made = build_index.run(spec)
    recall = read_json(made.paths["image"])["metrics"]["image"]["recall_at_10"]
    assert recall["num"] == COUNT  # half of the texts
    assert recall["chance"] == pytest.approx(100 * 10 / COUNT)
    result = command("search", "mine", "a picture", home=home)
    assert "recall@10 against flat" in result.stdout
    assert "cosine" in result.stdout


def test_scores_by_codes_are_not_called_cosines(home):
    build_index.run(IndexSpec(home=home, run="mine", split="train", index="SQ4", device="cpu"))
    shown = command("search", "mine", "a picture", home=home).stdout
    assert "score (approximate)" in shown
    assert "cosine" not in shown


def test_an_index_of_another_adapter_is_refused(home):
    for path in (home / "runs" / "mine" / "index").glob("*/index.json"):
        atomic_files.write_sealed(
            path, {**atomic_files.read_sealed(path), "adapter_sha256": "0" * 64}
        )
    with pytest.raises(StaleIndexError, match="of another adapter"):
        ask(home, "a picture")


def test_an_index_of_other_features_is_refused(indexed, home, tmp_path):
    (home / "features").unlink()
    shutil.copytree(indexed / "features", home / "features")
    changed = shutil.copytree(indexed / "photos", tmp_path / "changed")
    Image.new("RGB", (50, 50)).save(changed / "0.png")
    extract_toy(home, "toy-image", data=f"{TABLE}={changed}", source={})
    assert ask(home, "a picture").warnings == ()  # it is of the run's own data, which are there
    new = {"run": "mine", "split": "train", "data": f"{TABLE}={changed}"}
    build_index.run(IndexSpec(home=home, device="cpu", **new))
    assert ask(home, "a picture").warnings == ()
    old = {"run": "mine", "split": "train", "data": f"{TABLE}={indexed / 'photos'}"}
    build_index.run(IndexSpec(home=home, device="cpu", **old))
    assert ask(home, "a picture").warnings == ()
    key = ask(home, "a picture").manifest["store"]
    (gone,) = [entry.folder for entry in list_stores(home) if entry.key == key]
    shutil.rmtree(gone)
    with pytest.raises(StaleIndexError, match=r"is of store .* which is gone"):
        ask(home, "a picture")


def test_a_text_too_long_for_a_file_name_is_a_text(home):
    assert len(ask(home, "x" * 300).hits) == COUNT
    assert len(ask(home, "\u96ea" * 90).hits) == COUNT


def test_a_damaged_index_does_not_hide_another(home):
    build_index.run(IndexSpec(home=home, run="mine", split="train", side="text", device="cpu"))
    (of_texts,) = (home / "runs" / "mine" / saved_index.FOLDER).glob("*-text--*")
    (of_texts / saved_index.MANIFEST).write_text("{}")
    assert len(ask(home, "a picture").hits) == COUNT
    with pytest.raises(StoreCorruptError):
        ask(home, "a picture", side="text")


def test_a_sheet_is_no_folder(home, tmp_path):
    (tmp_path / "sheet.html").mkdir()
    with pytest.raises(SpecError, match="is a folder"):
        ask(home, "a picture", sheet=tmp_path / "sheet.html")


def test_an_index_needs_no_stores_to_answer(home):
    (home / "features").unlink()
    assert len(ask(home, "a picture").hits) == COUNT


def test_a_run_without_an_index_says_what_to_run(home):
    shutil.rmtree(home / "runs" / "mine" / saved_index.FOLDER)
    with pytest.raises(IndexNotFoundError, match="has: none; run `lightalign index mine"):
        ask(home, "a picture")


def test_a_split_without_an_index_names_those_there_are(home):
    with pytest.raises(IndexNotFoundError, match=r"any dataset/test; has: \['images of image-text"):
        ask(home, "a picture", split="test")


def test_a_side_that_a_run_lacks_is_refused(home):
    with pytest.raises(UnknownNameError, match="no side named 'audio'"):
        ask(home, "a picture", side="audio")
    with pytest.raises(UnknownNameError, match="no side named 'audio'"):
        build_index.run(IndexSpec(home=home, run="mine", split="train", side="audio"))


def test_a_split_that_was_not_extracted_is_not_indexed(home):
    with pytest.raises(UnknownNameError, match=r"no split named 'test'; known: \['train'\]"):
        build_index.run(IndexSpec(home=home, run="mine", split="test", device="cpu"))


@pytest.mark.parametrize("name", ["index.faiss", "ids.npy", "ids-ends.npy", "index.json"])
def test_a_truncated_file_is_refused(home, name):
    (folder,) = (home / "runs" / "mine" / "index").glob(f"{TABLE}-train-image--*")
    path = folder / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StoreCorruptError):
        ask(home, "a picture")


def index_of(home, side="image"):
    (folder,) = (home / "runs" / "mine" / saved_index.FOLDER).glob(f"{TABLE}-train-{side}--*")
    return folder


def rewrite(folder, **changed):
    """Seal a manifest anew; what is changed to None is taken out."""
    table = {**atomic_files.read_sealed(folder / saved_index.MANIFEST), **changed}
    table = {name: value for name, value in table.items() if value is not None}
    atomic_files.write_sealed(folder / saved_index.MANIFEST, table)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["index.faiss", "ids.npy", "ids-ends.npy", "contents.npy", "contents-ends.npy"]
)
def test_one_other_bit_of_an_index_is_one_line_with_the_command_that_mends_it(home, name):
    flip(index_of(home) / name)
    result = command("search", "mine", "a picture", home=home)
    assert (result.returncode, result.stdout) == (2, "")
    again = "lightalign index mine --side image --split train"
    assert f"{name} has other bytes than it was written with: run `{again}`" in result.stderr
    assert command(*again.split()[1:], home=home).returncode == 0
    assert command("search", "mine", "a picture", home=home).returncode == 0


def test_vectors_in_another_order_are_refused(home):
    """The same vectors, so the same scores: ids would be those of others."""
    path = str(index_of(home) / "index.faiss")
    index = faiss.read_index(path)
    vectors = index.reconstruct_n(0, index.ntotal)
    index.reset()
    index.add(np.ascontiguousarray(vectors[::-1]))
    faiss.write_index(index, path)
    with pytest.raises(StoreCorruptError, match=r"index\.faiss has other bytes"):
        ask(home, "a picture")


def test_an_index_without_checksums_answers_alike_and_says_how_to_get_them(home):
    checked = ask(home, "a picture")
    rewrite(index_of(home), files=None)  # as earlier versions have written it
    unchecked = ask(home, "a picture")
    assert unchecked.hits == checked.hits
    (warning,) = unchecked.warnings
    assert "without checksums" in warning
    again = f"lightalign index mine --side image --split train --home {home}"
    assert f"`{again}` writes it with them" in warning


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(COUNT, np.int32),
        np.zeros((COUNT, 1), np.int64),
        np.zeros((1, COUNT), np.uint8),
        np.zeros(COUNT, np.float64),
        np.array([None] * COUNT),
        np.array(3, np.int64),
        np.full(COUNT, 10**15),
    ],
)
@pytest.mark.parametrize("name", ["ids.npy", "ids-ends.npy"])
def test_arrays_of_another_kind_are_refused_where_no_checksum_is_there(home, name, array):
    rewrite(index_of(home), files=None)
    np.save(index_of(home) / name, array)
    with pytest.raises(StoreCorruptError):
        ask(home, "a picture")


def test_an_array_that_promises_more_than_there_is_is_refused(home):
    rewrite(index_of(home), files=None)
    path = index_of(home) / "ids-ends.npy"
    path.write_bytes(path.read_bytes().replace(b"(12,)", b"(12345678901234,)"))
    with pytest.raises(StoreCorruptError, match="cannot read"):
        ask(home, "a picture")


@pytest.mark.parametrize("ends", [[5, 3, 8], [-4, 4, 8], [9, 4, 8]])
def test_ends_that_are_no_ends_are_refused_where_they_are_read(ends):
    strings = Strings(np.zeros(8, np.uint8), np.array(ends))
    with pytest.raises(StoreCorruptError, match="saved strings"):
        [strings.at(row) for row in range(3)]


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(StoreCorruptError, match="row 0 of saved strings is not UTF-8"):
        Strings(np.array([255], np.uint8), np.array([1])).at(0)


@pytest.mark.parametrize("name", ["index.faiss", "ids.npy", "ids-ends.npy", "index.json"])
@pytest.mark.parametrize("checked", [True, False])
def test_a_pipe_in_place_of_a_file_is_refused_without_waiting(home, name, checked):
    if not checked:
        rewrite(index_of(home), files=None)
    (index_of(home) / name).unlink()
    os.mkfifo(index_of(home) / name)
    with pytest.raises(StoreCorruptError, match="named pipe"):
        ask(home, "a picture")


@pytest.mark.parametrize(
    "changed",
    [
        {"num": "12"},
        {"width": None},
        {"warnings": "none"},
        {"parameters": []},
        {"files": {"index.faiss": 3}},
        {"files": {}},
        {"files": {"../../run.toml": {"bytes": 1, "sha256": ""}}},
        {"side": "audio"},
        {"version": [1]},
        {"bytes": 3},
        {"num": 5},
        {"width": 5},
    ],
)
def test_a_manifest_that_says_something_else_is_refused(home, changed):
    rewrite(index_of(home), **changed)
    result = command("search", "mine", "a picture", home=home)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


def test_an_index_of_another_width_is_refused_where_no_checksum_is_there(home):
    path = index_of(home) / "index.faiss"
    faiss.write_index(faiss.index_factory(4, "Flat", faiss.METRIC_L2), str(path))
    rewrite(index_of(home), files=None, bytes=path.stat().st_size)
    with pytest.raises(
        StoreCorruptError, match="does not begin as an index of 12 rows of width 256"
    ):
        ask(home, "a picture")


@pytest.mark.parametrize(("place", "size"), [(4, 4), (8, 8)])
def test_an_index_file_that_claims_to_be_huge_is_refused_before_it_is_read(home, place, size):
    """Bytes 4 to 7 of what FAISS writes are the width, and 8 to 15 the number of rows."""
    path = index_of(home) / "index.faiss"
    content = bytearray(path.read_bytes())
    content[place : place + size] = (10**9).to_bytes(size, "little")
    path.write_bytes(content)
    rewrite(index_of(home), files=None)
    with pytest.raises(StoreCorruptError, match="does not begin as an index of 12 rows") as caught:
        ask(home, "a")
    assert "write it anew by `lightalign index " in str(caught.value)


def test_an_index_that_is_stopped_before_its_report_has_none_of_an_earlier_one(home, monkeypatch):
    spec = IndexSpec(home=home, run="mine", split="train", index="IVF2,Flat", device="cpu")
    (path,) = build_index.run(spec).paths.values()

    class Killed(BaseException):
        """Stand for a signal."""

    def kill(*_, **__):
        raise Killed

    other = IndexSpec(home=home, run="mine", split="train", index="SQ8", device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(build_index.Evaluation, "write", kill)
        with pytest.raises(Killed):
            build_index.run(other)
    assert not path.exists()
    assert build_index.run(spec).paths == {"image": path}


def test_photos_that_have_moved_are_found_where_the_dataset_is_said_to_be(indexed, home, tmp_path):
    shutil.copytree(indexed / "photos", tmp_path / "photos")
    spec = IndexSpec(
        home=home, run="mine", split="train", data=f"{TABLE}={tmp_path / 'photos'}", device="cpu"
    )
    build_index.run(spec)
    (tmp_path / "photos").rename(tmp_path / "moved")
    gone = ask(home, "a picture")
    assert [hit.path for hit in gone.hits] == [None] * COUNT
    assert "12 of 12 files are not found" in gone.warnings[0]
    assert gone.warnings[0].count("--data image-text-table=PATH") == 1
    found = ask(home, "a picture", data=f"{TABLE}={tmp_path / 'moved'}")
    assert {hit.path for hit in found.hits} == {
        str(tmp_path / "moved" / f"{number}.png") for number in range(COUNT)
    }
    assert found.warnings == ()


def test_a_sheet_is_one_page_with_all_pictures_inside(indexed, tmp_path):
    found = ask(indexed, "a <b>picture</b>", sheet=tmp_path / "sheets" / "page.html", k=4)
    page = found.sheet.read_text()
    assert page.count("data:image/jpeg;base64,") == 4
    assert "http" not in page.replace("http-equiv", "")
    assert "<b>" not in page
    assert "a &lt;b&gt;picture&lt;/b&gt;" in page


def test_a_sheet_names_the_file_that_was_asked_with(indexed, tmp_path):
    found = ask(indexed, str(photos(indexed)[2]), sheet=tmp_path / "page.html", k=1)
    assert "<figcaption>query 2.png</figcaption>" in found.sheet.read_text()


def test_a_sheet_is_a_picture_if_it_is_called_so(indexed, tmp_path):
    found = ask(indexed, str(photos(indexed)[2]), sheet=tmp_path / "sheet.png", k=6)
    with Image.open(found.sheet) as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(2**20)}
    for hit in found.hits:
        with Image.open(hit.path) as photo:
            assert photo.getpixel((0, 0)) in colours


def test_a_sheet_of_another_kind_is_refused(indexed):
    with pytest.raises(SpecError, match="a contact sheet is one of"):
        ask(indexed, "a picture", sheet=indexed / "sheet.gif")


def test_the_command_line_indexes_and_searches(home, monkeypatch):
    for display in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(display, raising=False)
    made = command("index", "mine", "--split", "train", home=home)
    assert "images of image-text-table/train: 12 vectors" in made.stdout
    asked = ("search", "mine", "a picture number 3", "--k", "3")
    shown = command(*asked, "--open", home=home)
    assert shown.returncode == 0, shown.stderr
    assert f"sheet: {home / 'runs' / 'mine' / 'search.html'}" in shown.stdout
    assert "there is no display" in shown.stderr
    answers = json.loads(command(*asked, "--json", home=home).stdout)
    assert [hit["rank"] for hit in answers["hits"]] == [1, 2, 3]
    assert {"import", "open_index", "open_encoder", "embed", "search"} <= set(answers["seconds"])


def test_a_stale_index_is_one_line_and_exit_code_2(home):
    (home / "runs" / "mine" / run_folder.WEIGHTS).write_bytes(b"other")
    result = command("search", "mine", "a picture", home=home)
    assert result.returncode == 2
    assert "adapter.safetensors has" in result.stderr


def test_drawn_pictures_are_shown_on_a_sheet_though_they_have_no_files(toy_home, tmp_path):
    home = tmp_path / "h"
    home.mkdir()
    (home / "features").symlink_to(toy_home / "features")
    sets = ("train.epochs=1", "train.batch_size=8", "train.validation=none")
    spec = TrainSpec(home=home, preset="linear", overrides=sets, device="cpu", name="mine")
    train.run(spec)
    source = {"train": 24, "val": 8, "test": 8, "size": 64}
    build_index.run(IndexSpec(home=home, run="mine", source=source, device="cpu"))
    assert [hit.path for hit in ask(home, "a red square").hits] == [None] * 8
    found = ask(home, "a red square", sheet=tmp_path / "page.html")
    assert found.sheet.read_text().count("data:image/jpeg;base64,") == 8
    assert found.warnings == ()


@pytest.mark.parametrize(
    "strings", [["a", "", "\u00e4\u6f22"], [], ["\ud800 alone", "caf\udce9.jpg", "\0"]]
)
def test_strings_are_read_as_they_were_written(tmp_path, strings):
    Strings.of(strings).write(tmp_path, "names")
    read = Strings.read(tmp_path, "names")
    assert [read.at(row) for row in range(len(read))] == strings


def test_captions_that_are_escape_sequences_do_nothing_to_a_terminal(tmp_path):
    """An index of texts that set the clipboard, or turn the line around, shows them as escapes."""
    home = tmp_path
    data = write_photos(home / "photos")
    captions = [f"\x1b]52;c;{number}\x07 \u202e [red]" for number in range(COUNT)]
    rows = [
        json.dumps({"image": f"{number}.png", "captions": [caption], "split": "train"})
        for number, caption in enumerate(captions)
    ]
    (data / "captions.jsonl").write_text("\n".join(rows))
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, data=f"{TABLE}={data}", source={})
    sets = ("train.epochs=1", "train.batch_size=8", "train.validation=none")
    train.run(
        TrainSpec(
            home=home,
            preset="linear",
            data=f"{TABLE}={data}",
            overrides=sets,
            device="cpu",
            name="mine",
        )
    )
    indexed = ("index", "mine", "--split", "train", "--side", "text")
    assert command(*indexed, home=home).returncode == 0
    shown = command("search", "mine", "a picture", "--side", "text", "--k", "3", home=home)
    assert shown.stdout.count(r"\x1b]52;c;") == 3
    assert shown.stdout.count(r"\x07 \u202e [red]") == 3
    assert all(one == "\n" or one.isprintable() for one in shown.stdout + shown.stderr)
