import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightalign.featcache.errors import DeviceError, StoreCorruptError, UnknownNameError
from lightalign.featcache.hardware import free_memory, reserve_files
from lightalign.featcache.reading import residency
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.reading.shard_cache import ShardCache
from lightalign.featcache.reading.shuffle import block_shuffle
from lightalign.featcache.store.feature_store import FORMATS, FeatureStore
from lightalign.featcache.store.key import COMPRESSIONS, DTYPES, StoreDescription
from lightalign.featcache.store.stored_types import SCALES
from lightalign.featcache.string_array import Strings
from lightalign.featcache.tokens import pad, pad_groups
from lightalign.featcache.types import Features

from ...helpers import quantised
from ..store.test_feature_store import describe

FORMAT_NAMES = FORMATS.names()
COMPANIONS = {
    "token_ids": np.int32,
    "special_tokens": np.uint8,
    "character_spans": np.int32,
    "geometry": np.int32,
}
CPU = torch.device("cpu")


def companion_lines(name: str, row: int, num_tokens: int) -> np.ndarray:
    """Return the lines of one row, of numbers that say where they belong."""
    if name == "geometry":
        return np.arange(row, row + 8, dtype=np.int32)[None]
    numbers = ((row * 7 + np.arange(num_tokens)) % 250).astype(COMPANIONS[name])
    return np.stack([numbers, numbers + 1], axis=1) if name == "character_spans" else numbers


def write(folder: Path, description: StoreDescription, rows: list[np.ndarray]) -> FeatureStore:
    """Write float32 rows as the description says, with its companions."""
    store = FeatureStore.create(folder, description, versions={})
    for index in store.missing_shards():
        items = store.shard_items(index)
        lengths = [len(rows[item]) for item in items]
        stored, scales = quantised(
            np.concatenate([rows[item] for item in items]), description.dtype
        )
        companions = {
            name: np.concatenate([companion_lines(name, i, len(rows[i])) for i in items])
            for name in description.companions
        }
        if scales is not None:
            companions[SCALES] = scales
        offsets = np.cumsum([0, *lengths]).astype(np.int64)
        ids = tuple(f"item-{item}" for item in items)
        store.write_shard(index, Features(stored, offsets, ids, companions), [])
    store.finish()
    return store


def random_rows(lengths, width: int = 3, seed: int = 0) -> list[np.ndarray]:
    return [
        np.random.default_rng([seed, row]).normal(size=(length, width)).astype(np.float32)
        for row, length in enumerate(lengths)
    ]


def assert_close_as_stored(found: np.ndarray, written: np.ndarray, dtype: str) -> None:
    """Compare with what the stored type makes of it, worked out in float64.

    float32 loses nothing. bfloat16 keeps 8 significant bits: with x = m 2^e and m below 1 it is the
    even nearest of 256 m, over 256, times 2^e. float16 keeps 11 bits, so it is off by at most 2^-11
    of the value, or 2^-25 below 2^-14. int8 rounds to a step of (largest of the token) / 127, off
    by at most half; its scale and the product are rounded to float32 themselves.
    """
    exact = written.astype(np.float64)
    if dtype in ("float32", "bfloat16"):
        mantissa, exponent = np.frexp(exact)
        short = np.ldexp(np.rint(mantissa * 256) / 256, exponent)
        np.testing.assert_array_equal(found, short if dtype == "bfloat16" else exact)
        return
    if dtype == "int8":
        bound = np.abs(exact).max(axis=1, keepdims=True) / 127 / 2 * (1 + 1e-5)
    else:
        bound = np.maximum(2.0**-11 * np.abs(exact), 2.0**-25)
    assert (np.abs(found.astype(np.float64) - exact) <= bound).all()


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_gather_returns_what_was_written(tmp_path_factory, data):
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=12), label="lengths")
    ragged = data.draw(st.booleans(), label="ragged")
    dtype = data.draw(st.sampled_from(DTYPES), label="dtype")
    companions = data.draw(st.lists(st.sampled_from(sorted(COMPANIONS)), unique=True))
    residency_name = data.draw(st.sampled_from(["auto", "host", "disk", "device"]))
    lengths = lengths if ragged else [lengths[0]] * len(lengths)
    width = data.draw(st.integers(1, 4), label="width")
    rows = random_rows(lengths, width=width, seed=data.draw(st.integers(0, 2**16)))
    description = describe(
        container=data.draw(st.sampled_from(FORMAT_NAMES)),
        compression=data.draw(st.sampled_from(COMPRESSIONS)),
        width=width,
        dtype=dtype,
        companions=tuple(companions),
        tokens_per_item=None if ragged else lengths[0],
        num_items=len(rows),
        rows_per_shard=data.draw(st.integers(1, 5), label="rows_per_shard"),
    )
    folder = tmp_path_factory.mktemp("store")
    write(folder, description, rows)
    reader = FeatureReader(
        folder,
        residency=residency_name,
        device=CPU,
        buffer_bytes=data.draw(st.sampled_from([0, 2**20])),
    )
    wanted = data.draw(st.lists(st.sampled_from(range(len(rows))), max_size=40), label="wanted")

    gathered = reader.gather(wanted)
    assert gathered.values.dtype == (np.float16 if dtype == "float16" else np.float32)
    assert gathered.ids == tuple(f"item-{row}" for row in wanted)
    assert gathered.lengths.tolist() == [lengths[row] for row in wanted]
    assert set(gathered.companions) == set(companions)
    for position, row in enumerate(wanted):
        assert_close_as_stored(gathered.row(position), rows[row], dtype)
        first, last = gathered.offsets[position : position + 2]
        for name, array in gathered.companions.items():
            here = slice(position, position + 1) if name == "geometry" else slice(first, last)
            np.testing.assert_array_equal(array[here], companion_lines(name, row, lengths[row]))
    padded, expected = reader.padded(np.array(wanted, np.int64)), pad(gathered)
    assert torch.equal(padded.values, expected.values)
    assert torch.equal(padded.mask, expected.mask)


