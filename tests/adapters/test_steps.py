"""The contract of a step, over all steps in the folder, and what single steps promise."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightalign.adapters.adapter import STEPS
from lightalign.adapters.steps.kernel_map import arc_cosine
from lightalign.featcache.errors import SpecError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import IMAGE_TEXT, Modality

WIDTH = 8
OUT = 6
OPTION_TYPES = (int, float, bool, str, tuple[int, ...], tuple[str, ...])
# three queries for rows of three tokens; sizes and a power that rounding does not add up in
SMALL = {
    "query-bridge": {"out": 8, "queries": 3, "layers": 2, "heads": 2, "feedforward": 16},
    "relative": {"power": 2.0},
}

# Parameters whose gradient is zero by algebra: what they add to the scores of a row is the same
# for all its tokens and cancels in the softmax.
NO_GRADIENT = {
    "additive-attn-fusion": {"score.bias"},
    "general-attn-fusion": {"key.bias"},
    "cross-attn-fusion": {"key.bias"},
}


def options_of(name):
    parameters = inspect.signature(STEPS.load(name)).parameters.values()
    return [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def build(name, **options):
    torch.manual_seed(0)
    required = {p.name: OUT for p in options_of(name) if p.default is p.empty}
    return STEPS.load(name)(WIDTH, **(required | SMALL.get(name, {}) | options))


def full(rows=2, length=3, seed=0):
    values = torch.randn(rows, length, WIDTH, generator=torch.Generator().manual_seed(seed))
    return Tokens(values, torch.ones(rows, length, dtype=torch.bool))


@pytest.mark.parametrize("name", STEPS.names())
def test_step_takes_width_and_keyword_options_of_toml_types(name):
    parameters = list(inspect.signature(STEPS.load(name)).parameters.values())
    assert parameters[0].name == "width"
    assert [p.kind for p in parameters[1:]] == [inspect.Parameter.KEYWORD_ONLY] * len(
        parameters[1:]
    )
    assert all(p.annotation in OPTION_TYPES for p in parameters[1:])


@pytest.mark.parametrize("name", STEPS.names())
def test_step_keeps_rows_and_has_its_out_width(name):
    step = build(name).eval()
    out = step(full(rows=2, length=3), Modality.TEXT)
    assert out.values.shape[0] == 2
    assert out.width == step.out_width
    assert out.values.shape[1] in (1, 3)
    assert out.mask.all()


@pytest.mark.parametrize("name", STEPS.names())
@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    garbage=st.sampled_from([math.nan, math.inf, -1e30, 7.0]),
    extra=st.integers(0, 2),
)
def test_row_does_not_depend_on_batch_mates_or_padding(name, lengths, garbage, extra):
    step = build(name).eval()
    longest = max(lengths) + extra
    values = full(rows=len(lengths), length=longest).values
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    padded = Tokens(torch.where(mask[:, :, None], values, garbage), mask)
    with torch.no_grad():
        together = step(padded, Modality.IMAGE)
        for i, length in enumerate(lengths):
            row = Tokens(values[i : i + 1, :length], mask[i : i + 1, :length])
            alone = step(row, Modality.IMAGE)
            in_batch = together.values[i][together.mask[i]]
            torch.testing.assert_close(in_batch, alone.values[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", STEPS.names())
def test_gradient_reaches_every_parameter_that_algebra_lets_it_reach(name):
    step = build(name).double()
    total = torch.zeros((), dtype=torch.float64)
    for seed, modality in enumerate(IMAGE_TEXT):
        tokens = full(rows=3, length=4, seed=seed)
        tokens = tokens.with_values(tokens.values.double())
        out = step(tokens, modality).values
        target = torch.randn(out.shape, generator=torch.Generator().manual_seed(9))
        total = total + (out * target).sum()
    if total.requires_grad:  # identity, dropout and the mean have no parameters
        total.backward()
    without = {
        key
        for key, parameter in step.named_parameters()
        if parameter.grad is None or parameter.grad.abs().max() < 1e-12
    }
    assert without == NO_GRADIENT.get(name, set())


def test_additive_attention_without_tanh_trains_neither_context_nor_query():
    step = build("additive-attn-fusion", tanh=False).double()
    tokens = full(rows=3, length=4)
    out = step(tokens.with_values(tokens.values.double()), Modality.TEXT).values
    (out * torch.arange(WIDTH)).sum().backward()
    trained = {
        key
        for key, p in step.named_parameters()
        if p.grad is not None and p.grad.abs().max() > 1e-12
    }
    assert trained == {"key.weight", "score.weight"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dropout", {"p": 1.0}, r"p must be in \[0, 1\), found 1.0"),
        ("dropout", {"p": -0.1}, r"found -0.1"),
        ("linear", {"out": 0}, "out must be positive, found 0"),
        ("mlp", {"hidden": 0}, "positive"),
        ("mlp", {"dropout": 1.5}, r"\[0, 1\)"),
        ("transformer", {"heads": 3}, "heads must divide the width 8, found 3"),
        ("transformer", {"layers": 0}, "positive"),
        ("transformer", {"dropout": 1.0}, r"\[0, 1\)"),
        ("transformer", {"activation": "tanh"}, "found 'tanh'"),
        ("attention-pool", {"queries": 0}, "positive"),
        ("query-bridge", {"heads": 3}, "heads must divide out 8, found 3"),
        ("query-bridge", {"queries": 0}, "positive"),
        ("query-bridge", {"query_spread": 0.0}, "query_spread must be positive"),
        ("query-bridge", {"dropout": 1.0}, r"\[0, 1\)"),
        ("concat-pool", {"summaries": ("mean", "median")}, "summaries must be some of"),
        ("concat-pool", {"summaries": ("mean", "mean")}, "each once"),
        ("heads", {"heads": 0}, "out and heads must be positive"),
        ("hub-offset", {"bank": 0}, "bank and features must be positive, found 0 and 128"),
        ("hub-offset", {"features": 0}, "bank and features must be positive"),
        ("hub-offset", {"sharpness": 50.1}, r"sharpness must be in \(0, 50\], found 50.1"),
        ("hub-offset", {"limit": 0.0}, "limit must be positive, found 0.0"),
        ("heads", {"anchors": 4}, "anchors are of a solved head"),
        ("heads", {"solved": 1.0, "features": 4}, "features of one with anchors"),
        ("kernel-map", {"anchors": 2, "features": 9}, "features must be from 0 to the width 8"),
        ("heads", {"hidden": -1}, "hidden at least 0"),
        ("heads", {"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ("heads", {"solved": -0.5}, "solved must be at least 0"),
        ("centre", {"blocks": 3}, "blocks must divide the 8 features"),
        ("kernel-map", {"anchors": 0}, "out and anchors must be positive, found 6 and 0"),
        ("relative", {"top": 0}, "positive, found 6, 0 and 2.0"),
        ("relative", {"power": -1.0}, "positive, found 6, 800 and -1.0"),
        ("residual-mlp", {"blocks": 0}, "positive"),
        ("residual-mlp", {"dropout": -0.1}, r"\[0, 1\)"),
        ("star-mlp", {"expansion": 0}, "positive"),
        ("add-fusion", {"context": 0}, r"positive, found \[0, 64, 128, 8\]"),
    ],
)
def test_option_out_of_range_is_refused(name, options, message):
    with pytest.raises(SpecError, match=message):
        build(name, **options)


def test_dropout_drops_and_rescales_only_in_training():
    step = build("dropout", p=0.5)
    ones = Tokens(torch.ones(4, 50, WIDTH), torch.ones(4, 50, dtype=torch.bool))
    trained = step(ones, Modality.IMAGE).values
    assert set(trained.unique().tolist()) == {0.0, 2.0}
    assert step.eval()(ones, Modality.IMAGE).values.eq(1.0).all()


def test_the_arc_cosine_kernel_by_hand():
    """Lengths 2 and 3: 6 / pi at a right angle, 6 of equal, 0 of opposite ones, 0 of zeros."""
    x, anchors = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3], [3, 0], [-3, 0], [0, 0]])
    kernel = arc_cosine(x.double(), anchors.double())
    torch.testing.assert_close(kernel, torch.tensor([[6 / math.pi, 6.0, 0, 0]]).double())


def test_the_arc_cosine_kernel_is_that_of_many_random_rectified_features():
    """k(x, y) = 2 E[max(0, w x) max(0, w y)] over standard normal w; two million draws."""
    x, y = full(2, 1, seed=1).values[:, 0].double()
    draws = torch.randn(2_000_000, WIDTH, generator=torch.Generator().manual_seed(2)).double()
    expected = 2 * ((draws @ x).clamp(min=0) * (draws @ y).clamp(min=0)).mean()
    assert arc_cosine(x[None], y[None]).item() == pytest.approx(expected.item(), rel=5e-3)


def test_relative_keeps_powers_of_the_largest_cosines_by_hand():
    """Anchors at cosines 0.8, 0.6, 0.5 and -1, the two largest squared: 1 and 0.75^2 = 0.5625.

    As 0.64 and 0.36 they have that ratio. A token opposite to all anchors has no feature.
    """
    step = build("relative", anchors=4, top=2, power=2.0)
    step.anchors.zero_()
    for line, (cosine, sine) in enumerate([(0.8, 0.6), (0.6, 0.8), (0.5, 0.75**0.5), (-1, 0)]):
        step.anchors[line, :2] = torch.tensor([cosine, sine])
    values = torch.zeros(2, 1, WIDTH)
    values[0, 0, 0], values[1, 0, 1] = 3.0, -2.0
    found = step(Tokens(values, torch.ones(2, 1, dtype=torch.bool)), Modality.TEXT).values
    expected = torch.tensor([[1.0, 0.5625, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(found[:, 0], expected)


def test_mean_pool_averages_real_tokens_only():
    """Tokens 1, 3 and a padded 8: the mean is 2, and as published 4."""
    values = torch.tensor([1.0, 3.0, 8.0])[None, :, None].expand(1, 3, WIDTH)
    tokens = Tokens(values, torch.tensor([[True, True, False]]))
    assert build("mean-pool")(tokens, Modality.TEXT).values.unique().tolist() == [2.0]
    published = build("mean-pool", masked=False)(tokens, Modality.TEXT)
    assert published.values.unique().tolist() == [4.0]


def test_attention_pool_equals_its_formula():
    step = build("attention-pool", queries=2).double()
    torch.nn.init.normal_(step.queries)
    queries = step.queries.detach().numpy()
    tokens = full(rows=1, length=4)
    row = tokens.values[0].double().numpy()
    expected = np.zeros(WIDTH)
    for query in queries:
        weights = np.exp([query @ x / math.sqrt(WIDTH) for x in row])
        expected += (weights / weights.sum()) @ row / 2
    with torch.no_grad():
        found = step(tokens.with_values(tokens.values.double()), Modality.TEXT)
    np.testing.assert_allclose(found.values[0, 0].numpy(), expected, rtol=0, atol=1e-12)


def test_concat_pool_joins_its_summaries_of_real_tokens():
    """Tokens 1 and 3, and a padded 8: mean 2, maximum 3, minimum 1, deviation 1, first 1."""
    values = torch.tensor([1.0, 3.0, 8.0])[None, :, None].expand(1, 3, WIDTH)
    tokens = Tokens(values, torch.tensor([[True, True, False]]))
    step = build("concat-pool", summaries=("mean", "max", "min", "deviation", "cls"))
    found = step(tokens, Modality.TEXT).values[0, 0].reshape(5, WIDTH)
    torch.testing.assert_close(found[:, 0], torch.tensor([2.0, 3.0, 1.0, 1.0, 1.0]))
    assert (found == found[:, :1]).all()


def test_summaries_of_one_length_have_that_of_the_root_of_the_width():
    """Means (3, 4, 0, ...) have length 5 and become (3, 4, 0, ...) sqrt(8) / 5; so the maxima."""
    values = torch.zeros(1, 2, WIDTH)
    values[0, :, 0], values[0, :, 1] = torch.tensor([1.0, 5.0]), 4.0
    tokens = Tokens(values, torch.ones(1, 2, dtype=torch.bool))
    found = build("concat-pool", summaries=("mean", "max"), unit=True)(tokens, Modality.TEXT)
    mean, largest = found.values[0, 0].reshape(2, WIDTH)
    root = math.sqrt(WIDTH)
    torch.testing.assert_close(mean[:2], torch.tensor([3.0, 4.0]) * root / 5)
    torch.testing.assert_close(largest[:2], torch.tensor([5.0, 4.0]) * root / math.sqrt(41))


@pytest.mark.parametrize("hidden", [0, 5])
def test_heads_are_directions_and_the_solved_one_has_its_weight(hidden):
    """In float64 NumPy; each trained head has length 1, the solved one sqrt(0.5 * 2) of two."""
    step = build("heads", out=3, heads=2, hidden=hidden, dropout=0.0, solved=0.5).double().eval()
    x = full(rows=1, length=1).values[0, 0].double().numpy()
    weights = {name: value.numpy() for name, value in step.state_dict().items()}

    def mapped(name, row):
        return weights[f"{name}.weight"] @ row + weights[f"{name}.bias"]

    expected = []
    for number in range(2):
        row = mapped(f"heads.{number}.1", x)
        if hidden:
            row = mapped(f"heads.{number}.3", np.maximum(row, 0))
        expected.append(row / np.linalg.norm(row))
    solved = mapped("solved", x)
    expected.append(solved / np.linalg.norm(solved))
    tokens = full(rows=1, length=1)
    with torch.no_grad():
        found = step(tokens.with_values(tokens.values.double()), Modality.IMAGE).values[0, 0]
    np.testing.assert_allclose(found.numpy(), np.concatenate(expected), rtol=0, atol=1e-12)


def test_a_cosine_of_heads_is_the_mean_of_theirs_with_the_solved_ones():
    """With weight w of the solved head: (mean of two cosines + w times the third) / (1 + w)."""
    step = build("heads", out=3, heads=2, dropout=0.0, solved=2.0).eval()
    with torch.no_grad():
        first, second = step(full(rows=2, length=1), Modality.IMAGE).values[:, 0]
    whole = torch.nn.functional.cosine_similarity(first, second, dim=0)
    parts = [
        torch.nn.functional.cosine_similarity(one, other, dim=0)
        for one, other in zip(first.split(3), second.split(3), strict=True)
    ]
    torch.testing.assert_close(whole, ((parts[0] + parts[1]) / 2 + 2 * parts[2]) / 3)


def test_each_head_drops_features_of_its_own_and_the_solved_one_none():
    step = build("heads", out=WIDTH, heads=2, dropout=0.5, solved=1.0)
    with torch.no_grad():
        for linear in (step.heads[0][1], step.heads[1][1], step.solved):
            linear.weight.copy_(torch.eye(WIDTH))
            linear.bias.zero_()
        tokens = full(rows=1, length=1)
        first, second, solved = step(tokens, Modality.IMAGE).values[0, 0].reshape(3, WIDTH)
    assert 0 < (first == 0).sum() < WIDTH
    assert ((first == 0) != (second == 0)).any()
    direction = torch.nn.functional.normalize(tokens.values[0, 0], dim=0)
    torch.testing.assert_close(solved, direction * math.sqrt(2))


def test_a_solved_head_is_not_trained():
    trained = {name for name, p in build("heads", solved=1.0).named_parameters() if p.requires_grad}
    assert not any(name.startswith("solved") for name in trained)
    assert len(trained) == 6  # weight and bias of three heads


def test_centred_features_keep_their_sizes_relative_to_one_another():
    """Variances 1 and 9 of the first block have mean 5; the second block never varies."""
    step = STEPS.load("centre")(4, blocks=2)
    mean = torch.tensor([1.0, 2.0, 3.0, 4.0])
    step.fit(mean, torch.tensor([1.0, 9.0, 0.0, 0.0]))
    values = torch.tensor([[[2.0, 5.0, 3.0, 6.0]]])
    found = step(Tokens(values, torch.ones(1, 1, dtype=torch.bool)), Modality.IMAGE).values
    root = math.sqrt(5)
    torch.testing.assert_close(found[0, 0], torch.tensor([1 / root, 3 / root, 0.0, 2.0]))


def test_a_deviation_of_equal_tokens_has_a_finite_gradient():
    values = torch.ones(1, 3, WIDTH, requires_grad=True)
    tokens = Tokens(values, torch.ones(1, 3, dtype=torch.bool))
    build("concat-pool", summaries=("deviation",))(tokens, Modality.IMAGE).values.sum().backward()
    assert torch.isfinite(values.grad).all()


def test_the_first_token_is_the_cls_token():
    tokens = full(rows=2, length=3)
    found = build("cls-pool")(tokens, Modality.TEXT).values
    torch.testing.assert_close(found[:, 0], tokens.values[:, 0])


def test_star_mlp_equals_its_formula():
    step = build("star-mlp").double()
    weights = {name: value.numpy() for name, value in step.state_dict().items()}
    tokens = full(rows=1, length=2)
    expected = []
    for x in tokens.values[0].double().numpy():
        first = np.clip(weights["first.weight"] @ x + weights["first.bias"], 0, 6)
        second = weights["second.weight"] @ x + weights["second.bias"]
        expected.append(weights["project.weight"] @ (first * second) + weights["project.bias"])
    with torch.no_grad():
        found = step(tokens.with_values(tokens.values.double()), Modality.TEXT)
    np.testing.assert_allclose(found.values[0].numpy(), np.stack(expected), rtol=0, atol=1e-12)


def test_residual_mlp_equals_its_formula():
    step = build("residual-mlp", blocks=2, expansion=3).double().eval()
    tokens = full(rows=1, length=2)
    values = tokens.values.double()
    expected = values
    for block in step.blocks:
        normal = (expected - expected.mean(-1, keepdim=True)) / (
            expected.var(-1, unbiased=False, keepdim=True) + 1e-5
        ).sqrt()
        inner = normal @ block[1].weight.T + block[1].bias
        inner = inner / 2 * (1 + torch.erf(inner / 2**0.5))
        expected = expected + inner @ block[4].weight.T + block[4].bias
    with torch.no_grad():
        found = step(tokens.with_values(values), Modality.TEXT).values
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("positions", [0, 2, 9])
def test_query_bridge_is_the_decoder_of_pytorch_over_projected_tokens(norm_first, positions):
    step = build("query-bridge", norm_first=norm_first, positions=positions).double().eval()
    layer = torch.nn.TransformerDecoderLayer(
        8, 2, dim_feedforward=16, batch_first=True, norm_first=norm_first, dtype=torch.float64
    )
    norm = torch.nn.LayerNorm(8, dtype=torch.float64) if norm_first else None
    decoder = torch.nn.TransformerDecoder(layer, 2, norm=norm).eval()
    decoder.layers.load_state_dict(step.layers.state_dict())
    tokens = full(rows=2, length=3)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    memory = tokens.values.double() @ step.project.weight.T + step.project.bias
    for place in range(min(positions, 3)):
        memory[:, place] += step.positions[place]
    queries = step.queries.expand(2, -1, -1)
    expected = decoder(queries, memory, memory_key_padding_mask=~mask)
    found = step(Tokens(tokens.values.double(), mask), Modality.IMAGE).values
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_is_the_residual_around_the_encoder_of_pytorch(norm_first):
    step = build("transformer", layers=2, norm_first=norm_first).double().eval()
    template = torch.nn.TransformerEncoderLayer(
        WIDTH, 4, batch_first=True, norm_first=norm_first, dtype=torch.float64
    )
    encoder = torch.nn.TransformerEncoder(template, 2, enable_nested_tensor=False).eval()
    encoder.layers.load_state_dict(step.layers.state_dict())
    tokens = full(rows=2, length=3)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    values = tokens.values.double()
    normal = torch.nn.functional.layer_norm(values, (WIDTH,))
    expected = values + encoder(normal, src_key_padding_mask=~mask)
    found = step(Tokens(values, mask), Modality.TEXT).values
    torch.testing.assert_close(found[mask], expected[mask])


def test_transformer_layers_start_apart():
    first, second = build("transformer", layers=2).layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_unmasked_transformer_reads_padding():
    mask = torch.tensor([[True, True, False]])
    values = full(rows=1).values
    changed = values.clone()
    changed[0, 2, 0] += 3.0
    step = build("transformer", masked=False).eval()
    one = step(Tokens(values, mask), Modality.TEXT).values[mask]
    other = step(Tokens(changed, mask), Modality.TEXT).values[mask]
    assert (one - other).abs().max() > 1e-4


def unit_rows(rows):
    values = torch.zeros(len(rows), WIDTH)
    for at, (feature, value) in enumerate(rows):
        values[at, feature] = value
    return values


def test_a_hub_is_as_much_less_similar_as_by_hand():
    """Of a bank e_1, e_2: e_1 has log((e + 1) / 2) = 0.6201, -e_1 log((1/e + 1) / 2) = -0.3799."""
    rows = unit_rows([(0, 1.0), (0, -1.0)])
    images, texts = (build("hub-offset", bank=4, sharpness=1.0, limit=1.0).eval() for _ in range(2))
    images.fill(rows, unit_rows([(0, 3.0), (1, 0.5)]))
    texts.fill(rows, torch.zeros(1, WIDTH))  # a bank of no length: all offsets are alike
    first = images(Tokens(rows[:, None], torch.ones(2, 1, dtype=torch.bool)), Modality.IMAGE)
    second = texts(Tokens(rows[:1, None], torch.ones(1, 1, dtype=torch.bool)), Modality.TEXT)
    found = first.values[:, 0] @ second.values[0, 0]
    mean = (0.6201 - 0.3799) / 2
    expected = torch.tensor([1.0 - (0.6201 - mean), -1.0 - (-0.3799 - mean)])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    lengths = torch.cat([first.values, second.values]).norm(dim=2)
    torch.testing.assert_close(lengths, torch.full((3, 1), math.sqrt(3.0)))


def test_offsets_of_hubs_have_a_limit_and_directions_lose_nothing_where_all_are_there():
    random = torch.Generator().manual_seed(3)
    own, other = (torch.randn(30, WIDTH, generator=random) for _ in range(2))
    step = build("hub-offset", bank=20, sharpness=30.0, limit=0.05).double().eval()
    step.fill(own, other)
    tokens = Tokens(own.double()[:, None], torch.ones(30, 1, dtype=torch.bool))
    found = step(tokens, Modality.TEXT).values[:, 0].numpy()
    units, bank = (
        (rows / rows.norm(dim=1, keepdim=True)).double().numpy() for rows in (own, other)
    )
    values = np.log(np.exp(30 * units @ bank[:20].T).mean(axis=1)) / 30
    expected = np.clip(values - values.mean(), -0.05, 0.05)
    assert (np.abs(expected) == 0.05).any()
    np.testing.assert_allclose(found[:, WIDTH + 1], -expected / math.sqrt(0.05), atol=1e-6)
    np.testing.assert_allclose((found**2).sum(axis=1), 1 + 2 * 0.05, atol=1e-12)


def test_an_empty_bank_moves_no_cosine_of_a_row():
    rows = full(rows=3, length=1)
    steps = [build("hub-offset").eval() for _ in IMAGE_TEXT]
    images, texts = (
        step(rows, side).values[:, 0] for step, side in zip(steps, IMAGE_TEXT, strict=True)
    )
    units = torch.nn.functional.normalize(rows.values[:, 0], dim=1)
    found = images @ texts.T
    torch.testing.assert_close(found - found[0, 0], units @ units.T - 1, atol=1e-5, rtol=0)


def test_a_kernel_along_all_directions_is_the_kernel():
    """Turned by an orthogonal matrix, items and anchors keep lengths and angles."""
    rows = full(rows=9, length=1)
    whole, turned = (build("kernel-map", anchors=9, features=n).eval() for n in (0, WIDTH))
    for step in (whole, turned):
        step.set_anchors(rows.values[:, 0])
    turned.linear.load_state_dict(whole.linear.state_dict())
    expected, found = (step(rows, Modality.TEXT).values for step in (whole, turned))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_fewer_anchors_than_directions_leave_the_rest_at_zero():
    """Two items span two directions; a third would be noise divided by a length of none."""
    step = build("kernel-map", anchors=9, features=4)
    step.set_anchors(unit_rows([(0, 2.0), (3, 1.0)]))
    expected = torch.zeros(4, WIDTH)
    expected[0, 0] = expected[1, 3] = 1.0
    torch.testing.assert_close(step.directions.abs(), expected)
    assert step.anchors[:2].abs().sum() == 3.0
    assert not step.anchors[2:].any()
