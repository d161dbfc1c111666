"""The joint adapter: VLE's fusion against NumPy and against VLE itself, rows alone and together."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightalign.adapters.adapter import count_parameters
from lightalign.adapters.joint_adapter import (
    Boxes,
    JointAdapter,
    build_joint_adapter,
    outline_joint_adapter,
)
from lightalign.adapters.preset import JOINT, list_presets, read_preset
from lightalign.featcache.config import apply_overrides
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import Modality

from ..helpers import slow
from . import joint_numpy, originals

IMAGE, TEXT = Modality.IMAGE, Modality.TEXT
WIDTHS = {IMAGE: 10, TEXT: 6}
PATCHES, BOXES, WORDS = 5, 2, 7
LENGTHS = (7, 2, 4)
SMALL = (
    "joint.fuse.layers=2",
    "joint.fuse.heads=4",
    "joint.fuse.feedforward=40",
    "towers.both.project.out=24",
)
SMALL_BRIDGE = (
    *(option for option in SMALL if option.startswith("joint.")),
    "towers.text.project.out=24",
    "towers.image.project.out=24",
    "towers.image.project.heads=4",
    "towers.image.project.queries=3",
    "towers.image.project.feedforward=20",
    "towers.image.project.layers=1",
    "towers.image.project.positions=4",
)
SMALL_MLP = (
    "towers.both.project.out=24",
    "towers.both.project.hidden=20",
    "towers.both.mix.feedforward=30",
    "heads.answers.hidden=16",
)
SMALLER = {
    **{name: SMALL for name in list_presets(JOINT)},
    "lightalign/joint-small": SMALL_BRIDGE,
    "oneencoder/vqa": SMALL_MLP,
    "oneencoder/vqa-corrected": SMALL_MLP,
}
VLE = ("vle/base", "vle/large", "vle/small", "vle/vqa")
PADDING_COUNTS = ("oneencoder/vqa",)  # as published
# one preset of each design, and its siblings when asked for
DESIGNS = ["vle/base", "lightalign/joint-small", "oneencoder/vqa", "oneencoder/vqa-corrected"]
DESIGNS_FIRST = [*DESIGNS, *slow(*(name for name in list_presets(JOINT) if name not in DESIGNS))]
VLE_FIRST = ["vle/base", *slow(*VLE[1:])]


def build(name, *overrides, widths=WIDTHS, answers=3):
    """Return a preset's joint adapter in float64, with weights that are drawn by their names."""
    table = apply_overrides(read_preset(name), overrides)
    if name in VLE:  # both heads, whatever is trained
        table["objective"] = {"itm": {}, "answers": {}}
    adapter = build_joint_adapter(table, widths=widths, listed={"answers": answers}, seed=0)
    adapter = adapter.double().eval()
    adapter.load_state_dict(
        {key: originals.drawn(key, tuple(v.shape)) for key, v in adapter.state_dict().items()}
    )
    return adapter


def inputs(widths=WIDTHS, lengths=LENGTHS, garbage=math.nan, words=WORDS, patches=PATCHES):
    """Return tokens of rows, with garbage at the padding of texts."""
    random = np.random.default_rng(1)
    rows = len(lengths)
    text = torch.from_numpy(random.standard_normal((rows, words, widths[TEXT])))
    image = torch.from_numpy(random.standard_normal((rows, patches, widths[IMAGE])))
    mask = torch.arange(words) < torch.tensor(lengths)[:, None]
    text = torch.where(mask[:, :, None], text, garbage)
    whole = torch.ones(rows, patches, dtype=torch.bool)
    return {IMAGE: Tokens(image, whole), TEXT: Tokens(text, mask)}


def numpy_rows(tokens, types=None, boxes=None):
    """Return the same rows for NumPy, each with its real tokens and boxes alone."""
    rows = []
    for i in range(len(tokens[TEXT])):
        real = tokens[TEXT].mask[i]
        covers = () if boxes is None else boxes[IMAGE].coverage[i][boxes[IMAGE].mask[i]]
        rows.append(
            joint_numpy.Row(
                text=tokens[TEXT].values[i][real].numpy(),
                image=tokens[IMAGE].values[i].numpy(),
                types=None if types is None else types[TEXT][i][real].tolist(),
                boxes=tuple(cover.numpy() for cover in covers),
            )
        )
    return rows