@pytest.mark.parametrize("residency_name", ["device", "disk"])
def test_groups_come_as_from_the_gathered_features(tmp_path, residency_name):
    lengths = [1, 3, 2, 1, 4]
    write(tmp_path, describe(tokens_per_item=None), random_rows(lengths))
    reader = FeatureReader(tmp_path, residency=residency_name, device=CPU)
    rows = np.array([4, 0, 1, 1, 2])
    groups, order = reader.padded_groups(rows, 2)
    expected, expected_order = pad_groups(reader.gather(rows), 2)
    assert order.tolist() == expected_order.tolist() == [1, 4, 2, 3, 0]
    for group, other in zip(groups, expected, strict=True):
        assert torch.equal(group.values, other.values)
        assert torch.equal(group.mask, other.mask)


@pytest.mark.parametrize("container", FORMAT_NAMES)
def test_many_short_rows_of_many_shards_come_in_order(tmp_path, container):
    """200 of 6 rows in 3 shards are 66 a shard, which are indexed and not copied one by one."""
    description = describe(container=container, num_items=6, tokens_per_item=None)
    rows = random_rows([2, 1, 3, 1, 2, 5])
    write(tmp_path, description, rows)
    wanted = np.random.default_rng(0).integers(0, 6, 200)
    gathered = FeatureReader(tmp_path).gather(wanted)
    expected = np.concatenate([rows[row] for row in wanted.tolist()]).astype(np.float16)
    np.testing.assert_array_equal(gathered.values, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_short_rows_on_the_host_are_one_array_filled_shard_by_shard(tmp_path, dtype):
    write(tmp_path, describe(dtype=dtype), random_rows([2] * 5))
    on_host, on_disk = (FeatureReader(tmp_path, residency=name) for name in ("host", "disk"))
    for loads, rows in ((0, []), (1, [0]), (1, [0, 1, 0]), (3, [4, 1, 4, 2])):
        found = on_host.gather(rows)
        np.testing.assert_array_equal(found.values, on_disk.gather(rows).values)
        assert found.ids == tuple(f"item-{row}" for row in rows)
        assert on_host.num_loads == loads
    wide = np.empty((2, 2, 3), np.float32)
    on_host.gather_into([3, 0], wide)
    np.testing.assert_array_equal(wide.reshape(4, 3), on_disk.gather([3, 0]).values)


def test_ids_are_empty_where_they_are_not_wanted(tmp_path):
    write(tmp_path, describe(), random_rows([2] * 5))
    assert FeatureReader(tmp_path).gather([3, 0], ids=False).ids == ("", "")


def test_companions_are_left_out_when_they_are_not_wanted(tmp_path):
    write(tmp_path, describe(companions=("token_ids",)), random_rows([2] * 5))
    assert FeatureReader(tmp_path).gather([3], companions=False).companions == {}


@pytest.mark.parametrize("change", ["none", "order", "more", "fewer"])
def test_rows_of_ids_are_those_of_the_stored_ids(tmp_path, change):
    """Ids in the order of the store are compared as bytes, and others looked up one by one."""
    write(tmp_path, describe(), random_rows([2] * 5))
    reader = FeatureReader(tmp_path)
    ids, rows = list(reader.ids), list(range(5))
    if change == "order":
        ids, rows = ids[::-1], rows[::-1]
    if change == "more":
        ids, rows = [*ids, "absent"], [*rows, -1]
    if change == "fewer":
        ids, rows = ids[1:], rows[1:]
    assert reader.rows_of(Strings.of(ids)).tolist() == rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [np.empty, torch.empty])
