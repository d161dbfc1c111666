"""The contracts of joint steps and of heads, over all that are in their folders."""

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightalign.adapters.attention import Attention
from lightalign.adapters.head import HEADS, LISTS, POOLED, HeadInputs, build_head
from lightalign.adapters.joint_adapter import JOINT_STEPS, JointTokens
from lightalign.featcache.errors import SpecError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import IMAGE_TEXT, Modality, sides_of

IMAGE, TEXT = Modality.IMAGE, Modality.TEXT
WIDTH, PATCHES = 8, 3
OPTION_TYPES = (int, float, bool, str)
SMALL = {"co-attention": {"layers": 2, "heads": 2, "feedforward": 12}}
# what a key's bias adds to the scores of a query is the same for all keys
NO_GRADIENT = ("key.bias",)
LISTED = {"answers": 5, "tokens": 6, "classes": 7}
INPUTS = HeadInputs(pooled_width=2 * WIDTH, token_width=WIDTH, sides=IMAGE_TEXT, listed=LISTED)


def build(name, sides=IMAGE_TEXT, **options):
    torch.manual_seed(0)
    return JOINT_STEPS.load(name)(WIDTH, sides, **(SMALL.get(name, {}) | options)).double()


def rows(lengths, *, sides=IMAGE_TEXT, longest=None, garbage=0.0, seed=0):
    """Return rows whose second side is padded, with types 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    longest = longest or max(lengths)
    first, second = (
        torch.randn(len(lengths), count, WIDTH, generator=generator, dtype=torch.float64)
        for count in (PATCHES, longest)
    )
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    second = torch.where(mask[:, :, None], second, garbage)
    whole = torch.ones(len(lengths), PATCHES, dtype=torch.bool)
    tokens = {sides[0]: Tokens(first, whole), sides[1]: Tokens(second, mask)}
    types = {
        side: torch.full_like(of_side.mask, kind, dtype=torch.int64)
        for kind, (side, of_side) in enumerate(reversed(tokens.items()))
    }
    return JointTokens(tokens, types)


@pytest.mark.parametrize("name", JOINT_STEPS.names())
def test_joint_step_takes_width_sides_and_keyword_options_of_toml_types(name):
    parameters = list(inspect.signature(JOINT_STEPS.load(name)).parameters.values())
    assert [p.name for p in parameters[:2]] == ["width", "sides"]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters[2:])
    assert all(p.annotation in OPTION_TYPES for p in parameters[2:])
    assert all(p.default is not p.empty for p in parameters[2:])


@pytest.mark.parametrize("name", JOINT_STEPS.names())
@pytest.mark.parametrize("sides", [IMAGE_TEXT, sides_of(["first_text", "second_text"])])
def test_joint_step_keeps_rows_masks_and_types_and_has_its_widths(name, sides):
    step = build(name, sides).eval()
    given_rows = rows((3, 2), sides=sides)
    out = step(given_rows)
    assert set(out.tokens) == set(sides)
    for side in sides:
        assert out.tokens[side].width == step.out_width
        assert torch.equal(out.tokens[side].mask, given_rows.tokens[side].mask)
        assert torch.equal(out.types[side], given_rows.types[side])
    if step.pooled_width:
        assert out.pooled.shape == (2, step.pooled_width)
    else:
        assert out.pooled is None


@pytest.mark.parametrize("name", JOINT_STEPS.names())
@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    garbage=st.sampled_from([math.nan, math.inf, -1e30, 7.0]),
    extra=st.integers(0, 2),
)
def test_row_does_not_depend_on_batch_mates_or_padding(name, lengths, garbage, extra):
    step = build(name).eval()
    batch = rows(lengths, longest=max(lengths) + extra, garbage=garbage)
    with torch.no_grad():
        together = step(batch)
        for i, length in enumerate(lengths):
            image, text = batch.tokens[IMAGE], batch.tokens[TEXT]
            alone = step(
                JointTokens(
                    {
                        IMAGE: image.take(torch.tensor([i])),
                        TEXT: Tokens(
                            text.values[i : i + 1, :length], text.mask[i : i + 1, :length]
                        ),
                    },
                    {
                        IMAGE: batch.types[IMAGE][i : i + 1],
                        TEXT: batch.types[TEXT][i : i + 1, :length],
                    },
                )
            )
            for side in IMAGE_TEXT:
                of_side = together.tokens[side]
                torch.testing.assert_close(
                    of_side.values[i][of_side.mask[i]], alone.tokens[side].values[0]
                )
            if step.pooled_width:
                torch.testing.assert_close(together.pooled[i], alone.pooled[0])


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in JOINT_STEPS.names()), ("co-attention", {"norm": "pre"})],
)
def test_gradient_reaches_every_parameter_that_algebra_lets_it_reach(name, options):
    step = build(name, **options)
    generator = torch.Generator().manual_seed(9)
    out = step(rows((3, 4, 2), longest=4))
    outputs = [out.tokens[side].values for side in IMAGE_TEXT]
    outputs += [] if out.pooled is None else [out.pooled]
    total = sum((each * torch.randn(each.shape, generator=generator)).sum() for each in outputs)
    if total.requires_grad:  # a mean has no parameters
        total.backward()
    without = [
        key
        for key, parameter in step.named_parameters()
        if parameter.grad is None or parameter.grad.abs().max() < 1e-12
    ]
    assert all(key.endswith(NO_GRADIENT) for key in without), without


def test_both_sides_read_the_pair_as_it_was_before_the_layer():
    """With one layer, what becomes of the texts must not depend on the images' own stack."""
    step = build("co-attention", layers=1).eval()
    batch = rows((3, 2))
    with torch.no_grad():
        before = step(batch)
        for parameter in step.stacks["image"].parameters():
            parameter.mul_(1.7)
        after = step(batch)
        assert torch.equal(before.tokens[TEXT].values, after.tokens[TEXT].values)
        assert not torch.equal(before.tokens[IMAGE].values, after.tokens[IMAGE].values)
        for parameter in step.stacks["text"].parameters():
            parameter.mul_(1.7)
        assert torch.equal(step(batch).tokens[IMAGE].values, after.tokens[IMAGE].values)