def boxes_of(rows, patches=PATCHES, *, seed=2):
    """Return two slots a row: both used, the first alone, none."""
    random = np.random.default_rng(seed)
    coverage = torch.from_numpy(random.random((rows, BOXES, patches)))
    coverage[:, :, 0] = 0.0  # CLS
    mask = torch.tensor([[True, True], [True, False], [False, False]])[:rows]
    coverage[~mask] = math.nan  # is not looked at
    return {IMAGE: Boxes(coverage, mask)}


TYPES = torch.tensor([[0, 2, 2, 0, 3, 0, 0], [0, 2, 99, 99, 99, 99, 99], [0] * 4 + [-1] * 3])


def assert_equal(adapter, tokens, types=None, boxes=None):
    with torch.no_grad():
        joint = adapter(tokens, types, boxes)
        logits = adapter.logits(joint)
    fuse = adapter.steps["fuse"]
    stack = fuse.stacks["image"]
    original = joint_numpy.Vle(adapter.state_dict(), layers=len(stack), heads=stack[0].to_own.heads)
    for i, row in enumerate(numpy_rows(tokens, types, boxes)):
        fused = original(row)
        for side, expected in ((TEXT, fused.text), (IMAGE, fused.image)):
            of_side = joint.tokens[side]
            np.testing.assert_allclose(
                of_side.values[i][of_side.mask[i]].numpy(), expected, rtol=0, atol=1e-6
            )
        np.testing.assert_allclose(joint.pooled[i].numpy(), fused.pooled, rtol=0, atol=1e-6)
        for head, scores in (("itm", original.itm), ("answers", original.answers)):
            np.testing.assert_allclose(
                logits[head][i].numpy(), scores(fused.pooled), rtol=0, atol=1e-6
            )


@pytest.mark.parametrize("name", VLE_FIRST)
def test_vle_equals_numpy_with_padding(name):
    assert_equal(build(name, *SMALL), inputs())


@pytest.mark.parametrize("name", VLE_FIRST)
def test_vle_equals_numpy_with_boxes_and_types(name):
    adapter = build(name, *SMALL, "joint.types.count=4")
    assert_equal(adapter, inputs(), {TEXT: TYPES}, boxes_of(3))


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("vle/small", {IMAGE: 1280, TEXT: 384}),
        *slow(("vle/base", {IMAGE: 1280, TEXT: 384}), ("vle/large", {IMAGE: 1024, TEXT: 1024})),
    ],
)
def test_vle_equals_numpy_at_full_size(name, widths):
    adapter = build(name, "joint.types.count=4", widths=widths)
    assert_equal(adapter, inputs(widths), {TEXT: TYPES}, boxes_of(3))


# What `VLEModel` of iflytek/VLE, commit e322bb9, and the blocks of BERT that it takes from
# transformers 4.26 gave in float64 for two rows with the weights that `originals.drawn` draws by
# our names: 8 features, 2 layers, 2 heads, 12 features between matrices, 4 token types.
VLE_POOLED = [
    [0.5550330811, 0.9294085906, 0.9619958638, -0.9702949815],
    [0.3876219708, 0.4654245744, -0.0624994659, 0.2996917946],
    [0.1630261240, 0.9493442553, -0.6117134834, 0.5972302196],
    [-0.8034620006, 0.0877488530, -0.9251474992, -0.5444254565],
    [-0.3730450758, 0.8170051208, 0.8609334963, -0.9765041298],
    [0.2540349164, 0.2656615571, -0.6597174504, 0.7303814049],
    [0.0402920856, 0.9559670688, -0.0999035816, 0.6752413272],
    [-0.9601778011, -0.2652252360, -0.8684152466, -0.4395160439],
]  # four lines a row
VLE_ITM = [[-1.6352502849, -0.3277372251], [-0.6213288619, -0.1232020528]]
VLE_ANSWERS = [
    [0.1647329534, -0.3479330025, -0.0488010422],
    [0.2981761271, -0.2078486128, 0.0129170014],
]
TINY = (
    "joint.fuse.layers=2",
    "joint.fuse.heads=2",
    "joint.fuse.feedforward=12",
    "towers.both.project.out=8",
    "joint.types.count=4",
)