def test_rows_are_written_into_memory_that_is_there(tmp_path, dtype, make):
    write(tmp_path, describe(dtype=dtype), random_rows([2] * 5))
    reader = FeatureReader(tmp_path, residency="disk")
    out = make((3, 2, 3), dtype=np.float32 if make is np.empty else torch.float32)
    reader.gather_into([4, 0, 4], out)
    expected = reader.gather([4, 0, 4]).values.astype(np.float32).reshape(3, 2, 3)
    np.testing.assert_array_equal(np.asarray(out), expected)


def test_memory_of_the_wrong_shape_or_for_ragged_rows_is_refused(tmp_path):
    write(tmp_path / "fixed", describe(), random_rows([2] * 5))
    write(tmp_path / "ragged", describe(tokens_per_item=None), random_rows([2] * 5))
    for shape in ((2, 3, 2), (3, 2, 3)):
        with pytest.raises(ValueError, match=r"shape \(2, 2, 3\)"):
            FeatureReader(tmp_path / "fixed").gather_into([0, 1], np.empty(shape, np.float16))
    with pytest.raises(ValueError, match="call gather"):
        FeatureReader(tmp_path / "ragged").gather_into([0], np.empty((1, 2, 3), np.float16))


def test_offsets_that_contradict_the_values_are_refused(tmp_path):
    """Swap two offsets of the first shard, 0 2 4 to 0 6 4, which no size shows."""
    write(tmp_path, describe(tokens_per_item=None), random_rows([2] * 5))
    chunk = tmp_path / "shard-00000" / "offsets" / "c" / "0"
    chunk.write_bytes(np.array([0, 6, 4], "<i8").tobytes())
    with pytest.raises(StoreCorruptError, match="offsets"):
        FeatureReader(tmp_path)


def test_an_unknown_residency_and_a_missing_device_are_named(tmp_path):
    write(tmp_path, describe(), random_rows([2] * 5))
    with pytest.raises(UnknownNameError, match="no residency named 'hots'"):
        FeatureReader(tmp_path, residency="hots")
    with pytest.raises(DeviceError, match="no device was given"):
        FeatureReader(tmp_path, residency="device")


def test_auto_takes_the_host_up_to_a_quarter_of_the_free_memory(tmp_path, monkeypatch):
    """5 rows of 2 tokens of 3 float16 are 60 bytes, a quarter of 240."""
    write(tmp_path, describe(), random_rows([2] * 5))
    chosen = {}
    for free in (239, 240):
        monkeypatch.setattr(residency, "free_memory", lambda free=free: free)
        chosen[free] = FeatureReader(tmp_path).residency.report()
    common = {"num_bytes": 60, "asked": "auto"}
    assert chosen == {
        239: {"name": "disk", "free_bytes": 239, **common},
        240: {"name": "host", "free_bytes": 240, **common},
    }