def test_a_layer_that_normalises_first_leaves_a_token_that_its_parts_leave():
    """All parts at zero: the residual alone is left, and the last norm makes it one of length."""
    step = build("co-attention", norm="pre").eval()
    with torch.no_grad():
        for name, parameter in step.named_parameters():
            if ".out." in name or ".contract." in name:
                parameter.zero_()
        batch = rows((2, 2))
        out = step(batch)
    for side in IMAGE_TEXT:
        values = batch.tokens[side].values
        centred = values - values.mean(dim=2, keepdim=True)
        expected = centred / centred.pow(2).mean(dim=2, keepdim=True).sqrt()
        torch.testing.assert_close(out.tokens[side].values, expected)


def test_token_types_are_added_by_hand():
    step = build("token-types", count=3)
    with torch.no_grad():
        step.types.weight.copy_(torch.tensor([[1.0], [10.0], [100.0]]).expand(3, WIDTH))
        batch = rows((2,))
        types = {IMAGE: torch.tensor([[1, 1, 2]]), TEXT: torch.tensor([[0, 2]])}
        out = step(JointTokens(batch.tokens, types))
    added = {side: out.tokens[side].values - batch.tokens[side].values for side in IMAGE_TEXT}
    assert added[IMAGE][0, :, 0].round().tolist() == [10, 10, 100]
    assert added[TEXT][0, :, 0].round().tolist() == [1, 100]