def test_vle_gives_what_its_own_modules_gave():
    """Boxes cover patches 1 and 2, then 4, and in the second row patch 3 alone."""
    coverage = torch.zeros(2, 2, 5, dtype=torch.float64)
    coverage[0, 0, 1:3] = coverage[0, 1, 4] = coverage[1, 0, 3] = 1.0
    boxes = Boxes(coverage, torch.tensor([[True, True], [True, False]]))
    types = torch.tensor([[0, 2, 3, 0], [0, 2, 0, 0]])
    adapter = build("vle/base", *TINY)
    with torch.no_grad():
        joint = adapter(inputs(lengths=(4, 2), words=4), {TEXT: types}, {IMAGE: boxes})
        logits = adapter.logits(joint)
    for values, expected in (
        (joint.pooled.reshape(8, 4), VLE_POOLED),
        (logits["itm"], VLE_ITM),
        (logits["answers"], VLE_ANSWERS),
    ):
        np.testing.assert_allclose(values.numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", DESIGNS_FIRST)
@settings(max_examples=5, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    garbage=st.sampled_from([math.nan, math.inf, -1e30]),
    extra=st.integers(0, 2),
)
def test_a_row_depends_on_neither_batch_mates_nor_padding(name, lengths, garbage, extra):
    if name in PADDING_COUNTS:
        lengths, extra = [lengths[0]] * len(lengths), 0
    adapter = build(name, *SMALLER[name])
    tokens = inputs(lengths=tuple(lengths), garbage=garbage, words=max(lengths) + extra)
    with torch.no_grad():
        together = adapter(tokens)
        for i, length in enumerate(lengths):
            alone = {
                IMAGE: Tokens(tokens[IMAGE].values[i : i + 1], tokens[IMAGE].mask[i : i + 1]),
                TEXT: Tokens(
                    tokens[TEXT].values[i : i + 1, :length], tokens[TEXT].mask[i : i + 1, :length]
                ),
            }
            joint = adapter(alone)
            torch.testing.assert_close(joint.pooled[0], together.pooled[i], rtol=0, atol=1e-9)
            text = together.tokens[TEXT]
            torch.testing.assert_close(
                joint.tokens[TEXT].values[0], text.values[i][text.mask[i]], rtol=0, atol=1e-9
            )


@pytest.mark.parametrize(
    ("name", "least", "most"), [("oneencoder/vqa", 1e-3, 10), ("oneencoder/vqa-corrected", 0, 1e-9)]
)
def test_padding_counts_as_published_and_not_in_the_twin(name, least, most):
    adapter = build(name, *SMALL_MLP)
    padded = inputs(lengths=(3,), words=6)
    text = padded[TEXT]
    cut = {**padded, TEXT: Tokens(text.values[:, :3], text.mask[:, :3])}
    with torch.no_grad():
        far = float((adapter(padded).pooled - adapter(cut).pooled).abs().max())
    assert least <= far <= most


def test_padded_image_tokens_are_no_keys():
    adapter = build("vle/base", *SMALL)
    tokens = inputs()
    short = tokens[IMAGE].mask.clone()
    short[1, 3:] = False
    with torch.no_grad():
        padded = adapter({**tokens, IMAGE: Tokens(tokens[IMAGE].values, short)})
        rows = {side: of_side.take(torch.tensor([1])) for side, of_side in tokens.items()}
        rows[IMAGE] = Tokens(rows[IMAGE].values[:, :3], rows[IMAGE].mask[:, :3])
        cut = adapter(rows)
    torch.testing.assert_close(padded.pooled[1:2], cut.pooled, rtol=0, atol=1e-12)


def test_a_box_is_the_mean_of_what_it_covers_by_hand():
    """(0, 0), (2, 4), (6, 8) with weights 0, 1 and 0.5: (5 / 1.5, 8 / 1.5)."""
    values = torch.tensor([[[0.0, 0.0], [2.0, 4.0], [6.0, 8.0]]])
    tokens = Tokens(values, torch.ones(1, 3, dtype=torch.bool))
    coverage = torch.tensor([[[0.0, 1.0, 0.5], [0.0, 0.0, 0.0]]])
    boxes = Boxes(coverage, torch.tensor([[True, True]])).tokens_of(tokens)
    torch.testing.assert_close(boxes.values[0, 0], torch.tensor([5 / 1.5, 8 / 1.5]))
    assert boxes.mask.tolist() == [[True, False]]  # what covers nothing is an empty slot
    assert torch.isfinite(boxes.values).all()


def test_boxes_that_are_not_there_change_nothing():
    adapter = build("vle/base", *SMALL, "joint.types.count=4")
    empty = Boxes(torch.rand(3, BOXES, PATCHES).double(), torch.zeros(3, BOXES, dtype=torch.bool))
    with torch.no_grad():
        without, with_boxes = adapter(inputs()), adapter(inputs(), boxes={IMAGE: empty})
    torch.testing.assert_close(with_boxes.pooled, without.pooled, rtol=0, atol=1e-12)
    assert with_boxes.tokens[IMAGE].mask[:, PATCHES:].sum() == 0


def test_types_of_boxes_may_be_given():
    adapter = build("vle/base", *SMALL, "joint.types.count=4")
    boxes = boxes_of(3)[IMAGE]
    usual = torch.tensor([[2, 3], [2, 77], [77, 77]])  # 77 in empty slots is not looked up
    swapped = torch.tensor([[3, 2], [3, 0], [0, 0]])
    with torch.no_grad():
        first = adapter(inputs(), boxes={IMAGE: boxes}).pooled
        same = adapter(inputs(), boxes={IMAGE: Boxes(boxes.coverage, boxes.mask, usual)}).pooled
        other = adapter(inputs(), boxes={IMAGE: Boxes(boxes.coverage, boxes.mask, swapped)}).pooled
    torch.testing.assert_close(first, same, rtol=0, atol=0)
    moved = (first - other).abs().amax(dim=1)
    assert (moved[:2] > 1e-4).all()
    assert moved[2] < 1e-12


@pytest.mark.parametrize("name", DESIGNS_FIRST)
def test_gradients_are_those_of_finite_differences(name):
    """An entry of each parameter, by central differences of a loss of all outputs."""
    overrides = [] if name not in VLE else ["joint.types.count=4", "joint.fuse.layers=1"]
    adapter = build(name, *SMALLER[name], *overrides)
    tokens = inputs()
    extra = {} if name not in VLE else {"types": {TEXT: TYPES}, "boxes": boxes_of(3)}

    def loss():
        joint = adapter(tokens, **extra)
        outputs = [joint.pooled, *adapter.logits(joint).values()]
        return sum((each * torch.linspace(-1, 1, each.shape[1])).sum() for each in outputs)

    loss().backward()
    random = np.random.default_rng(3)
    step = 1e-6
    for key, parameter in adapter.named_parameters():
        flat = parameter.data.view(-1)
        place = int(random.integers(flat.numel()))
        value = float(flat[place])
        with torch.no_grad():
            flat[place] = value + step
            above = float(loss())
            flat[place] = value - step
            below = float(loss())
            flat[place] = value
        expected = (above - below) / (2 * step)
        gradient = 0.0 if parameter.grad is None else float(parameter.grad.view(-1)[place])
        assert gradient == pytest.approx(expected, rel=1e-5, abs=1e-6), key


def test_padding_gets_no_gradient():
    tokens = inputs(garbage=7.0)
    values = tokens[TEXT].values.requires_grad_()
    adapter = build("vle/base", *SMALL)
    adapter({**tokens, TEXT: Tokens(values, tokens[TEXT].mask)}).pooled.sum().backward()
    assert (values.grad[~tokens[TEXT].mask] == 0).all()
    assert (values.grad[tokens[TEXT].mask].abs().sum(dim=1) > 0).all()


def test_equal_seeds_give_equal_weights_and_the_global_generator_is_left_alone():
    table = apply_overrides(read_preset("vle/base"), SMALL)
    before = torch.get_rng_state()
    first, second, other = (
        build_joint_adapter(table, widths=WIDTHS, seed=seed).state_dict() for seed in (5, 5, 6)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["vle/base", "vle/small"])
def test_vle_starts_as_bert_does(name):
    """Matrices and embeddings from N(0, 0.02), biases at zero, norms at one."""
    table = apply_overrides(read_preset(name), SMALL)
    table["objective"] = {"itm": {}, "answers": {}}
    widths = {IMAGE: 96, TEXT: 96}
    adapter = build_joint_adapter(table, widths=widths, listed={"answers": 40}, seed=0)
    for key, parameter in adapter.named_parameters():
        values = parameter.detach()
        if values.ndim == 2:
            assert float(values.std()) == pytest.approx(0.02, rel=0.25), key
            assert abs(float(values.mean())) < 0.004, key
        else:
            assert values.unique().tolist() == [float(key.endswith("weight"))], key


@pytest.mark.parametrize("name", list_presets(JOINT))
def test_an_outline_has_the_names_and_shapes_of_the_joint_adapter(name):
    table = apply_overrides(read_preset(name), SMALLER[name])
    built, outline = (
        make(table, widths=WIDTHS, listed={"answers": 3}, **seed)
        for make, seed in ((build_joint_adapter, {"seed": 0}), (outline_joint_adapter, {}))
    )
    assert isinstance(built, JointAdapter)
    shapes = [{k: v.shape for k, v in each.state_dict().items()} for each in (built, outline)]
    assert shapes[0] == shapes[1]
    assert all(value.is_meta for value in outline.state_dict().values())


def test_only_heads_that_an_objective_reads_are_built():
    table = apply_overrides(read_preset("vle/base"), SMALL)
    adapter = build_joint_adapter(table, widths=WIDTHS, seed=0)
    assert list(adapter.heads) == ["itm"]
    assert count_parameters(adapter.heads) == 2 * 48 + 2
    with pytest.raises(SpecError, match=r"no head 'answers', its heads are \['itm'\]"):
        adapter.logits(adapter({side: t for side, t in float_inputs().items()}), ["answers"])


def float_inputs():
    tokens = inputs(garbage=0.0)
    return {side: of_side.with_values(of_side.values.float()) for side, of_side in tokens.items()}


def test_half_precision_features_are_read_in_the_weights_precision():
    table = apply_overrides(read_preset("vle/base"), SMALL)
    adapter = build_joint_adapter(table, widths=WIDTHS, seed=0).eval()
    halves = {s: t.with_values(t.values.half()) for s, t in float_inputs().items()}
    assert adapter(halves).pooled.dtype == torch.float32
    boxes = boxes_of(3)[IMAGE]
    boxes = {IMAGE: Boxes(boxes.coverage.float(), boxes.mask, torch.ones(3, BOXES).long())}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = adapter(halves, boxes=boxes).pooled
    torch.testing.assert_close(
        rounded.float(), adapter(halves, boxes=boxes).pooled, atol=0.1, rtol=0
    )


def test_dropout_is_there_in_training_alone():
    table = apply_overrides(read_preset("vle/base"), SMALL)
    adapter = build_joint_adapter(table, widths=WIDTHS, seed=0)
    tokens = float_inputs()
    torch.manual_seed(0)
    assert not torch.equal(adapter(tokens).pooled, adapter(tokens).pooled)
    adapter.eval()
    assert torch.equal(adapter(tokens).pooled, adapter(tokens).pooled)


def small_table(**changes):
    table = apply_overrides(read_preset("vle/base"), SMALL)
    return {**table, **changes}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"joint": {}}, SpecError, r"\[joint\] of a joint preset must be a table, found {}"),
        ({"heads": None}, SpecError, r"\[heads\] of a joint preset must be a table, found None"),
        ({"towers": {"image": {}}}, SpecError, r"\[towers\] must hold either 'both'"),
        (
            {"joint": {"fuse": {"part": "co-attention", "heads": 4}}},
            SpecError,
            r"\[joint\] must end in a pool",
        ),
        (
            {
                "joint": {
                    "fuse": {"part": "co-attention", "heads": 5},
                    "pool": {"part": "mean-pool"},
                }
            },
            SpecError,
            r"\[joint\].fuse \(co-attention\): heads must divide the width 24, found 5",
        ),
        (
            {"joint": {"fuse": {"part": "co-atention"}}},
            UnknownNameError,
            r"no joint step named 'co-atention'; close: \['co-attention'\]",
        ),
        ({"joint": {"fuse": {}}}, SpecError, r"\[joint\].fuse must name its part"),
        (
            {"joint": {"pool": {"part": "tanh-pool", "size": 3}}},
            SpecError,
            r"\[joint\].pool \(tanh-pool\): unknown key 'size'",
        ),
        (
            {"heads": {"answers": {"part": "answers"}}},
            SpecError,
            r"\[objective\].itm reads the head 'itm', \[heads\] has \['answers'\]",
        ),
        (
            {
                "towers": {
                    "both": {
                        "project": {"part": "linear", "out": 24, "per_modality": True},
                        "centre": {"part": "centre"},
                    }
                }
            },
            SpecError,
            "the step 'both/centre' is fitted to training rows",
        ),
        ({"objective": {"itn": {}}}, UnknownNameError, "no joint objective named 'itn'"),
        (
            {"objective": {"answers": {}}},
            SpecError,
            r"\[heads\].answers \(answers\) has an output for each answer of a list",
        ),
        ({"heads": {"itm": {"part": "itn"}}}, UnknownNameError, "no head named 'itn'"),
        ({"heads": {"itm": {"part": "itm", "spread": 0.0}}}, SpecError, "spread must be positive"),
    ],
)
def test_wrong_tables_are_refused_with_the_place_and_the_reason(changes, error, message):
    with pytest.raises(error, match=message) as caught:
        build_joint_adapter(small_table(**changes), widths=WIDTHS, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [10**9, 2**31 - 1])