def test_free_memory_is_the_least_that_anyone_leaves(tmp_path):
    """The group above allows 1000000 and holds 600000, 100000 of them unused file pages."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/outer/inner\n")
    outer = tmp_path / "groups" / "outer"
    (outer / "inner").mkdir(parents=True)
    (outer / "inner" / "memory.max").write_text("max\n")

    def free() -> int:
        return free_memory(proc=tmp_path / "proc", control_groups=tmp_path / "groups")

    assert free() == 8000 * 1024
    (outer / "memory.max").write_text("1000000\n")
    (outer / "memory.current").write_text("600000\n")
    (outer / "memory.stat").write_text("anon 500000\ninactive_file 100000\n")
    assert free() == 500000


def test_a_cache_keeps_the_shards_used_last_within_its_bytes():
    """Arrays of 8 bytes in 20: two fit. 0 1 0 2 drops 1, so that 0 stays and 1 is loaded anew."""
    cache = ShardCache(lambda index: np.full(1, index, np.int64), limit_bytes=20)
    for index in (0, 1, 0, 2):
        assert cache.get(index)[0] == index
    assert (cache.num_loads, cache.num_bytes, len(cache)) == (3, 16, 2)
    cache.get(0)
    assert cache.num_loads == 3
    cache.get(1)
    assert cache.num_loads == 4


def test_a_cache_of_no_bytes_keeps_the_last_shard():
    cache = ShardCache(lambda index: np.zeros(4), limit_bytes=0)
    for index in (0, 0, 1):
        cache.get(index)
    assert (cache.num_loads, len(cache)) == (2, 1)


def test_a_compressed_store_says_how_many_shards_it_holds(tmp_path):
    """A shard of 2 rows of 2 tokens of 3 float16 is 24 bytes: 50 bytes hold two."""
    write(tmp_path / "zstd", describe(compression="zstd"), random_rows([2] * 5))
    write(tmp_path / "raw", describe(), random_rows([2] * 5))
    shards = {
        (name, where): FeatureReader(
            tmp_path / name, residency=where, buffer_bytes=50
        ).buffer_shards
        for name in ("zstd", "raw")
        for where in ("disk", "host")
    }
    assert shards == {
        ("zstd", "disk"): 2,
        ("zstd", "host"): None,
        ("raw", "disk"): None,
        ("raw", "host"): None,
    }


@pytest.mark.parametrize("seed", range(20))
def test_a_block_shuffle_visits_each_row_once_a_few_shards_at_a_time(seed):
    """Shards of 3, 2, 3 and 1 rows, two at once: five blocks would be three too many."""
    first_rows = np.array([0, 3, 5, 8, 9])
    order = block_shuffle(first_rows, seed=seed, buffer_shards=2)
    assert sorted(order.tolist()) == list(range(9))
    shard = np.searchsorted(first_rows, order, side="right") - 1
    spans = [np.flatnonzero(shard == index) for index in range(4)]
    for place in range(9):
        assert sum(span[0] <= place <= span[-1] for span in spans) <= 2


def test_a_block_shuffle_depends_on_its_seed_alone():
    first_rows = np.arange(0, 101, 10)
    orders = [block_shuffle(first_rows, seed=seed, buffer_shards=2) for seed in (1, 1, 2)]
    assert orders[0].tolist() == orders[1].tolist() != orders[2].tolist()


def test_a_block_shuffle_is_as_good_as_its_formula_says():
    """16 shards of 8 rows, 4 at once: n = 128, m = 32.

    The mean displacement is that of a full shuffle, (n^2 - 1) / 3n = 42.664. Two rows of one shard
    are (m + 1) / 3 = 11 places apart, in a full shuffle 43. Over 400 orders the means of both are
    certain to about 1 %.
    """
    first_rows = np.arange(0, 129, 8)
    displacements, distances = [], []
    for seed in range(400):
        order = block_shuffle(first_rows, seed=seed, buffer_shards=4)
        place = np.argsort(order)
        displacements.append(np.abs(place - np.arange(128)).mean())
        distances.append(np.abs(place[0::8] - place[1::8]).mean())
    assert np.mean(displacements) == pytest.approx((128**2 - 1) / (3 * 128), rel=0.03)
    assert np.mean(distances) == pytest.approx(11, rel=0.03)


@pytest.mark.slow
def test_a_store_of_more_shards_than_open_files_is_read(tmp_path):
    """100 shards with a soft limit of 64 files that may not be raised."""
    write(tmp_path, describe(num_items=200), random_rows([2] * 200))
    code = f"""
import resource
from pathlib import Path
import numpy as np
from lightalign.featcache.reading.reader import FeatureReader
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
reader = FeatureReader(Path({str(tmp_path)!r}), residency="disk")
rows = np.random.default_rng(0).permutation(200)
assert reader.gather(rows).ids == tuple(f"item-{{row}}" for row in rows)
"""
    run_child(code)


@pytest.mark.slow
def test_a_store_larger_than_the_address_space_is_read(tmp_path):
    """64 MiB of features, with 32 MiB of address space more than the interpreter has taken.

    Maps count as address space, so not all shards can be mapped at once.
    """
    description = describe(
        tokens_per_item=64, width=512, num_items=1024, rows_per_shard=32, dtype="float16"
    )
    write(tmp_path, description, random_rows([64] * 1024, width=512))
    code = f"""
import resource
from pathlib import Path
import numpy as np
from lightalign.featcache import hardware
from lightalign.featcache.reading.reader import FeatureReader
taken = hardware.memory_fields(Path("/proc/self/status"))["VmSize"]
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**25, taken + 2**25))
reader = FeatureReader(Path({str(tmp_path)!r}), residency="auto")
assert reader.residency.name == "disk", reader.residency
out = np.empty((16, 64, 512), np.float16)
order = np.random.default_rng(0).permutation(1024)
for start in range(0, 1024, 16):
    reader.gather_into(order[start : start + 16], out)
"""
    run_child(code)


def run_child(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_reserving_files_raises_the_soft_limit_for_them():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
        assert reserve_files(50) == 50
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 128
        assert reserve_files(100) == 100
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
