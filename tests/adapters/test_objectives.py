"""The objectives: the contrastive loss against NumPy, by hand and at its edges."""

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lightalign.adapters import blocks
from lightalign.adapters.adapter import count_parameters
from lightalign.adapters.objective import (
    OBJECTIVES,
    PairBatch,
    QueuedNegatives,
    TeacherFeatures,
    build_objective,
)
from lightalign.adapters.objectives import siglip
from lightalign.adapters.positives import Positives
from lightalign.featcache.errors import SpecError, UnknownNameError


def embeddings(rows, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, 5, generator=generator, dtype=dtype), dim=1)


def identity_batch(rows, dtype=torch.float64):
    positives = torch.eye(rows, dtype=torch.bool)
    teacher = TeacherFeatures(embeddings(rows, 5, dtype), embeddings(rows, 6, dtype))
    pair = embeddings(rows, 0, dtype), embeddings(rows, 1, dtype)
    return PairBatch(*pair, positives, teacher=teacher)


def contrast(logits, positives, smoothing):
    """One direction, row by row: -sum_j target_j log softmax_j, averaged over the rows."""
    losses = []
    for row, own in zip(logits, positives, strict=True):
        log_softmax = row - np.log(sum(np.exp(value) for value in row))
        target = [(1 - smoothing) * p / sum(own) + smoothing / len(row) for p in own]
        losses.append(-sum(t * value for t, value in zip(target, log_softmax, strict=True)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_objective_takes_keyword_options_and_gives_a_scalar_with_gradient(name):
    parameters = inspect.signature(OBJECTIVES.load(name)).parameters.values()
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters)
    batch = identity_batch(4, torch.float32)
    image = batch.first.requires_grad_()
    loss = build_objective({"part": name})(batch)
    loss.total.backward()
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().max() > 0
    assert not any(part.requires_grad for part in loss.parts.values())


def with_old(batch, negative):
    """Return the batch with six remembered images and texts, all of them negatives or none."""
    dtype = batch.first.dtype
    mask = torch.full((len(batch.first), 6), negative)
    old = QueuedNegatives(embeddings(6, 7, dtype), embeddings(6, 8, dtype), mask, mask)
    return replace(batch, remembered=old)


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_old_embeddings_that_are_no_negatives_change_nothing(name):
    batch = identity_batch(4)
    objective = build_objective({"part": name}).double()
    totals = [objective(one).total.item() for one in (batch, with_old(batch, False))]
    assert totals[1] == pytest.approx(totals[0], rel=1e-12)
    assert objective(with_old(batch, True)).total.item() > totals[0]


def test_an_old_text_at_cosine_zero_is_a_term_of_the_softmax_by_hand():
    """Two orthogonal pairs in three dimensions, scale 1, and an old pair along the third.

    Each softmax is e / (e + 1 + 1), so clip loses log(1 + 2/e) = 0.551445. In siglip, bias 0, each
    of the four items has log 2 more, halved over two images and over two texts: 1.006409 + log 2.
    """
    eye = torch.eye(3)
    mask = torch.ones(2, 1, dtype=torch.bool)
    old = QueuedNegatives(eye[2:], eye[2:], mask, mask)
    batch = PairBatch(eye[:2], eye[:2], torch.eye(2, dtype=torch.bool), old)
    clip = build_objective({"part": "clip", "scale_init": 1.0})
    assert clip(batch).total.item() == pytest.approx(math.log(1 + 2 / math.e), abs=1e-6)
    siglip = build_objective({"part": "siglip", "scale_init": 1.0, "bias_init": 0.0})
    expected = math.log(1 + 1 / math.e) + 2 * math.log(2)
    assert siglip(batch).total.item() == pytest.approx(expected, abs=1e-6)


def test_smoothing_spreads_over_the_batch_whatever_is_remembered():
    clip = build_objective({"part": "clip", "label_smoothing": 0.1}).double()
    batch = identity_batch(4)
    found = [clip(one).total.item() for one in (batch, with_old(batch, False))]
    assert found[1] == pytest.approx(found[0], rel=1e-12)


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize(
    "table", [{"part": "clip", "label_smoothing": 0.1}, {"part": "siglip"}], ids=["clip", "siglip"]
)
def test_a_large_batch_has_the_loss_and_the_gradient_of_one_block(table, queued, monkeypatch):
    found = []
    build_objective(table)  # whose module would keep the patched number
    for block in (100, 30):  # all at once, and two to six rows at a time, the last ones fewer
        monkeypatch.setattr(blocks, "MOST_LOGITS", block)
        monkeypatch.setattr(siglip, "MOST_LOGITS", block)
        monkeypatch.setattr(siglip, "_CACHED_LOGITS", 15)
        objective = build_objective(table).double()
        image, text = (embeddings(rows, seed).requires_grad_() for rows, seed in ((5, 1), (7, 2)))
        positives = torch.arange(7)[None, :] % 5 == torch.arange(5)[:, None]
        batch = PairBatch(image, text, positives)
        if queued:
            masks = (torch.arange(6) % 5 != torch.arange(rows)[:, None] for rows in (5, 7))
            old = QueuedNegatives(embeddings(6, 7), embeddings(6, 8), *masks)
            batch = replace(batch, remembered=old)
        loss = objective(batch)
        loss.total.backward()
        numbers = [parameter.grad for parameter in objective.parameters()]
        found.append([loss.total, *loss.parts.values(), image.grad, text.grad, *numbers])
    for whole, in_blocks in zip(*found, strict=True):
        torch.testing.assert_close(whole, in_blocks, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("texts", [1, 5])
def test_targets_as_pairs_give_the_bits_of_dense_ones(texts):
    logits = 20 * torch.randn(37, 37 * texts, generator=torch.Generator().manual_seed(texts))
    mask = torch.arange(37 * texts)[None] // texts == torch.arange(37)[:, None]
    objective = build_objective({"part": "clip"})
    dense, pairs = (logits.clone().requires_grad_() for _ in range(2))
    losses = (
        functional.cross_entropy(dense, mask / mask.sum(dim=1, keepdim=True)),
        objective._contrast(pairs, Positives.of(mask), None),
    )
    for loss in losses:
        (0.37 * loss).backward()
    assert torch.equal(*losses)
    assert torch.equal(dense.grad, pairs.grad)


@pytest.mark.parametrize("shift", [-40.0, 0.0, 90.0])
def test_the_softplus_of_blocks_is_that_of_torch(shift):
    values = torch.linspace(-20, 20, 999, dtype=torch.float32)[None] + shift
    expected = torch.logaddexp(values.double(), torch.zeros(()))
    found = siglip._softplus(values.clone(), [*torch.empty(2, *values.shape)]).double()
    torch.testing.assert_close(found, expected, rtol=3e-7, atol=0.0)


def test_two_orthogonal_pairs_by_hand():
    """All four rows of logits are (1, 0) or (0, 1): each loses log(1 + 1/e) = 0.31326."""
    eye = torch.eye(2)
    clip = build_objective({"part": "clip", "scale_init": 1.0})
    loss = clip(PairBatch(eye, eye, eye.bool()))
    assert loss.total.item() == pytest.approx(0.3132617, abs=1e-6)
    assert loss.parts["scale"].item() == pytest.approx(1.0)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    extra=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=3),
    smoothing=st.sampled_from([0.0, 0.1]),
    scale=st.sampled_from([1.0, 14.2857, 100.0]),
)
def test_loss_equals_numpy_for_any_positives(counts, extra, smoothing, scale):
    owners = np.repeat(np.arange(len(counts)), counts)  # caption -> image
    positives = np.arange(len(counts))[:, None] == owners[None, :]
    for i, j in extra:  # captions of several images
        positives[i % len(counts), j % len(owners)] = True
    image, text = embeddings(len(counts), 2), embeddings(len(owners), 3)
    clip = build_objective(
        {"part": "clip", "scale_init": scale, "label_smoothing": smoothing}
    ).double()
    loss = clip(PairBatch(image, text, torch.from_numpy(positives)))
    logits = clip.log_scale.exp().item() * image.numpy() @ text.numpy().T
    forward = contrast(logits, positives, smoothing)
    backward = contrast(logits.T, positives.T, smoothing)
    assert loss.parts["image_to_text"].item() == pytest.approx(forward, abs=1e-9)
    assert loss.parts["text_to_image"].item() == pytest.approx(backward, abs=1e-9)
    assert loss.total.item() == pytest.approx((forward + backward) / 2, abs=1e-9)


