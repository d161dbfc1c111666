import pytest

from lightalign.featcache.errors import SpecError, UnknownNameError

from .test_feature_store import describe


@pytest.mark.parametrize(
    "change",
    [
        {"identity": {"weights": "2"}},
        {"source": "abd"},
        {"split": "val"},
        {"modality": "text"},
        {"layer": -2},
        {"kind": "cls"},
        {"dtype": "float32"},
        {"container": "hdf5"},
        {"compression": "zstd"},
        {"companions": ("token_ids",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_a_number_or_a_byte_changes_the_key(change):
    assert describe(**change).key != describe().key


@pytest.mark.parametrize("change", [{"dataset": "e"}, {"encoder": "other"}, {"rows_per_shard": 4}])
def test_names_and_the_rows_of_a_shard_change_no_key(change):
    assert describe(**change).key == describe().key


def test_the_key_of_an_encoder_is_that_of_its_features_on_every_dataset():
    other = describe(source="abd", split="val", container="hdf5")
    assert other.encoder_key == describe().encoder_key
    assert describe(layer=-2).encoder_key != describe().encoder_key


def test_shards_cover_all_items_and_the_last_is_shorter():
    described = describe(num_items=5, rows_per_shard=2)
    assert [list(described.shard_items(index)) for index in range(described.num_shards)] == [
        [0, 1],
        [2, 3],
        [4],
    ]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"dtype": "float8"}, UnknownNameError),
        ({"compression": "gzip"}, UnknownNameError),
        ({"width": 0}, SpecError),
        ({"tokens_per_item": 0}, SpecError),
        ({"num_items": 2_000_000, "rows_per_shard": 1}, SpecError),
        ({"dataset": "../x"}, SpecError),
        ({"source": "a/b"}, SpecError),
    ],
)
def test_what_no_store_can_be_is_refused(change, error):
    with pytest.raises(error):
        describe(**change)
