"""Documents that are not as they were written: one error that names the file, whatever is wrong."""

import json
import os
import shutil
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightalign.featcache import atomic_files
from lightalign.featcache.documents import check, is_inside, read_json, read_toml
from lightalign.featcache.errors import (
    LightalignError,
    SpecError,
    StoreCorruptError,
    StoreNotFoundError,
)
from lightalign.featcache.store.catalog import list_stores, pairs_path, read_pairs
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.manifest import read_manifest, read_receipt, write_manifest
from lightalign.pipelines.extraction import extract
from lightalign.pipelines.extraction.spec import ExtractSpec

DEEP = "[" * 100_000 + "]" * 100_000
# a value of every type that JSON has, and those that are hard on whoever believes them
VALUES = [None, True, -1, 10**15, 10**30, 1.5, "", "../../etc", "x" * 1000, [], [1], {}, {"a": []}]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a home with one complete store of twelve images in two shards."""
    home = tmp_path_factory.mktemp("home")
    scenes = {"train": 12, "val": 4, "test": 4, "size": 64}
    spec = ExtractSpec(
        encoders=("toy-image",), data="shapes", home=home, source=scenes, device="cpu",
        rows_per_shard=6, split="train", features=("mean",),
    )  # fmt: skip
    extract.run(spec)
    return home


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (DEEP.encode(), "too deeply nested"),
        (b'{"a":' * 150 + b"1" + b"}" * 150, "too deeply nested"),
        (b"9" * 10_000, "not valid JSON"),
    ],
)
def test_what_is_no_json_is_named(tmp_path, content, reason):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=rf"a\.json is {reason}|a\.json .*{reason}"):
        read_json(path)


@pytest.mark.parametrize(
    "content", [b"a = ", b"\xff", b"a = " + DEEP.encode(), b"a = " + b"9" * 10_000]
)
def test_what_is_no_toml_is_named(tmp_path, content):
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"a\.toml"):
        read_toml(path)


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket.json"))
    for name in ("pipe", "loop", "folder", "endless", "socket"):
        with pytest.raises(StoreCorruptError, match=f"{name}.json cannot be read"):
            read_json(tmp_path / f"{name}.json")


def test_what_is_larger_than_its_limit_is_not_read(tmp_path):
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # of no block on the disk
    with pytest.raises(StoreCorruptError, match="allowed"):
        read_json(path)


@pytest.mark.parametrize(
    ("name", "inside"),
    [("shard-0/c/0", True), ("", False), ("/etc", False), ("a/../../b", False), ("..", False)],
)
def test_a_path_stays_below_its_folder(name, inside):
    assert is_inside(name) is inside


def test_fields_of_later_versions_are_no_damage():
    table = {"rows": 1, "more": [1]}
    assert check(table, dict[str, object], where="a") is table


def places(value, path=()):
    """Yield the path of every value in a document."""
    yield path
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(child, (*path, key))


def replaced(value, path, new):
    """Return a document with one value replaced, or without it where `new` is not there."""
    copied = json.loads(json.dumps(value))
    parent = copied
    for key in path[:-1]:
        parent = parent[key]
    if new is ...:
        del parent[path[-1]]
    else:
        parent[path[-1]] = new
    return copied


def mutated(document):
    """Return a strategy of documents that differ in one value from the given one."""
    paths = [path for path in places(document) if path]
    return st.builds(
        replaced, st.just(document), st.sampled_from(paths), st.sampled_from([*VALUES, ...])
    )


def outcome(read):
    """Return what a reader returns, or the error that it is allowed to raise."""
    try:
        return read()
    except LightalignError as error:
        return error


@pytest.fixture(scope="module")
def other_tool():
    """Have what is written hold what we would not write: other tools do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic_files, "check_written", lambda _value, *, where: None)
        yield


@pytest.mark.usefixtures("other_tool")
@given(data=st.data())
def test_a_manifest_of_other_types_is_refused_or_means_the_same(home, data):
    """With a right checksum: other tools and later versions write one, too."""
    (entry,) = list_stores(home)
    manifest = read_manifest(entry.folder)
    changed = data.draw(mutated(manifest))
    folder = home / "changed"
    folder.mkdir(exist_ok=True)
    write_manifest(folder, changed)
    read = outcome(lambda: read_manifest(folder))
    if isinstance(read, LightalignError):
        return
    store = FeatureStore(folder, read)
    assert store.num_rows >= 0
    assert outcome(lambda: list(store.flaws(content=False))) is not None
    assert all(is_inside(name) for receipt in store.receipts() for name in receipt["files"])


@pytest.mark.usefixtures("other_tool")
@given(data=st.data())
def test_a_receipt_of_other_types_is_refused_or_means_the_same(home, data):
    (entry,) = list_stores(home)
    receipt = read_manifest(entry.folder)["shards"][0]
    path = home / "receipt.json"
    atomic_files.write_sealed(path, data.draw(mutated(receipt)))
    items = entry.description.shard_items(0)
    read = outcome(lambda: read_receipt(path, items))
    if not isinstance(read, LightalignError):
        assert read["rows"] >= 0
        assert read["tokens"] >= 0


@pytest.mark.usefixtures("other_tool")
@given(data=st.data())
def test_pairs_of_other_types_are_refused_or_mean_the_same(home, data):
    (entry,) = list_stores(home)
    described = entry.description
    table = atomic_files.read_sealed(
        pairs_path(home, described.dataset, described.split, described.source)
    )
    path = home / "pairs.json"
    atomic_files.write_sealed(path, data.draw(mutated(table)))
    outcome(lambda: read_pairs(path))


def test_one_bad_store_hides_no_other(home, tmp_path):
    shutil.copytree(home, tmp_path / "h")
    home = tmp_path / "h"
    (entry,) = list_stores(home)
    for number, content in enumerate(
        [b"{", b"[]", DEEP.encode(), b"\xff", b'{"format_version":2}']
    ):
        bad = entry.folder.with_name(f"bad--{number}")
        bad.mkdir()
        (bad / "manifest.json").write_bytes(content)
    assert [found.folder for found in list_stores(home)] == [entry.folder]
    with pytest.raises((StoreCorruptError, StoreNotFoundError)):
        FeatureStore.open(entry.folder.with_name("bad--0"))


def test_a_byte_order_mark_before_toml_is_none_of_it(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbfname = 'x'\r\n")
    assert read_toml(tmp_path / "x.toml") == {"name": "x"}