def test_one_positive_a_row_is_the_cross_entropy_of_clip():
    batch = identity_batch(6)
    clip = build_objective({"part": "clip"}).double()
    logits = clip.log_scale.exp() * batch.first @ batch.second.T
    target = torch.arange(6)
    expected = (
        functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    ) / 2
    torch.testing.assert_close(clip(batch).total, expected)


def test_captions_of_one_image_do_not_repel_each_other():
    """One image, two captions at cosine 0.6: the loss is at its floor and all gradients are zero.

    image -> text: softmax (1/2, 1/2) equals the target, loss log 2. text -> image: one column,
    loss 0. Were one caption the other's negative, it would be pushed away.
    """
    image = torch.tensor([[1.0, 0.0]], requires_grad=True)
    text = torch.tensor([[0.6, 0.8], [0.6, -0.8]], requires_grad=True)
    clip = build_objective({"part": "clip"})
    loss = clip(PairBatch(image, text, torch.ones(1, 2, dtype=torch.bool)))
    loss.total.backward()
    assert loss.total.item() == pytest.approx(math.log(2) / 2, abs=1e-6)
    torch.testing.assert_close(image.grad, torch.zeros(1, 2), rtol=0, atol=1e-5)
    torch.testing.assert_close(text.grad, torch.zeros(2, 2), rtol=0, atol=1e-5)


