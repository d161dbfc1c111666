"""Towers that read several streams: their steps, their joins, and what they refuse."""

import pytest
import torch

from lightalign.adapters.adapter import build_adapter, count_parameters
from lightalign.adapters.checkpoint import load_adapter, save_adapter
from lightalign.adapters.objective import build_objective
from lightalign.adapters.preset import DUAL, for_streams, list_presets, read_preset
from lightalign.adapters.steps.join import Join
from lightalign.featcache.errors import SpecError
from lightalign.featcache.tokens import PooledTokens, StreamTokens, Tokens
from lightalign.featcache.types import IMAGE_TEXT, Modality

IMAGE, TEXT = IMAGE_TEXT
WIDTHS = {IMAGE: (3, 2), TEXT: 4}
POOL = {"part": "concat-pool", "summaries": ["mean", "max"]}
JOINED = {
    "image": {"pool": POOL, "join": {"part": "join"}, "project": {"part": "linear", "out": 5}},
    "text": {"pool": POOL, "join": {"part": "join"}, "project": {"part": "linear", "out": 5}},
}


def streams(*shapes):
    generator = torch.Generator().manual_seed(1)
    made = []
    for rows, length, width in shapes:
        mask = torch.ones(rows, length, dtype=torch.bool)
        mask[0, 1:] = False
        made.append(Tokens(torch.randn(rows, length, width, generator=generator), mask))
    return StreamTokens.of(made)


def test_features_of_all_streams_reach_the_matrix_behind_the_join():
    """Means and maxima of streams of widths 3 and 2 are 10 features: a matrix of 5 x 10 and 5."""
    adapter = build_adapter(JOINED, widths=WIDTHS, seed=0).eval()
    tokens = streams((2, 4, 3), (2, 3, 2))
    first, second = tokens.streams
    summaries = [
        torch.cat([stream.values[row, :length].mean(0), stream.values[row, :length].amax(0)])
        for row in range(2)
        for stream, length in ((first, [1, 4][row]), (second, [1, 3][row]))
    ]
    by_row = torch.stack([torch.cat(summaries[:2]), torch.cat(summaries[2:])])
    project = adapter.steps["image/project"].linear
    expected = torch.nn.functional.normalize(project(by_row), dim=1)
    torch.testing.assert_close(adapter.embed(tokens, IMAGE), expected)
    # the images' 5 x 10 and 5, the texts' 5 x 8 and 5
    assert count_parameters(adapter) == 55 + 45


def test_streams_have_their_own_modules_unless_a_slot_says_that_they_share():
    own = {"part": "linear", "out": 4, "per_modality": True}
    tower = {
        "first": own,
        "second": {**own, "per_stream": False},
        "join": {"part": "join", "by": "tokens"},
        "pool": {"part": "mean-pool"},
    }
    adapter = build_adapter({"both": tower}, widths=WIDTHS, seed=0)
    assert adapter.before_join == {
        IMAGE: (("image/first", "image/second"), ("image-2/first", "image/second"))
    }
    assert adapter.paths == {
        IMAGE: ("image/join", "both/pool"),
        TEXT: ("text/first", "text/second", "both/pool"),
    }
    assert adapter.steps_of(IMAGE) == (
        *("image/first", "image-2/first", "image/second", "image/second"),
        *("image/join", "both/pool"),
    )


def test_a_join_by_tokens_averages_the_tokens_of_all_streams():
    tower = {"join": {"part": "join", "by": "tokens"}, "pool": {"part": "mean-pool"}}
    adapter = build_adapter({"both": tower}, widths={IMAGE: (2, 2), TEXT: 2}, seed=0)
    tokens = streams((2, 4, 2), (2, 3, 2))
    # of row 0 one token of each is real
    ends = [(1, 1), (4, 3)]
    expected = torch.stack(
        [
            torch.cat(
                [s.values[row, :end] for s, end in zip(tokens.streams, of_row, strict=True)]
            ).mean(dim=0)
            for row, of_row in enumerate(ends)
        ]
    )
    torch.testing.assert_close(adapter.embed_unnormalised(tokens, IMAGE), expected)


def test_a_sum_behind_a_matrix_of_each_stream_is_one_matrix_of_all_features():
    tower = {
        "project": {"part": "linear", "out": 4, "per_modality": True},
        "pool": {"part": "mean-pool"},
        "join": {"part": "join", "by": "sum"},
    }
    adapter = build_adapter({"both": tower}, widths=WIDTHS, seed=0).eval()
    tokens = streams((2, 1, 3), (2, 1, 2))
    first, second = (adapter.steps[f"{name}/project"].linear for name in ("image", "image-2"))
    weight = torch.cat([first.weight, second.weight], dim=1)
    features = torch.cat([stream.values[:, 0] for stream in tokens.streams], dim=1)
    expected = features @ weight.T + first.bias + second.bias
    torch.testing.assert_close(adapter.embed_unnormalised(tokens, IMAGE), expected)


def test_what_was_pooled_before_goes_on_as_if_it_had_not_been():
    adapter = build_adapter(JOINED, widths=WIDTHS, seed=0).eval()
    tokens = streams((2, 4, 3), (2, 3, 2))
    pooled = adapter.pool(tokens, IMAGE)
    assert isinstance(pooled, PooledTokens)
    assert pooled.values.shape == (2, 1, 10)
    torch.testing.assert_close(adapter.embed(pooled, IMAGE), adapter.embed(tokens, IMAGE))