@pytest.mark.parametrize("name", ["tanh-pool", "mean-pool"])
def test_the_vector_of_a_row_begins_with_the_texts(name):
    step = build(name).eval()
    batch = rows((2,))
    moved = Tokens(batch.tokens[TEXT].values + 1, batch.tokens[TEXT].mask)
    with torch.no_grad():
        first = step(batch).pooled[0]
        second = step(JointTokens({**batch.tokens, TEXT: moved}, batch.types)).pooled[0]
    assert (first[:WIDTH] != second[:WIDTH]).all()
    assert torch.equal(first[WIDTH:], second[WIDTH:])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("co-attention", {"heads": 3}, "heads must divide the width 8, found 3"),
        ("co-attention", {"layers": 0}, "positive"),
        ("co-attention", {"layers": 1001}, "at most 1,000"),
        ("co-attention", {"dropout": 1.0}, r"\[0, 1\)"),
        ("co-attention", {"norm": "both"}, r"norm must be one of \('post', 'pre'\), found 'both'"),
        ("co-attention", {"spread": 0.0}, "spread must be positive, found 0.0"),
        ("token-types", {"count": 1}, "count must be at least 2, a type for each side, found 1"),
        ("token-types", {"spread": -1.0}, "spread must be positive"),
        ("tanh-pool", {"spread": 0.0}, "spread must be positive"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(SpecError, match=message):
        build(name, **options)


def test_attention_by_hand():
    """One head of two features, identities as matrices, a query (sqrt 2 log 3, 0).

    Its products with the keys (1, 0) and (0, 1) are log 3 and 0 over sqrt(2) / sqrt(2), so they
    have 3/4 and 1/4 of it; a third key is outside the mask.
    """
    attention = Attention(2, heads=1, dropout=0.0).eval()
    with torch.no_grad():
        for layer in (attention.query, attention.key, attention.value, attention.out):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
        query = torch.tensor([[[math.sqrt(2) * math.log(3), 0.0]]])
        keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
        taken = attention(query, keys, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(taken, torch.tensor([[[0.75, 0.25]]]))


# Heads


def build_any_head(name, inputs=INPUTS, **options):
    torch.manual_seed(0)
    return build_head("mine", {"part": name, **options}, inputs)


def vectors(head, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    width = 2 * WIDTH if head.reads == POOLED else WIDTH
    return torch.randn(count, width, generator=generator)


@pytest.mark.parametrize("name", HEADS.names())
def test_head_takes_inputs_and_keyword_options_of_toml_types(name):
    parameters = list(inspect.signature(HEADS.load(name)).parameters.values())
    assert parameters[0].name == "inputs"
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters[1:])
    assert all(p.annotation in OPTION_TYPES for p in parameters[1:])


@pytest.mark.parametrize("name", HEADS.names())
def test_head_scores_each_unit_alone(name):
    head = build_any_head(name).eval()
    logits = head(vectors(head, 4))
    assert logits.shape == (4, head.num_outputs)
    if head.list_name is not None:
        assert head.num_outputs == LISTED[head.list_name]
    torch.testing.assert_close(head(vectors(head, 4)[:1])[0], logits[0])


@pytest.mark.parametrize("name", HEADS.names())
def test_head_reads_rows_or_the_tokens_of_a_side(name):
    assert HEADS.load(name).reads in {POOLED, "image", "text"}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("itm", 3_074), ("answers", 7_173_177), ("pbc", 593_666), ("choice", 2_365_441)],
)
def test_heads_have_the_parameters_of_vle_at_768(name, parameters):
    inputs = HeadInputs(2 * 768, 768, IMAGE_TEXT, {"answers": 3129})
    assert sum(p.numel() for p in build_any_head(name, inputs).parameters()) == parameters


@pytest.mark.parametrize("name", HEADS.names())
def test_gradient_reaches_every_parameter_of_a_head(name):
    head = build_any_head(name).eval()
    (head(vectors(head, 4)) * torch.arange(1, 1 + head.num_outputs)).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in head.parameters())


@pytest.mark.parametrize("name", [name for name in HEADS.names() if HEADS.load(name).list_name])
@pytest.mark.parametrize("count", [None, 0])
def test_head_of_a_list_needs_one(name, count):
    list_name = HEADS.load(name).list_name
    others = {other: size for other, size in LISTED.items() if other != list_name}
    inputs = HeadInputs(
        2 * WIDTH, WIDTH, IMAGE_TEXT, others if count is None else {**others, list_name: count}
    )
    entry, wanted = LISTS[list_name]
    message = f"an output for each {entry} of a list, and the data have none: take {wanted}"
    with pytest.raises(SpecError, match=message):
        build_any_head(name, inputs)


SPREAD = ("answers", "choice", "mlm", "mpc", "pbc")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("itm", {"spread": 0.0}, r"\[heads\].mine \(itm\): spread must be positive"),
        *((name, {"spread": 0.0}, "spread must be positive") for name in SPREAD),
        ("mlm", {"hidden": -1}, "hidden must be at least 0, found -1"),
        ("answers-mlp", {"hidden": 0}, "hidden must be positive, found 0"),
        ("answers-mlp", {"dropout": 1.0}, r"\[0, 1\)"),
        ("itm", {"hidden": 3}, r"\[heads\].mine \(itm\): unknown key 'hidden'"),
    ],
)
def test_wrong_options_of_heads_are_refused(name, options, message):
    with pytest.raises(SpecError, match=message):
        build_any_head(name, **options)


@pytest.mark.parametrize("entry", [{}, {"part": 3}, "itm", None])
def test_an_entry_that_names_no_head_is_refused(entry):
    with pytest.raises(SpecError, match=r"\[heads\].mine must name its part, such as part = 'itm'"):
        build_head("mine", entry, INPUTS)