def test_an_equally_near_caption_of_another_image_does_repel():
    """The counterpart: the same cosines, but the second caption belongs to another image."""
    image = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    text = torch.tensor([[0.6, 0.8], [0.6, -0.8]], requires_grad=True)
    clip = build_objective({"part": "clip"})
    clip(PairBatch(image, text, torch.eye(2, dtype=torch.bool))).total.backward()
    assert text.grad[1, 0] > 0.1  # descent moves the second caption away from the first image


def test_scale_comes_back_from_its_bound():
    """Wrong pairs ask for a smaller scale; a scale set above the bound obeys at once."""
    clip = build_objective({"part": "clip", "scale_max": 20.0})
    with torch.no_grad():
        clip.log_scale.fill_(math.log(1e6))
    optimiser = torch.optim.SGD(clip.parameters(), lr=0.01)
    eye = torch.eye(2)
    loss = clip(PairBatch(eye, eye.flip(0), eye.bool()))
    assert loss.parts["scale"].item() == pytest.approx(20.0, rel=1e-5)
    loss.total.backward()
    optimiser.step()
    assert clip.log_scale.exp().item() < 19.0


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"part": "clip", "scale_init": 20.0}, None),
        ({"part": "clip", "scale_init": 100.0}, "its largest value, 100"),
        ({"part": "clip", "scale_init": 2.0, "scale_min": 2.0}, "its smallest value, 2"),
        (
            {"part": "clip", "scale_init": 100.0, "learn_temperature": True},
            "its largest value, 100",
        ),
        ({"part": "clip", "scale_init": 100.0, "learnable": False}, None),
        ({"part": "siglip", "scale_init": 10.0}, None),
        ({"part": "siglip", "scale_init": 100.0}, "its largest value, 100"),
        ({"part": "siglip", "scale_init": 1.0, "scale_min": 1.0}, "its smallest value, 1"),
        ({"part": "siglip", "scale_init": 100.0, "learnable": False}, None),
        ({"part": "distil", "scale_init": 100.0}, "its largest value, 100"),
    ],
)
def test_a_trained_scale_at_its_bound_is_told(table, said):
    assert build_objective(table).at_bound() == said


def test_a_scale_that_a_step_took_beyond_its_bound_is_told():
    objective = build_objective({"part": "clip", "scale_init": 99.0})
    with torch.no_grad():
        objective.log_scale += 1.0
    assert objective.at_bound() == "its largest value, 100"


def test_scale_starts_at_one_over_temperature_and_counts_as_one_parameter():
    clip = build_objective({"part": "clip"})
    assert clip.log_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-4)
    assert count_parameters(clip) == 1


def test_a_learned_temperature_has_the_gradient_of_its_own_and_stays_in_its_bounds():
    """dL/dt = -dL/d(log scale) / t, because scale = 1 / t; then at its bound, 1/2."""
    table = {"part": "clip", "scale_init": 4.0, "scale_min": 2.0, "scale_max": 1000.0}
    plain = build_objective(table).double()
    direct = build_objective({**table, "learn_temperature": True}).double()
    losses = [one(identity_batch(5)).total for one in (plain, direct)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[0], losses[1])
    expected = -plain.log_scale.grad / direct.temperature.detach()
    torch.testing.assert_close(direct.temperature.grad, expected)
    with torch.no_grad():
        direct.temperature.fill_(0.7)
    assert direct(identity_batch(5)).parts["scale"].item() == pytest.approx(2.0)
    assert count_parameters(direct) == 1