def test_a_table_of_huge_numbers_is_refused_before_anything_is_allocated(number):
    joint = {
        "fuse": {"part": "co-attention", "heads": 4, "feedforward": number},
        "pool": {"part": "mean-pool"},
    }
    with pytest.raises(SpecError, match=r"of memory are free|a size is too large"):
        build_joint_adapter(small_table(joint=joint), widths=WIDTHS, seed=0)
    joint["fuse"] = {"part": "co-attention", "heads": 4, "layers": number}
    with pytest.raises(SpecError, match="layers must be at most 1,000"):
        build_joint_adapter(small_table(joint=joint), widths=WIDTHS, seed=0)


@pytest.mark.parametrize(
    ("given_to", "message"),
    [
        ({"types": {TEXT: torch.full((3, WORDS), 2)}}, r"from 0 to 1, found 0 to 2"),
        ({"types": {TEXT: torch.full((3, WORDS), -1)}}, r"from 0 to 1, found -1 to 0"),
        ({"types": {TEXT: torch.zeros(3, 2).long()}}, r"must be \(3, 7\) behind its tower"),
        ({"boxes": boxes_of(3)}, r"2 boxes a row need 4 token types, the joint adapter has 2"),
        ({"boxes": boxes_of(3, patches=4)}, r"must cover the 5 image tokens of each of 3 rows"),
    ],
)
def test_types_and_boxes_that_do_not_fit_are_refused(given_to, message):
    adapter = build("vle/base", *SMALL)
    with pytest.raises(SpecError, match=message):
        adapter(inputs(), **given_to)


