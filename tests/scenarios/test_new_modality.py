"""A modality of one's own, `tone`, added to a copy of the package by four files and no line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightalign as package
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store.catalog import list_stores
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.manifest import read_manifest

from ..helpers import lightalign

PACKAGE = Path(package.__file__).parent
PLACES = ("data", "featcache", "adapters", "pipelines")
EXTRACT = ("extract", "--data", "tones", "--encoder", "spectrum", "--device", "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package and `tone`, and a home with two stores of tones."""
    place = tmp_path_factory.mktemp("tone")
    copy = place / "lightalign"
    for name in PLACES:
        shutil.copytree(PACKAGE / name, copy / name)
    for name in ("__init__.py", "__main__.py", "cli.py"):
        shutil.copy(PACKAGE / name, copy / name)
    shutil.copytree(Path(__file__).parent / "tone", copy, dirs_exist_ok=True)
    stores = ("--features", "tokens", "--features", "mean", "--dtype", "float32")
    done = command(place, *EXTRACT, *stores, "--on-error", "skip")
    assert done.returncode == 0, done.stderr
    return place


def command(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the copied package."""
    return subprocess.run(
        [sys.executable, "-m", "lightalign", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place), "LIGHTALIGN_HOME": str(place / "home")},
    )


def store_of(place: Path, kind: str) -> FeatureStore:
    folders = [
        entry.folder for entry in list_stores(place / "home") if entry.description.kind == kind
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
        ("tone", "mean", 7),
        ("tone", "tokens", 7),
    }
    said(place, "cache", "verify")


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