def test_fixed_scale_is_saved_but_not_trained():
    clip = build_objective({"part": "clip", "learnable": False, "scale_init": 12.5})
    assert count_parameters(clip) == 0
    assert clip.state_dict()["log_scale"].exp().item() == pytest.approx(12.5)


def test_half_precision_embeddings_are_contrasted_in_float32():
    batch = identity_batch(4, torch.bfloat16)
    clip = build_objective({"part": "clip", "scale_init": 100.0})
    logits = 100 * batch.first.double().numpy() @ batch.second.double().numpy().T
    eye = batch.positives.numpy()
    exact = (contrast(logits, eye, 0.0) + contrast(logits.T, eye, 0.0)) / 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = clip(batch).total
    assert loss.item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("orphan", ["image", "text"])
def test_row_without_a_partner_is_our_mistake(orphan):
    positives = torch.ones(2, 2, dtype=torch.bool)
    positives[(1, slice(None)) if orphan == "image" else (slice(None), 1)] = False
    batch = PairBatch(embeddings(2, 0), embeddings(2, 1), positives)
    with pytest.raises(AssertionError, match="no positive"):
        build_objective({"part": "clip"})(batch)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"part": "clip", "scale_init": 0.0}, "scale_init"),
        ({"part": "clip", "scale_init": 200.0}, "and max 100.0"),
        ({"part": "clip", "scale_min": 0.0}, "scale_min must be positive"),
        ({"part": "siglip", "scale_init": 0.5, "scale_min": 1.0}, "found 0.5 with min 1.0"),
        ({"part": "siglip", "scale_init": 200.0}, "with min 0.0 and max 100.0"),
        ({"part": "clip", "label_smoothing": 1.0}, "label_smoothing"),
        (
            {"part": "clip", "temperature": 0.07},
            "unknown key 'temperature'; did you mean learn_temperature. known: .*scale_init",
        ),
        ({"part": "clip", "learnable": 1}, "learnable must be True or False, found 1"),
        ({"scale_init": 1.0}, "must name its part"),
    ],
)
def test_wrong_objective_table_is_refused(table, message):
    with pytest.raises(SpecError, match=message):
        build_objective(table)


def test_unknown_objective_lists_the_known():
    with pytest.raises(UnknownNameError, match="no objective named 'clp'; close: \\['clip'\\]"):
        build_objective({"part": "clp"})


def parted(seed, rows=3, parts=3):
    """Return embeddings of several parts of lengths of their own, of length 1 together."""
    values = embeddings(rows * parts, seed).reshape(rows, parts, 5)
    lengths = torch.tensor([1.0, 0.2, 3.0], dtype=torch.float64)[:parts, None]
    return functional.normalize((values * lengths).flatten(1), dim=1)


@pytest.mark.parametrize(("contrasted", "count"), [(0, 3), (2, 2)])
@pytest.mark.parametrize("queued", [False, True])
def test_parts_are_contrasted_each_on_its_own(contrasted, count, queued):
    """The mean over the parts that count, each as a batch of its own directions."""
    batch = PairBatch(parted(0), parted(1), torch.eye(3, dtype=torch.bool))
    if queued:
        negatives = torch.ones(3, 3, dtype=torch.bool)
        batch = replace(
            batch, remembered=QueuedNegatives(parted(2), parted(3), negatives, negatives)
        )
    options = {"part": "clip", "scale_init": 5.0}
    found = build_objective({**options, "parts": 3, "contrasted": contrasted})(batch)

    def direction(values, number):
        return functional.normalize(values.reshape(3, 3, 5)[:, number], dim=1)

    losses = []
    for number in range(count):
        own = replace(
            batch, first=direction(batch.first, number), second=direction(batch.second, number)
        )
        if queued:
            old = batch.remembered
            kept = replace(
                old, first=direction(old.first, number), second=direction(old.second, number)
            )
            own = replace(own, remembered=kept)
        losses.append(build_objective(options)(own).total.item())
    assert found.total.item() == pytest.approx(np.mean(losses), rel=1e-6)


def test_parts_that_an_embedding_does_not_have_are_refused():
    with pytest.raises(SpecError, match="5 features has no 2 parts"):
        build_objective({"part": "clip", "parts": 2})(identity_batch(3))
    for wrong in ({"parts": 0}, {"parts": 2, "contrasted": 3}):
        with pytest.raises(SpecError, match="parts must be positive"):
            build_objective({"part": "clip", **wrong})