def test_boxes_behind_a_bridge_are_refused_and_so_are_types_without_a_step_that_reads_them():
    bridged = build("lightalign/joint-small", *SMALL_BRIDGE, "joint.types.count=4")
    with pytest.raises(SpecError, match="must cover the 3 image tokens"):
        bridged(inputs(), boxes=boxes_of(3))
    typeless = build("oneencoder/vqa", *SMALL_MLP)
    with pytest.raises(SpecError, match="tells no token types apart"):
        typeless(inputs(), boxes=boxes_of(3))


def test_tokens_that_do_not_fit_are_refused():
    adapter = build("vle/base", *SMALL)
    tokens = inputs()
    wide = tokens[TEXT].with_values(torch.zeros(3, WORDS, 9).double())
    with pytest.raises(SpecError, match="reads text tokens of width 6, found 9"):
        adapter({**tokens, TEXT: wide})
    fewer = tokens[TEXT].take(torch.tensor([0, 1]))
    with pytest.raises(SpecError, match="a row is an item of each side, found"):
        adapter({**tokens, TEXT: fewer})


@pytest.mark.parametrize(("side", "label"), [(IMAGE, "image"), (TEXT, "text")])
def test_a_side_that_is_not_there_is_refused(side, label):
    adapter = build("vle/base", *SMALL)
    tokens = inputs()
    alone = {other: of_side for other, of_side in tokens.items() if other is not side}
    with pytest.raises(SpecError, match=f"reads images and texts together, found no {label} token"):
        adapter(alone)


def test_a_side_that_it_does_not_know_is_refused():
    adapter = build("vle/base", *SMALL)
    tokens = inputs()
    with pytest.raises(SpecError, match="reads images and texts, found audio"):
        adapter({**tokens, Modality("audio"): tokens[IMAGE]})
    with pytest.raises(SpecError, match="found audio"):
        adapter(tokens, {Modality("audio"): TYPES})
