"""A side that reads several stores is trained, evaluated, searched and resumed like any other."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import lightalign
from lightalign.featcache.errors import ExportError, SpecError, StoreIncompleteError
from lightalign.featcache.known_datasets import newest
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.reading.streams import StreamReader, open_streams
from lightalign.featcache.sources.opening import open_version
from lightalign.featcache.store.catalog import read_catalog
from lightalign.featcache.types import IMAGE_TEXT, Modality
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.evaluation.retrieve_spec import RetrieveSpec
from lightalign.pipelines.exporting import export
from lightalign.pipelines.exporting.export_spec import ExportSpec
from lightalign.pipelines.inputs.store_selection import StorePair, by_stream, stream_queries
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ..helpers import lightalign as command
from ..pipelines.conftest import extract_toy

SMALL = (
    "train.epochs=2",
    "train.batch_size=12",
    "train.precision=float32",
    "towers.image.project.out=8",
    "towers.text.project.out=8",
    "towers.text.project.hidden=8",
)
ENCODERS = {"image_features": ("tokens", "mean"), "image_encoder": "toy-image"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a home with tokens and means of the images, which are two streams, and texts."""
    home = tmp_path_factory.mktemp("streams")
    extract_toy(home, "toy-image", features=("tokens", "mean"))
    extract_toy(home, "toy-text")
    return home


def trained(home, name, **changes):
    fields = {"home": home, "device": "cpu", "overrides": SMALL, "name": name, **ENCODERS}
    return train.run(TrainSpec(**{**fields, **changes}))


@pytest.fixture(scope="module")
def run(home):
    return trained(home, "both")


def entries_of(home, split="train"):
    return {
        (entry.description.encoder, entry.description.kind): entry
        for entry in read_catalog(home, f"shapes/{split}").entries
    }


def test_a_run_records_every_stream(home, run):
    table = run_folder.read_spec(run.folder)
    keys = {key: entry.key for key, entry in entries_of(home).items()}
    image = table["stores"]["train"]["image"]
    assert image["key"] == keys["toy-image", "tokens"]
    assert [each["key"] for each in image["further"]] == [keys["toy-image", "mean"]]
    assert "further" not in table["stores"]["train"]["text"]
    assert [each["name"] for each in table["encoders"]["image"]["further"]] == ["toy-image"]
    assert table["command"]["image_features"] == ["tokens", "mean"]


def test_one_encoder_leaves_the_table_as_it_was_before_there_were_streams(home):
    alone = trained(home, "alone", image_features="tokens")
    table = run_folder.read_spec(alone.folder)
    assert table["command"]["image_features"] == "tokens"
    assert "further" not in table["stores"]["train"]["image"]
    assert "join" not in table["towers"]["image"]


def test_both_streams_are_learnt_from(run):
    """The tower's matrix reads three summaries of either: a zero half would have been ignored."""
    adapter = lightalign.load(run.folder).adapter
    weight = adapter.steps["image/project"].heads[0][1].weight
    assert weight.shape[1] == 2 * 3 * 16
    assert (weight[:, 48:].norm() / weight[:, :48].norm()).item() > 0.1


def test_a_stored_split_and_the_very_pictures_have_one_embedding(home, run, tmp_path):
    report = retrieve.run(RetrieveSpec(home=home, run="both", device="cpu"))
    assert set(report.report["stores"]) == {"image", "image-2", "text"}
    embedder = lightalign.load(run.folder)
    assert embedder.encoders["image"] == "toy-image+toy-image"
    entries = entries_of(home, "test")
    reader = open_streams([entries["toy-image", kind].folder for kind in ("tokens", "mean")])
    with torch.inference_mode():
        stored = embedder.adapter.embed(reader.padded(np.arange(2)), Modality.IMAGE)

    source = open_version(newest(home, "shapes"), home=home)
    pictures = [item.read_bytes() for item in source.items("test", Modality.IMAGE)][:2]
    torch.testing.assert_close(torch.from_numpy(embedder.embed_images(pictures)), stored)


def test_the_same_seed_gives_the_same_bytes(home, run):
    again = trained(home, "again")
    first, second = ((each.folder / run_folder.WEIGHTS).read_bytes() for each in (run, again))
    assert first == second


def test_an_index_and_a_search_are_of_all_streams(home, run):
    command("index", "both", "--data", "shapes", home=home)
    answer = command("search", "both", "a red circle", "--json", home=home)
    assert answer.returncode == 0
    assert "shapes-test-000" in answer.stdout
    picture = home / "red.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    by_picture = command("search", "both", str(picture), "--side", "image", home=home)
    assert "shapes-test-000" in by_picture.stdout


