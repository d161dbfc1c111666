"""The adapter and its builder: sharing, errors, seeds, numbers of parameters."""

import math
import re

import pytest
import torch

from lightalign.adapters.adapter import (
    build_adapter,
    count_parameters,
    parameter_groups,
)
from lightalign.adapters.objective import build_objective
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import IMAGE_TEXT, TEXT_TEXT, Modality, sides_of

WIDTHS = {Modality.IMAGE: 12, Modality.TEXT: 8}
PROJECT = {"part": "linear", "out": 4, "per_modality": True}
POOL = {"part": "mean-pool"}
SMALL = {
    "both": {
        "drop": {"part": "dropout", "p": 0.5, "per_modality": True},
        "project": PROJECT,
        "fuse": {"part": "cross-attn-fusion", "hidden": [5]},
        "mix": {"part": "transformer", "heads": 2, "feedforward": 6},
        "pool": POOL,
    }
}


def tokens(modality, rows=3, length=4):
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(rows, length, WIDTHS[modality], generator=generator)
    mask = torch.ones(rows, length, dtype=torch.bool)
    mask[1, 2:] = False
    return Tokens(values, mask)


@pytest.mark.parametrize("modality", list(IMAGE_TEXT))
def test_embeddings_have_length_one_and_the_common_width(modality):
    adapter = build_adapter(SMALL, widths=WIDTHS, seed=0).eval()
    embedding = adapter.embed(tokens(modality), modality)
    assert embedding.shape == (3, adapter.out_width) == (3, 4)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))


def test_equal_seeds_give_equal_weights_and_others_do_not():
    first, again, other = (
        build_adapter(SMALL, widths=widths, seed=seed).state_dict()
        for widths, seed in [(WIDTHS, 3), (dict(reversed(WIDTHS.items())), 3), (WIDTHS, 4)]
    )
    assert list(first) == list(again)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["steps.image/project.linear.weight"], other["steps.image/project.linear.weight"]
    )


