import numpy as np
import pytest
import torch

from lightalign.featcache.errors import StoreIncompleteError
from lightalign.featcache.types import IMAGE_TEXT, Modality
from lightalign.pipelines.inputs.image_text import join_stores
from lightalign.pipelines.inputs.store_selection import StorePair, StoreQuery, require_stores
from lightalign.pipelines.joint.stored_pairs import StoredPairs, StoredSide
from lightalign.pipelines.runs.joint_run import JointRun


@pytest.fixture(scope="module")
def opened(matching_home):
    """Return the joint run and its stores of the split `test`, joined."""
    run = JointRun(matching_home, "joint", device="cpu")
    query = StoreQuery(split="test", dataset="shapes", by_side=run.queries)
    return run, join_stores(StorePair.of(require_stores(matching_home, query)), home=matching_home)


def sides_of(opened, **changes):
    run, paired = opened
    readers = zip(IMAGE_TEXT, (paired.first, paired.second), strict=True)
    return {
        side: StoredSide(
            run.joint.adapter, reader, reader.ids, side=side, device=run.device, **changes
        )
        for side, reader in readers
    }


def pairs_of(opened, **changes):
    return StoredPairs(opened[0].joint.adapter, sides_of(opened, **changes))


def all_pairs(opened):
    _, paired = opened
    first, second = np.indices((len(paired.first), len(paired.second))).reshape(2, -1)
    return first, second


def test_a_pair_has_the_score_that_the_adapter_gives_to_it_alone(opened):
    """Alone, a row is read without padding and through its towers, as `forward` does."""
    run, paired = opened
    first, second = all_pairs(opened)
    scores = pairs_of(opened).differences(first, second)
    for place in np.random.default_rng(0).permutation(len(first))[:12].tolist():
        tokens = {
            Modality.IMAGE: paired.first.padded(first[place : place + 1]),
            Modality.TEXT: paired.second.padded(second[place : place + 1]),
        }
        with torch.inference_mode():
            logits = run.joint.adapter.logits(run.joint.adapter(tokens))["itm"][0]
        assert scores[place] == pytest.approx(float(logits[1] - logits[0]), abs=2e-6)
    assert np.ptp(scores) > 0.1  # else nothing would be tested


def test_no_score_depends_on_what_else_is_asked_for_nor_on_its_place(opened):
    first, second = all_pairs(opened)
    scores = pairs_of(opened).differences(first, second)
    order = np.random.default_rng(1).permutation(len(first))
    shuffled = pairs_of(opened).differences(first[order], second[order])
    np.testing.assert_allclose(shuffled, scores[order], atol=2e-6)
    few = order[:7]
    some = pairs_of(opened).differences(first[few], second[few])
    np.testing.assert_allclose(some, scores[few], atol=2e-6)


def test_texts_differ_in_length_so_that_padding_takes_part(opened):
    assert len(set(opened[1].second.lengths.tolist())) > 1


def test_each_item_is_read_once_where_all_fit_and_with_its_block_where_they_do_not(
    opened, monkeypatch
):
    first, second = all_pairs(opened)
    scores = pairs_of(opened).differences(first, second)
    reads = []
    read = StoredSide._read

    def counted(side, places, *more):
        reads.append((side.side, len(places)))
        return read(side, places, *more)

    monkeypatch.setattr(StoredSide, "_read", counted)
    pairs = pairs_of(opened)
    reads.clear()  # of the longest rows, by which is seen whether all fit
    for _ in range(2):
        np.testing.assert_array_equal(pairs.differences(first, second), scores)
    assert sorted(reads) == [(Modality.IMAGE, 8), (Modality.TEXT, 40)]

    side = pairs.first
    bytes_of_one = side.take(np.array([0])).values.nbytes
    small = pairs_of(opened, kept_bytes=3 * bytes_of_one)
    assert small.first.at_once == 3
    reads.clear()
    np.testing.assert_allclose(small.differences(first, second), scores, atol=2e-6)
    assert max(count for _, count in reads) <= small.first.at_once


def test_an_item_without_features_is_named(opened):
    run, paired = opened
    with pytest.raises(StoreIncompleteError, match=r"1 images, such as 'no such', are not in"):
        StoredSide(
            run.joint.adapter,
            paired.first,
            [*paired.first.ids, "no such"],
            side=Modality.IMAGE,
            device=run.device,
        )
