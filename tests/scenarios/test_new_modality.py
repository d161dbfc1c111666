"""A modality of one's own, `tone`, added to a copy of the package by four files and no line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store.catalog import list_stores
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.manifest import read_manifest

from ..helpers import lightalign, slow
from .copied_package import PACKAGE, command, copy_package

EXTRACT = ("extract", "--data", "tones", "--encoder", "spectrum", "--device", "cpu")
RUN = "tones-and-texts"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package and `tone`, and a home with two stores of tones."""
    place = tmp_path_factory.mktemp("tone")
    copy_package(place, "tone")
    stores = ("--features", "tokens", "--features", "mean", "--dtype", "float32")
    answer(place, *EXTRACT, "--encoder", "toy-text", *stores, "--on-error", "skip")
    return place


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    """Return the same with a run that aligns tones and texts, and indexes of both."""
    settings = ("towers.both.project.out=8", "train.epochs=150", "train.learning_rate=0.01")
    settings = (*settings, "train.batch_size=7", "train.validation=none")
    sets = [word for setting in settings for word in ("--set", setting)]
    named = ("--encoder", "tone=spectrum", "--features", "tone=mean", "--features", "text=mean")
    how = ("--preset", "linear", "--name", RUN, "--device", "cpu")
    answer(place, "train-adapter", "--data", "tones", *named, *how, *sets)
    answer(place, "index", RUN, "--side", "both", "--device", "cpu")
    return place


def answer(place: Path, *words: str) -> Any:
    """Return what a command of the copied package answers."""
    done = command(place, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def store_of(place: Path, kind: str) -> FeatureStore:
    folders = [
        entry.folder
        for entry in list_stores(place / "home", "tones/test")
        if (entry.description.modality, entry.description.kind) == ("tone", kind)
    ]
    return FeatureStore(folders[0], read_manifest(folders[0]))


def test_tones_are_extracted(place):
    store = store_of(place, "tokens")
    reader = FeatureReader(store.folder)
    features = reader.gather(np.arange(len(reader)))
    assert features.ids == tuple(f"tone-{cycles}" for cycles in range(1, 8))
    assert features.lengths.tolist() == [7, 6, 5, 4, 3, 2, 1]
    for row, cycles in enumerate(range(1, 8)):
        # a sine of k cycles a frame has amplitude 1 at frequency k, and no other
        np.testing.assert_allclose(features.row(row), [np.eye(9)[cycles]] * (8 - cycles), atol=1e-6)
    assert [skipped.reason for skipped in store.skipped()] == ["tone-0: holds no samples"]


def said(place: Path, *words: str) -> Any:
    """Return what a command prints that needs no modality, of the package itself."""
    done = lightalign(*words, "--json", home=place / "home")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_stores_of_tones_are_listed_and_verified(place):
    rows = said(place, "cache", "ls")["stores"]
    assert {(row["modality"], row["kind"], row["rows"]) for row in rows} == {
        (modality, kind, count)
        for modality, count in (("tone", 7), ("text", 16))
        for kind in ("mean", "tokens")
    }
    said(place, "cache", "verify")


def test_a_dataset_of_tones_is_shown(place):
    shown = answer(place, "data", "preview", "tones", "--split", "test")
    assert shown["counts"][1] == {
        "split": "test",
        "images": 0,
        "texts": 16,
        "links": 16,
        "classes": 0,
        "unreadable": 0,
        "tones": 8,
    }
    assert shown["rows"][3] == {
        "tone": "tone-3",
        "texts": "a tone of three | three waves in each frame",
        "file": "drawn, or in the table",
    }


def test_stores_of_tones_are_explained(place):
    tokens, mean = (store_of(place, kind).folder for kind in ("tokens", "mean"))
    explained = said(place, "cache", "explain", str(tokens), str(mean))
    assert [row["field"] for row in explained["differences"]] == ["kind"]


def test_what_does_not_fit_tones_is_refused(place):
    done = command(place, *EXTRACT, "--features", "cls")
    assert done.returncode == 2
    assert "there are no features 'cls' of tones; known: tokens, mean, pooled" in done.stderr
    card = (PACKAGE / "data" / "encoders" / "toy-text.toml").read_text()
    (place / "toneless.toml").write_text(card.replace('"text"', '"tone"'))
    done = command(place, "extract", "--data", "tones", "--encoder", "toneless.toml")
    assert done.returncode == 2
    assert "modality = 'tone', but encoders of backend toy read images and texts" in done.stderr


def test_tones_and_texts_are_retrieved_both_ways(trained):
    """Each tone has two texts, and its frames stand out by one frequency: a line tells them."""
    report = answer(trained, "retrieve", RUN, "--device", "cpu")
    metrics = report["metrics"]
    assert [name for name in metrics if "_to_" in name] == ["text_to_tone", "tone_to_text"]
    for name, count in (("text_to_tone", 14), ("tone_to_text", 7)):
        assert metrics[name]["num_queries"] == count
        assert metrics[name]["recall"]["1"]["value"] == 100.0
    assert set(report["stores"]) == {"tone", "text"}
    lines = " ".join(report["warnings"])
    assert "2 pairs of tones and texts are left out" in lines
    assert "14 evaluated texts say the same as a trained one" in lines
    assert "copies and near duplicates of tones" in lines


def test_tones_and_texts_are_found_by_the_other_and_by_their_like(trained):
    tone = trained / "three.raw"
    cycles = np.arange(16 * 5) * 3 / 16
    tone.write_bytes(np.sin(2 * np.pi * cycles).astype(np.float32).tobytes())
    for query, options, first, is_of in (
        ("three waves in each frame", (), "tone-3", "text"),
        (str(tone), ("--side", "text"), "text-3-", "tone"),
        (str(tone), ("--as", "tone"), "tone-3", "tone"),
    ):
        found = answer(trained, "search", RUN, query, *options, "--k", "1", "--device", "cpu")
        assert found["hits"][0]["id"].startswith(first)
        assert found["query_is"] == is_of


def test_tones_are_embedded_as_a_search_embeds_them(trained):
    program = """
import sys
from pathlib import Path
import lightalign
from lightalign.featcache.errors import LightalignError
from lightalign.featcache.modalities.tone import wave
run = lightalign.load(sys.argv[1], device="cpu")
Path("four.raw").write_bytes(wave(4, 3))
tones = run.embed(["four.raw", wave(4, 3), wave(2, 6)], side="tone")
texts = run.embed(["a tone of two", "a tone of four"], side="text")
print((tones @ texts.T).argmax(axis=1).tolist(), abs(tones[0] - tones[1]).max())
for call in (lambda: run.embed_images(["a.png"]), lambda: run.embed([], side="image")):
    try:
        call()
    except LightalignError as error:
        print(error)
"""
    run = str(trained / "home" / "runs" / RUN)
    words = [sys.executable, "-c", program, run]
    environment = {**os.environ, "PYTHONPATH": str(trained)}
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=trained, env=environment
    )
    assert done.returncode == 0, done.stderr
    embedded, no_images, no_side = done.stdout.splitlines()
    assert embedded == "[1, 1, 0] 0.0"
    assert no_images.endswith("aligns tones and texts: it embeds no images")
    assert "no side named 'image'" in no_side
    assert "'text', 'tone'" in no_side


