"""Published presets against numbers of the published systems, computed apart: `originals.py`."""

import math

import pytest
import safetensors.torch
import torch

from lightalign.adapters.adapter import build_adapter
from lightalign.adapters.objective import PairBatch, build_objective
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import IMAGE_TEXT, Modality
from lightalign.pipelines.training.course import Course
from lightalign.pipelines.training.modules import build_trainable
from lightalign.pipelines.training.options import resolve_preset

from . import originals

CPU = torch.device("cpu")
WIDTHS = {Modality.IMAGE: originals.IMAGE_WIDTH, Modality.TEXT: originals.TEXT_WIDTH}
PRESETS = sorted(originals.SYSTEMS)


@pytest.fixture(scope="module")
def stored():
    return safetensors.torch.load_file(originals.NUMBERS)


def built(preset):
    """Return adapter and objective of a preset in float64, with drawn weights and no dropout."""
    table, _ = resolve_preset(preset, None, originals.SHRUNK.get(preset, ()))
    adapter = build_adapter(table["towers"], widths=WIDTHS, seed=0).double().eval()
    weights = {
        name: originals.drawn(name, tuple(one.shape)) for name, one in adapter.state_dict().items()
    }
    adapter.load_state_dict(weights)
    return adapter, build_objective(table["objective"]).double()


def found_by(preset):
    """Return our numbers, named as those of the original."""
    adapter, objective = built(preset)
    image, text, mask = originals.inputs_of(preset)
    image, text = image.requires_grad_(), text.requires_grad_()
    whole = torch.ones(image.shape[:2], dtype=torch.bool)
    first = adapter.embed(Tokens(image, whole), Modality.IMAGE)
    second = adapter.embed(Tokens(text, mask), Modality.TEXT)
    positives = torch.eye(len(image), dtype=torch.bool)
    loss = objective(PairBatch(first, second, positives.repeat(1, len(text) // len(image)))).total
    loss.backward()
    parameters = {**dict(adapter.named_parameters()), **dict(objective.named_parameters())}
    gradients = {
        name: torch.zeros_like(one) if one.grad is None else one.grad
        for name, one in parameters.items()
    }
    return {
        "image": first,
        "text": second,
        "loss": loss,
        "image_gradient": image.grad,
        "text_gradient": text.grad,
        "weight_gradients": gradients,
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_embeddings_loss_and_gradients_are_those_of_the_original(preset, stored):
    """To 1e-6, and in truth to rounding; padding has no gradient, as it is no input of ours."""
    found = found_by(preset)
    found["weight_gradients"] = originals.summary(found["weight_gradients"])
    *_, mask = originals.inputs_of(preset)
    for name, value in found.items():
        expected = stored[f"{preset}.{name}"]
        if name == "text_gradient":
            expected = expected * mask[:, :, None]
        torch.testing.assert_close(value.detach(), expected, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_stored_numbers_are_those_that_the_script_computes(preset, stored):
    for name, value in originals.numbers_of(preset).items():
        torch.testing.assert_close(value, stored[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_weight_of_the_original_is_one_of_ours(preset):
    """By name and shape, the scale of a fixed temperature being no weight."""
    weights = originals.Weights()
    image, text, _ = originals.inputs_of(preset)
    originals.SYSTEMS[preset](weights, image, text)
    adapter, objective = built(preset)
    ours = {**dict(adapter.named_parameters()), **dict(objective.named_parameters())}
    assert {name: one.shape for name, one in weights.given.items()} == {
        name: one.shape for name, one in ours.items()
    }


# rows that an epoch passes over there, and the steps that makes: 413,915 captions of COCO 2014 in
# batches of 64; 750,945 of three sets in batches of 512; 35,455 in whole batches of 8 and whole
# steps of eight of these; some five million in whole batches of 40,960; some 23 million in whole
# batches of 4,096
STEPS = {
    **{f"lightcrl/{fusion}": (413_915, 6_468, 646_800) for fusion in originals.FUSIONS},
    "oneencoder/v1": (750_945, 1_467, 733_500),
    "oneencoder/v2": (413_915, 6_468, 646_800),
    "peme/bridge": (35_455, 553, 11_060),
    "fusemix": (5_000_000, 122, 61_000),
    "sail/star": (23_000_000, 5_615, 561_500),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_training_has_the_steps_of_the_original(preset):
    _, options = resolve_preset(preset, None, ())
    rows, epoch_steps, steps = STEPS[preset]
    course = Course.of(options, rows)
    assert (course.epoch_steps, course.steps) == (epoch_steps, steps)
    assert options.captions == ("all" if preset == "sail/star" else "each")


OPTIMISERS = {
    **{f"lightcrl/{fusion}": (torch.optim.AdamW, 1e-3, {1e-3}) for fusion in originals.FUSIONS},
    "oneencoder/v1": (torch.optim.AdamW, 1e-3, {1e-3}),
    "oneencoder/v2": (torch.optim.AdamW, 1e-3, {1e-3}),
    "peme/bridge": (torch.optim.Adam, 1e-4, {1e-3}),
    "fusemix": (torch.optim.AdamW, 1e-3, {0.1, 0.0}),  # no decay of biases, norms, temperature
    "sail/star": (None, 1e-5, {1e-4}),  # Lion is given all of them as they are
}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_optimiser_is_that_of_the_original(preset):
    table, options = resolve_preset(preset, None, originals.SHRUNK.get(preset, ()))
    trainable = build_trainable(table, options, widths=WIDTHS, seed=0, device=CPU)
    kind, rate, decays = OPTIMISERS[preset]
    groups = trainable.optimiser.param_groups
    if kind is None:
        assert type(trainable.optimiser).__name__ == "Lion"
        assert {group["betas"] for group in groups} == {(0.9, 0.99)}
    else:
        assert type(trainable.optimiser) is kind
        assert {group["betas"] for group in groups} == {(0.9, 0.999)}
    assert {group["lr"] for group in groups} == {rate}
    assert {group["weight_decay"] for group in groups} == decays
    for group in groups:
        assert len(decays) == 1 or all(
            (one.ndim >= 2) == (group["weight_decay"] > 0) for one in group["params"]
        )
    assert options.gradient_clip == 0


def test_a_scale_that_was_constant_there_is_constant_here():
    for preset in ("oneencoder/v1", "oneencoder/v2"):
        _, objective = built(preset)
        assert list(objective.parameters()) == []
        assert float(objective.scale()) == pytest.approx(math.exp(2.5), rel=1e-7)


def test_the_star_starts_as_xavier_has_it_with_biases_of_zero():
    table, _ = resolve_preset("sail/star", None, ())
    adapter = build_adapter(table["towers"], widths={side: 96 for side in IMAGE_TEXT}, seed=0)
    star = adapter.steps["image/star"]
    for matrix in (star.first, star.second, star.project):
        assert torch.count_nonzero(matrix.bias) == 0
        weight = matrix.weight.detach()
        bound = math.sqrt(6 / sum(weight.shape))
        assert 0.99 * bound < float(weight.abs().max()) <= bound
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize(
    ("preset", "slot", "copies"),
    [("oneencoder/v1", "both/mix", True), ("peme/bridge", "image/bridge", False)],
)
def test_layers_of_a_torch_stack_start_as_copies_and_those_of_a_list_do_not(preset, slot, copies):
    table, _ = resolve_preset(preset, None, originals.SHRUNK[preset])
    adapter = build_adapter(table["towers"], widths=WIDTHS, seed=3)
    first, *others = (layer.linear1.weight for layer in adapter.steps[slot].layers)
    assert len(others) == 3
    assert [torch.equal(first, other) for other in others] == 3 * [copies]
