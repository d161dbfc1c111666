"""Homes and runs that earlier commits made are read, measured, resumed and exported as then.

Beside each home lies what its own commit printed; see `old_homes/make.py`. Words, counts, keys and
hashes are equal. Floats are compared at 1e-6, as sums of products are rounded in another order by
the kernels of another processor; those that come after a resumed training at 1e-4, as each step
begins with the rounding of the one before.
"""

import json
import lzma
import math
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lightalign.featcache.store import catalog
from lightalign.pipelines.runs import run_folder

from ..helpers import lightalign, slow
from .old_homes import make

HOMES = Path(__file__).parent / "old_homes"
COMMITS = ("475299b", *slow("1f78bdd"))


def unpack(archive: Path, home: Path) -> None:
    """Write the plain files of an archive below `home`, with their times, and nothing else."""
    with tarfile.open(archive, "r:xz") as packed:
        for member in packed:
            path = home / member.name
            assert member.isfile(), member.name
            assert path.resolve().is_relative_to(home.resolve()), member.name
            content = packed.extractfile(member)
            assert content is not None
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())
            # the newest store is the one that was asked for last
            os.utime(path, (member.mtime, member.mtime))


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a document by its place; a list says how long it is, too."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from leaves(each, f"{place}.{key}")
    elif isinstance(value, list):
        yield f"{place}.length", len(value)
        for number, each in enumerate(value):
            yield from leaves(each, f"{place}[{number}]")
    else:
        yield place, value


def differences(then: Any, now: Any, *, tolerance: float) -> Iterator[str]:
    """Yield each value of `then` that `now` has not; keys that are new now do not count."""
    values = dict(leaves(now))
    for place, value in leaves(then):
        if place not in values:
            yield f"{place}: {value!r:.200} is gone"
        elif isinstance(value, float) and isinstance(values[place], float):
            if not math.isclose(value, values[place], rel_tol=tolerance, abs_tol=tolerance):
                yield f"{place}: {value} became {values[place]}"
        elif value != values[place]:
            yield f"{place}: {value!r:.200} became {values[place]!r:.200}"


def recorded(commit: str) -> list[dict[str, Any]]:
    with lzma.open(HOMES / f"{commit}.json.xz", "rt", encoding="utf-8") as file:
        answers: list[dict[str, Any]] = json.load(file)
        return answers


@pytest.fixture(scope="module", params=COMMITS)
def old(request, tmp_path_factory):
    """Return a commit and the home that it made; read only."""
    home = tmp_path_factory.mktemp("old") / "home"
    unpack(HOMES / f"{request.param}.tar.xz", home)
    return request.param, home


@pytest.fixture
def home(old, tmp_path):
    """Return a copy of the home, with the times of its files."""
    shutil.copytree(old[1], tmp_path / "home")
    return tmp_path / "home"


def test_every_command_answers_as_it_did_then(old, home):
    make.move_datasets(home)
    wrong, is_resumed = [], False
    for entry in recorded(old[0]):
        command, then = entry["command"], entry["printed"]
        is_resumed = is_resumed or "--resume" in command
        code, out, err = make.answer([*command, "--json", "--quiet"], home)
        assert code == 0, (command, err)
        now = make.without_times(json.loads(out.replace(str(home), "HOME")))
        if is_resumed:
            # bytes of weights that this processor has trained
            then = {key: value for key, value in then.items() if key != "adapter_sha256"}
        tolerance = 1e-4 if is_resumed else 1e-6
        wrong += [f"{command}: {each}" for each in differences(then, now, tolerance=tolerance)]
    assert not wrong, "\n".join(wrong)


def test_what_differs_is_told():
    then = {"a": 1.0, "b": [1, "x"], "c": {"d": 2}}
    assert list(differences(then, {**then, "new": 1}, tolerance=1e-6)) == []
    changed = {"a": 1.0 + 1e-5, "b": [1, "y", 2], "c": {}}
    assert list(differences(then, changed, tolerance=1e-6)) == [
        ".a: 1.0 became 1.00001",
        ".b.length: 2 became 3",
        ".b[1]: 'x' became 'y'",
        ".c.d: 2 is gone",
    ]


def test_a_home_has_what_an_early_one_has(old):
    """Pairs are one JSON file each, stores are of both containers, and a run is unfinished."""
    _, home = old
    pairs = sorted((home / "features").glob("*/*/pairs--*"))
    assert pairs
    assert {path.suffix for path in pairs} == {".json"}
    stores = [entry.description for entry in catalog.list_stores(home)]
    assert {(store.container, store.kind, store.dtype) for store in stores} == {
        ("zarr", "tokens", "float16"),
        ("hdf5", "mean", "int8"),
    }
    assert (home / "runs" / "stopped" / "state.safetensors").is_file()
    graded = next(path for path in pairs if path.parent.parent.name == "stsb")
    assert catalog.read_pairs(graded).grades is not None


@pytest.mark.parametrize("run", ["base", *slow("tuned")])
def test_a_run_is_exported(home, tmp_path, run):
    pytest.importorskip("onnxruntime")
    output = tmp_path / "onnx"
    command = ("export", run, "--to", "onnx", "--adapter-only", "--output", str(output))
    done = lightalign(*command, home=home)
    assert done.returncode == 0, done.stderr
    described = json.loads((output / "lightalign.json").read_text())
    spec = run_folder.read_spec(home / "runs" / run)
    for side, encoder in spec["encoders"].items():
        assert json.dumps(encoder["identity"]["weights"]) in json.dumps(described), side


def test_a_store_is_exported_with_all_its_rows(home, tmp_path):
    for entry in catalog.list_stores(home, "shapes/train"):
        path = tmp_path / f"{entry.key[:12]}.safetensors"
        command = ("cache", "export", str(entry.folder), str(path), "--format", "safetensors")
        done = lightalign(*command, "--json", home=home)
        assert done.returncode == 0, done.stderr
        assert path.stat().st_size > 0


def test_an_archive_that_leads_out_of_its_place_is_refused(tmp_path):
    (tmp_path / "secret").write_text("x")
    with tarfile.open(tmp_path / "bad.tar.xz", "w:xz") as packed:
        packed.add(tmp_path / "secret", "../outside")
    with pytest.raises(AssertionError, match="outside"):
        unpack(tmp_path / "bad.tar.xz", tmp_path / "home")
    assert not (tmp_path / "outside").exists()