def test_one_preset_with_a_tower_a_side_aligns_tones_as_it_does_images(trained):
    plan = ("--set", "train.epochs=1", "--set", "train.validation=none", "--device", "cpu")
    named = ("--encoder", "tone=spectrum", "--features", "tone=tokens", "--name", "base")
    report = answer(trained, "train-adapter", "--data", "tones", *named, *plan)
    assert list(report["spec"]["towers"]) == ["tone", "text"]
    assert report["spec"]["towers"]["tone"]["project"]["part"] == "heads"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--encoder", "tone=toy-text"), "encoder 'toy-text' reads texts, not tones"),
        *slow(
            (("--encoder", "sound=spectrum"), "no side 'sound' of an adapter"),
            (
                ("--encoder", "first_tone=spectrum", "--features", "second_tone=mean"),
                "between two encoders of tones both are named, such as by --encoder second_tone=NA",
            ),
            ((), "has tones and texts and no images"),
            (
                ("--encoder", "tone=spectrum", "--features", "tone=pooled"),
                "--encoder spectrum --data tones --features pooled`",
            ),
        ),
    ],
)
def test_sides_that_cannot_be_aligned_are_one_line(place, words, message):
    done = command(place, "train-adapter", "--data", "tones", *words, "--device", "cpu")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("export", RUN, "--to", "onnx", "--output", "exported"), "aligns tones and texts, and on"),
        *slow(
            (("zero-shot", RUN, "--data", "tones"), "has no side 'image', but ['tone', 'text']"),
            (("search", RUN, "a.raw", "--as", "image"), "aligns tones and texts: it reads no im"),
            (("index", RUN, "--side", "image"), "no side named 'image'"),
        ),
    ],
)
def test_what_is_of_images_alone_says_so(trained, words, message):
    done = command(trained, *words)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