def test_an_export_of_several_streams_is_refused_in_one_line(home, run, tmp_path):
    spec = ExportSpec(run="both", home=home, to="onnx", output=tmp_path / "x")
    with pytest.raises(ExportError, match="the image tower of both reads 2 streams"):
        export.run(spec)


def test_a_row_that_one_store_lacks_is_named(home, tmp_path):
    entries = entries_of(home)
    tokens, means = (entries["toy-image", kind].folder for kind in ("tokens", "mean"))
    val = entries_of(home, "val")["toy-image", "mean"].folder
    with pytest.raises(StoreIncompleteError, match=r"no row of 'shapes-train-000000' and 23 more"):
        StreamReader([tokens, val])
    assert len(StreamReader([means, tokens])) == 24


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_features": ("tokens", "tokens")}, "two streams of the image side are one store"),
        ({"image_encoder": ()}, "image_encoder names none"),
        ({"image_layers": ()}, "image_layers names none"),
        ({"image_encoder": ("toy-image",) * 3}, "--image-features names 2 and --image-encoder 3"),
        ({"image_encoder": None}, "of encoders that are named, by --image-encoder"),
        ({"preset": "sail/star", "overrides": ()}, "'sail/star' takes one image stream"),
        (
            {"preset": "peme/bridge", "overrides": ()},
            "'peme/bridge' takes one image stream, found 2",
        ),
    ],
)
def test_what_is_no_side_of_several_streams_is_refused(home, changes, message):
    with pytest.raises(SpecError, match=message):
        trained(home, "refused", **changes)
    assert not (home / "runs" / "refused").exists()


@pytest.mark.parametrize("split", ["val"])
def test_streams_of_another_split_are_refused(home, split):
    train_entries, others = entries_of(home), entries_of(home, split)
    streams = (train_entries["toy-image", "tokens"], others["toy-image", "mean"])
    text = train_entries["toy-text", "tokens"]
    with pytest.raises(SpecError, match="is of split 'val', toy-image of 'train'"):
        StorePair.of(by_stream(dict(zip(IMAGE_TEXT, (streams, (text,)), strict=True))))


def test_streams_of_other_data_are_refused(home, tmp_path):
    shutil.copytree(home, tmp_path / "home")
    extract_toy(tmp_path / "home", "toy-image", source={"train": 12, "val": 8, "test": 8})
    entries = read_catalog(tmp_path / "home", "shapes/train").entries
    by_count = {
        (entry.description.num_items, entry.description.kind): entry
        for entry in entries
        if entry.description.modality == "image"
    }
    text = next(entry for entry in entries if entry.description.modality == "text")
    streams = (by_count[24, "mean"], by_count[12, "tokens"])
    with pytest.raises(SpecError, match="is of source"):
        StorePair.of(by_stream(dict(zip(IMAGE_TEXT, (streams, (text,)), strict=True))))


def test_what_is_named_once_is_of_all_streams():
    queries = stream_queries("image", ["a", "b"], kinds=["mean"], layers=[-1, -4])
    assert [(each.encoder, each.kind, each.layer) for each in queries] == [
        ("a", "mean", -1),
        ("b", "mean", -4),
    ]
    (anything,) = stream_queries("image", [])
    assert (anything.encoder, anything.kind, anything.layer) == (None, None, None)


def test_rows_of_all_streams_are_of_one_item_whatever_their_order(home, tmp_path):
    """The second store in another order: rows meet by id."""
    entries = entries_of(home)
    tokens, means = (entries["toy-image", kind].folder for kind in ("tokens", "mean"))
    reader = StreamReader([tokens, means])
    rows = np.array([5, 0, 23])
    first, second = reader.padded(rows).streams
    torch.testing.assert_close(
        first.values.float().mean(dim=1), second.values[:, 0].float(), atol=2e-3, rtol=2e-3
    )
    assert reader.largest_row(rows) == FeatureReader(tokens).largest_row(rows) + 16


def test_an_ensemble_of_towers_of_two_streams_is_evaluated(home):
    several = trained(home, "members", seeds=2, ensemble="average")
    report = retrieve.run(RetrieveSpec(home=home, run="members", device="cpu"))
    assert set(report.report["stores"]) == {"image", "image-2", "text"}
    assert run_folder.read_spec(several.folder)["stores"]["train"]["image"]["further"]