def test_streams_that_are_pooled_but_not_joined_are_told_apart_again():
    """A matrix of each stream behind the pools: the second reads its own two summaries alone."""
    tower = {**JOINED["image"], "join": {"part": "join"}}
    own = {"part": "linear", "out": 2}
    with_own = {"pool": POOL, "own": own, "join": tower["join"], "project": tower["project"]}
    adapter = build_adapter(
        {"image": with_own, "text": JOINED["text"]}, widths=WIDTHS, seed=0
    ).eval()
    tokens = streams((2, 4, 3), (2, 3, 2))
    pooled = adapter.pool(tokens, IMAGE)
    assert (pooled.num_steps, pooled.values.shape[2]) == (1, 10)
    torch.testing.assert_close(adapter.embed(pooled, IMAGE), adapter.embed(tokens, IMAGE))
    read = adapter.tokens_before(tokens, IMAGE, "image-2/own")
    assert read.values.shape == (2, 1, 4)


def test_a_saved_tower_of_two_streams_is_the_same_after_loading(tmp_path):
    table = {"towers": JOINED, "objective": {"part": "clip"}}
    adapter = build_adapter(JOINED, widths=WIDTHS, seed=0).eval()
    save_adapter(tmp_path, adapter, build_objective(table["objective"]), table=table)
    loaded, _, stored = load_adapter(tmp_path)
    assert stored["widths"] == {"image": [3, 2], "text": 4}
    tokens = streams((2, 4, 3), (2, 3, 2))
    assert torch.equal(loaded.embed(tokens, IMAGE), adapter.embed(tokens, IMAGE))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (streams((2, 4, 3)), "3:"),
        (streams((2, 4, 2), (2, 4, 3)), "2 and 3:"),
        (streams((2, 4, 3), (2, 4, 2), (2, 4, 2)), "3 and 2 and 2:"),
    ],
)
def test_other_streams_than_a_tower_was_built_for_are_refused(given, found):
    adapter = build_adapter(JOINED, widths=WIDTHS, seed=0).eval()
    with pytest.raises(SpecError, match=f"image tokens of width 3 and 2, found {found}"):
        adapter.embed(given, IMAGE)


def test_two_streams_are_refused_by_a_tower_of_one():
    adapter = build_adapter(JOINED, widths={IMAGE: 3, TEXT: 4}, seed=0).eval()
    with pytest.raises(SpecError, match="of width 3, found 3 and 2"):
        adapter.embed(streams((2, 4, 3), (2, 3, 2)), IMAGE)


def test_a_tower_that_joins_nothing_refuses_a_second_stream():
    tower = {"pool": POOL, "project": {"part": "linear", "out": 5, "per_modality": True}}
    tower["pool"] = {**POOL, "per_modality": True}
    with pytest.raises(SpecError, match=r"no slot with the part 'join', so the image tower"):
        build_adapter({"both": tower}, widths=WIDTHS, seed=0)


@pytest.mark.parametrize("by", ["tokens", "sum"])
def test_streams_of_two_widths_are_joined_by_features_alone(by):
    with pytest.raises(SpecError, match=rf"widths \[3, 2\] cannot be joined by {by}"):
        Join([3, 2], by=by)


def test_an_unknown_way_to_join_is_refused():
    with pytest.raises(SpecError, match=r"one of \['features', 'tokens', 'sum'\], found 'mean'"):
        Join(3, by="mean")


@pytest.mark.parametrize("by", ["features", "sum"])
def test_streams_with_other_tokens_are_not_joined_token_by_token(by):
    with pytest.raises(SpecError, match="the streams of the image tower differ in their tokens"):
        Join([2, 2], by=by)(streams((2, 4, 2), (2, 3, 2)), IMAGE)


def test_a_shared_slot_that_meets_two_widths_names_the_option():
    tower = {
        "project": {"part": "linear", "out": 4, "per_modality": True, "per_stream": False},
        "join": {"part": "join"},
        "pool": {"part": "mean-pool"},
    }
    with pytest.raises(SpecError, match=r"width 3 and image tokens of width 2: say per_stream"):
        build_adapter({"both": tower}, widths=WIDTHS, seed=0)


@pytest.mark.parametrize("name", list_presets(DUAL))
def test_a_preset_is_as_before_with_one_stream_and_takes_two_or_says_that_it_does_not(name):
    preset = read_preset(name)
    one = for_streams(preset, {IMAGE: 1, TEXT: 1}, name=name)
    slots = [slot for tower in one["towers"].values() for slot in tower.values()]
    assert all(slot["part"] != "join" for slot in slots)
    joins = "join" in {slot["part"] for t in preset["towers"].values() for slot in t.values()}
    if joins:
        assert for_streams(preset, {IMAGE: 2, TEXT: 1}, name=name)["towers"]
        adapter = build_adapter(preset["towers"], widths={IMAGE: (64, 128), TEXT: 64}, seed=0)
        shapes = [(2, 3, 64), (2, 3, 128)]
        assert adapter.eval().embed(streams(*shapes), IMAGE).shape == (2, adapter.out_width)
    else:
        with pytest.raises(SpecError, match=f"'{name}' takes one image stream, found 2"):
            for_streams(preset, {IMAGE: 2, TEXT: 1}, name=name)


def test_our_own_presets_take_several_streams():
    ours = {name for name in list_presets(DUAL) if name.startswith("lightalign/")} | {"linear"}
    for name in ours:
        preset = read_preset(name)
        assert for_streams(preset, {IMAGE: 2, TEXT: 3}, name=name) == preset


def test_one_side_may_keep_its_join_where_the_other_has_one_stream():
    table = for_streams({"towers": JOINED}, {IMAGE: 2, TEXT: 1}, name="mine")
    assert "join" in table["towers"]["image"]
    assert "join" not in table["towers"]["text"]
    assert Modality.TEXT not in build_adapter(table["towers"], widths=WIDTHS, seed=0).before_join
