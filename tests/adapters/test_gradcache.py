"""The gradient of a batch is the same whether its graph is whole or replayed chunk by chunk."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from lightalign.adapters.adapter import build_adapter, count_parameters
from lightalign.adapters.gradcache import backward_in_chunks
from lightalign.adapters.objective import OBJECTIVES, PairBatch, TeacherFeatures, build_objective
from lightalign.adapters.preset import DUAL, list_presets, read_preset
from lightalign.featcache.config import apply_overrides
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import Modality

from ..helpers import slow

IMAGES, TEXTS = 6, 9
NOTHING_TO_TRAIN = ["asif"]
CASES = [(name, None) for name in list_presets(DUAL) if name not in NOTHING_TO_TRAIN]
CASES += [("linear", objective) for objective in OBJECTIVES.names()]

BRIDGE = ("bridge.layers=2", "bridge.out=96", "bridge.feedforward=96", "head.hidden=96")
TINY = {  # what makes the largest presets small; the parts stay as they are
    "peme/bridge": tuple(f"towers.image.{size}" for size in BRIDGE),
    "peme/bridge-64": tuple(f"towers.image.{size}" for size in BRIDGE),
    "oneencoder/v1": ("towers.both.project.out=96", "towers.both.project.hidden=96"),
}


def rows(count, width, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 5, (count,), generator=generator)
    mask = torch.arange(4) < lengths[:, None]
    return Tokens(torch.randn(count, 4, width, generator=generator), mask)


def build(name, objective):
    preset = apply_overrides(read_preset(name), TINY.get(name, ()))
    found = preset.get("check", {}).get("widths", {"image": 24, "text": 16})
    widths = {Modality(key): width for key, width in found.items()}
    adapter = build_adapter(preset["towers"], widths=widths, seed=0).train()
    table = preset["objective"] if objective is None else {"part": objective}
    batch = [rows(IMAGES, widths[Modality.IMAGE], 1), rows(TEXTS, widths[Modality.TEXT], 2)]
    owners = torch.arange(TEXTS) % IMAGES
    positives = owners[None, :] == torch.arange(IMAGES)[:, None]
    return adapter, build_objective(table), batch, positives


@pytest.mark.parametrize("name", NOTHING_TO_TRAIN)
def test_what_is_left_out_here_has_nothing_to_train(name):
    adapter, loss_of, _, _ = build(name, None)
    assert count_parameters(adapter) + count_parameters(loss_of) == 0


def split_chunks(tokens, size):
    return [
        Tokens(tokens.values[first : first + size], tokens.mask[first : first + size])
        for first in range(0, len(tokens), size)
    ]


def loads(chunks):
    return [lambda chunk=chunk: chunk for chunk in chunks]


def gradient(*modules):
    parameters = [p for module in modules for p in module.parameters()]
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


def taught(batch):
    """Return the batch with features of frozen encoders, for an objective that needs them."""
    generator = torch.Generator().manual_seed(4)
    sides = (torch.randn(rows, 7, generator=generator) for rows in (IMAGES, TEXTS))
    return replace(
        batch, teacher=TeacherFeatures(*(functional.normalize(side, dim=1) for side in sides))
    )


@pytest.mark.parametrize(("name", "objective"), [*CASES[::2], *slow(*CASES[1::2])])
def test_replayed_chunks_give_the_gradient_of_one_graph_with_dropout_on(name, objective):
    adapter, loss_of, (images, texts), positives = build(name, objective)
    image_chunks, text_chunks = split_chunks(images, 2), split_chunks(texts, 4)
    torch.manual_seed(3)
    whole = loss_of(
        taught(
            PairBatch(
                torch.cat([adapter.embed(chunk, Modality.IMAGE) for chunk in image_chunks]),
                torch.cat([adapter.embed(chunk, Modality.TEXT) for chunk in text_chunks]),
                positives,
            )
        )
    )
    whole.total.backward()
    expected = gradient(adapter, loss_of)
    after = torch.rand(1)
    adapter.zero_grad()
    loss_of.zero_grad()
    torch.manual_seed(3)
    replayed = backward_in_chunks(
        adapter.embed,
        loss_of,
        first=loads(image_chunks),
        second=loads(text_chunks),
        positives=positives,
        complete=taught,
    )
    assert torch.equal(replayed.total, whole.total)
    assert (gradient(adapter, loss_of) - expected).norm() < 1e-5 * expected.norm()
    assert torch.equal(torch.rand(1), after)  # what comes next draws what it would have drawn


def test_the_size_of_the_chunks_does_not_matter_without_dropout():
    adapter, loss_of, (images, texts), positives = build("lightalign/fusion", None)
    adapter.eval()
    found = []
    for size in (1, 2, 100):
        adapter.zero_grad()
        parts = [loads(split_chunks(tokens, size)) for tokens in (images, texts)]
        backward_in_chunks(
            adapter.embed, loss_of, first=parts[0], second=parts[1], positives=positives
        )
        found.append(gradient(adapter))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-7)


def test_a_scaled_loss_scales_its_gradient():
    adapter, loss_of, (images, texts), positives = build("lightalign/fusion", None)
    adapter.eval()
    found = []
    for factor in (1.0, 8.0):
        adapter.zero_grad()
        backward_in_chunks(
            adapter.embed,
            loss_of,
            first=loads([images]),
            second=loads([texts]),
            positives=positives,
            scale=lambda total, factor=factor: total * factor,
        )
        found.append(gradient(adapter))
    torch.testing.assert_close(found[1], 8 * found[0])


@pytest.mark.parametrize("objective", OBJECTIVES.names())
def test_chunks_of_two_halves_add_up_to_the_gradient_of_the_whole(objective):
    """Each half knows the other's embeddings and takes the gradient through its own rows only."""
    adapter, loss_of, tokens, positives = build("lightalign/fusion", objective)
    adapter.eval()
    halves = [split_chunks(one, size) for one, size in zip(tokens, (4, 5), strict=True)]
    with torch.no_grad():
        embedded = [
            [adapter.embed(half, modality) for half in side]
            for side, modality in zip(halves, (Modality.IMAGE, Modality.TEXT), strict=True)
        ]
    whole = loss_of(taught(PairBatch(*(torch.cat(side) for side in embedded), positives)))
    backward_in_chunks(
        adapter.embed,
        loss_of,
        first=loads(halves[0]),
        second=loads(halves[1]),
        positives=positives,
        complete=taught,
    )
    expected = gradient(adapter)
    adapter.zero_grad()
    for half in (0, 1):

        def join(parts, num_rows, half=half):
            side = embedded[0] if num_rows == IMAGES else embedded[1]
            found = list(side)
            found[half] = torch.cat(list(parts))
            return torch.cat(found)

        loss = backward_in_chunks(
            adapter.embed,
            loss_of,
            first=loads(split_chunks(halves[0][half], 2)),
            second=loads(split_chunks(halves[1][half], 2)),
            positives=positives,
            join=join,
            complete=taught,
        )
        torch.testing.assert_close(loss.total, whole.total.detach())
    assert (gradient(adapter) - expected).norm() < 1e-5 * expected.norm()