def test_building_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    build_adapter(SMALL, widths=WIDTHS, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_new_adapter_is_in_training_mode_throughout():
    adapter = build_adapter(SMALL, widths=WIDTHS, seed=0)
    assert all(module.training for module in adapter.modules())


def test_slots_are_shared_unless_they_say_per_modality():
    """Linear 12->4 and 8->4 with biases: 52 + 36; one shared LayerNorm(4): 8."""
    towers = {"both": {"project": PROJECT, "norm": {"part": "norm"}, "pool": POOL}}
    adapter = build_adapter(towers, widths=WIDTHS, seed=0)
    assert count_parameters(adapter) == 52 + 36 + 8
    assert adapter.paths[Modality.IMAGE] == ("image/project", "both/norm", "both/pool")
    assert adapter.paths[Modality.TEXT] == ("text/project", "both/norm", "both/pool")


def test_separate_towers_share_nothing_and_may_differ():
    """Image: Linear 12->4 (52). Text: Linear 8->6 (54), LayerNorm(6) (12), Linear 6->4 (28)."""
    towers = {
        "image": {"project": {"part": "linear", "out": 4}, "pool": POOL},
        "text": {
            "project": {"part": "linear", "out": 6},
            "norm": {"part": "norm"},
            "pool": POOL,
            "out": {"part": "linear", "out": 4},
        },
    }
    adapter = build_adapter(towers, widths=WIDTHS, seed=0)
    assert count_parameters(adapter) == 52 + 54 + 12 + 28
    assert adapter.embed(tokens(Modality.TEXT), Modality.TEXT).shape == (3, 4)


@pytest.mark.parametrize("slot", ["train", "forward", "keys", "a b", "x/y"])
def test_slot_may_have_the_name_of_a_module_attribute(slot):
    towers = {"both": {slot: PROJECT, "pool": POOL}}
    adapter = build_adapter(towers, widths=WIDTHS, seed=0)
    assert adapter.embed(tokens(Modality.IMAGE), Modality.IMAGE).shape == (3, 4)


def both(**slots):
    return {"both": {**slots, "pool": POOL}}


@pytest.mark.parametrize(
    ("towers", "error", "message"),
    [
        (
            both(p={**PROJECT, "part": "linaer"}),
            UnknownNameError,
            r"no step named 'linaer'; close: \['linear'\]",
        ),
        (
            both(p={**PROJECT, "size": 4}),
            SpecError,
            r"\[towers.both\].p \(linear\): unknown key 'size'; known: \['bias', 'out', 'spread'\]",
        ),
        (
            both(p={"part": "linear", "per_modality": True}),
            SpecError,
            r"\[towers.both\].p \(linear\) needs the option 'out'",
        ),
        (
            both(p={**PROJECT, "out": "4"}),
            SpecError,
            r"p \(linear\).out must be a whole number, found '4'",
        ),
        (both(p={**PROJECT, "out": True}), SpecError, "out must be a whole number, found True"),
        (both(p={**PROJECT, "bias": 1}), SpecError, "bias must be True or False, found 1"),
        (both(p=PROJECT, f={"part": "add-fusion", "hidden": "64"}), SpecError, "hidden must be"),
        (
            both(p=PROJECT, f={"part": "add-fusion", "hidden": ["64"]}),
            SpecError,
            r"hidden must be a whole number, found '64'",
        ),
        (
            both(d={"part": "dropout", "p": 1.0, "per_modality": True}, p=PROJECT),
            SpecError,
            r"\[towers.both\].d \(dropout\): dropout p must be in",
        ),
        (
            both(p={"part": "linear", "out": 4}),
            SpecError,
            r"\[towers.both\].p is shared but meets image tokens of width 12 and text tokens",
        ),
        (both(p={**PROJECT, "per_modality": "yes"}), SpecError, "true or false, found 'yes'"),
        (both(p={"out": 4}), SpecError, "must be a table that names its part"),
        (both(p="linear"), SpecError, "must be a table that names its part, found 'linear'"),
        (both(**{"a.b": PROJECT}), SpecError, "dot"),
        ({"both": {"p": PROJECT}}, SpecError, "image tower ends in several tokens a row"),
        ({"both": {}}, SpecError, "must be a table of slots"),
        (
            {"image": {"pool": POOL}},
            SpecError,
            r"either 'both' alone or \['image', 'text'\], found \['image'\]",
        ),
        (
            {"image": {"pool": POOL}, "text": {"pool": POOL}},
            SpecError,
            "must end in one width, found {'image': 12, 'text': 8}",
        ),
        ({}, SpecError, "found \\[\\]"),
    ],
)
def test_wrong_towers_are_refused_with_the_slot_and_the_reason(towers, error, message):
    with pytest.raises(error, match=message):
        build_adapter(towers, widths=WIDTHS, seed=0)


def test_tokens_of_another_width_are_refused():
    adapter = build_adapter(SMALL, widths=WIDTHS, seed=0)
    with pytest.raises(SpecError, match="image tokens of width 12, found 8"):
        adapter.embed(tokens(Modality.TEXT), Modality.IMAGE)


def test_float16_features_are_embedded_as_their_float32_values():
    adapter = build_adapter(SMALL, widths=WIDTHS, seed=0).eval()
    stored = tokens(Modality.TEXT).to(torch.device("cpu"), torch.float16)
    exact = stored.with_values(stored.values.float())
    found = adapter.embed(stored, Modality.TEXT)
    assert found.dtype == torch.float32
    assert torch.equal(found, adapter.embed(exact, Modality.TEXT))


def test_nan_in_padding_reaches_neither_embeddings_nor_gradients():
    adapter = build_adapter(SMALL, widths=WIDTHS, seed=0)
    good = tokens(Modality.TEXT)
    bad = good.with_values(good.values.masked_fill(~good.mask[:, :, None], math.nan))
    embedding = adapter.embed(bad, Modality.TEXT)
    embedding[:, 0].sum().backward()
    gradients = [p.grad for p in adapter.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    adapter.eval()
    expected = adapter.embed(good, Modality.TEXT)
    torch.testing.assert_close(adapter.embed(bad, Modality.TEXT), expected)


def test_embeddings_under_autocast_are_float32_and_close():
    adapter = build_adapter(SMALL, widths=WIDTHS, seed=0).eval()
    exact = adapter.embed(tokens(Modality.IMAGE), Modality.IMAGE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast = adapter.embed(tokens(Modality.IMAGE), Modality.IMAGE)
    assert fast.dtype == torch.float32
    assert (exact * fast).sum(dim=1).min() > 0.995


def test_only_matrices_decay():
    adapter = build_adapter(SMALL, widths=WIDTHS, seed=0)
    clip = build_objective({"part": "clip"})
    parameters = [*adapter.parameters(), *clip.parameters()]
    decayed, others = parameter_groups(parameters, weight_decay=0.05)
    names = {id(p): name for name, p in [*adapter.named_parameters(), *clip.named_parameters()]}
    assert decayed["weight_decay"] == 0.05
    assert others["weight_decay"] == 0.0
    undecayed = {names[id(p)] for p in others["params"]}
    expected = {
        "log_scale",
        "steps.image/project.linear.bias",
        "steps.both/mix.norm.weight",
        "steps.both/fuse.context.vectors.text",
    }
    assert expected <= undecayed
    assert "steps.both/fuse.query.weight" in {names[id(p)] for p in decayed["params"]}
    assert len(decayed["params"]) + len(others["params"]) == len(names)


def test_adapter_groups_make_an_optimiser_and_leave_frozen_parameters_out():
    adapter = build_adapter(both(p=PROJECT), widths=WIDTHS, seed=0)
    adapter.steps["text/p"].requires_grad_(False)
    optimiser = torch.optim.AdamW(parameter_groups(adapter.parameters(), weight_decay=0.1), lr=1e-3)
    counts = [sum(p.numel() for p in group["params"]) for group in optimiser.param_groups]
    assert counts == [48, 4]
    assert count_parameters(adapter) == 52


@pytest.mark.parametrize(
    ("fusion", "expected"),
    [
        ("add", 1_884_039),
        ("mul", 1_884_039),
        ("concat", 1_981_361),
        ("additive-attn", 2_015_880),
        ("general-attn", 1_949_831),
        ("cross-attn", 2_081_415),
    ],
)
def test_lightcrl_has_its_published_number_of_parameters(fusion, expected):
    towers = {
        "both": {
            "project": {"part": "mlp", "out": 256, "hidden": 256, "per_modality": True},
            "fuse": {"part": f"{fusion}-fusion"},
            "mix": {"part": "transformer", "layers": 1, "heads": 4},
            "pool": {"part": "mean-pool", "masked": False},
        }
    }
    widths = dict.fromkeys(IMAGE_TEXT, 768)
    adapter = build_adapter(towers, widths=widths, seed=0)
    clip = build_objective({"part": "clip"})
    assert count_parameters(adapter) + count_parameters(clip) == expected


@pytest.mark.parametrize("fuse", [{"hidden": [5]}, {"direct": True}])
def test_two_text_encoders_have_weights_of_their_own_and_share_the_rest(fuse):
    """Equal seeds give both kinds of sides equal weights: the names alone differ."""
    towers = both(p=PROJECT, fuse={"part": "add-fusion", **fuse})
    image_text = build_adapter(towers, widths=WIDTHS, seed=3)
    text_text = build_adapter(towers, widths=dict(zip(TEXT_TEXT, (12, 8), strict=True)), seed=3)
    assert text_text.paths[TEXT_TEXT[1]] == ("second_text/p", "both/fuse", "both/pool")
    renamed = {"image": "first_text", "text": "second_text"}
    named = {
        re.sub(r"(?<=steps\.|ctors\.)(image|text)\b", lambda m: renamed[m[0]], name): value
        for name, value in image_text.state_dict().items()
    }
    found = text_text.state_dict()
    assert named.keys() == found.keys()
    assert all(torch.equal(named[name], found[name]) for name in found)


def test_the_names_of_two_sides_are_those_of_images_and_texts_or_of_two_texts():
    assert sides_of(["text", "image"]) == (Modality.IMAGE, Modality.TEXT)
    assert sides_of(["second_text", "first_text"]) == (TEXT_TEXT[0], TEXT_TEXT[1])
    with pytest.raises(SpecError, match=r"found \['first_text', 'image'\]"):
        sides_of(["image", "first_text"])
