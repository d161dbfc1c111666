"""The six fusions against their formulas, worked token by token in float64 NumPy."""

import numpy as np
import pytest
import torch

from lightalign.adapters.adapter import STEPS
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import IMAGE_TEXT, Modality

WIDTH = 6
LENGTHS = (3, 1, 4)


def linear(weights, name, x):
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def layer_norm(weights, name, x):
    normal = (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)
    return normal * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def relu(x):
    return np.where(x > 0, x, 0.0)


def softmax(x):
    exponentials = [np.exp(value) for value in x]
    return np.array(exponentials) / sum(exponentials)


def deep_context(weights, modality):
    x = weights[f"context.vectors.{modality.value}"]
    x = relu(linear(weights, "context.layers.0", x))
    x = relu(linear(weights, "context.layers.2", x))
    x = linear(weights, "context.layers.4", x)
    return layer_norm(weights, "context.layers.5", x)


def short_context(weights, modality):
    x = linear(weights, "context.layers.0", weights[f"context.vectors.{modality.value}"])
    return layer_norm(weights, "context.layers.1", x)


def attend(row, values, scores):
    alpha = softmax(scores)
    return row + sum(a * v for a, v in zip(alpha, values, strict=True))


def add(weights, row, modality):
    return np.array([x + deep_context(weights, modality) for x in row])


def mul(weights, row, modality):
    return np.array([x * deep_context(weights, modality) for x in row])


def concat(weights, row, modality):
    c = short_context(weights, modality)
    hidden = [relu(linear(weights, "project.0", np.concatenate([x, c]))) for x in row]
    return np.array([x + linear(weights, "project.2", h) for x, h in zip(row, hidden, strict=True)])


def additive(weights, row, modality, activation=np.tanh):
    u = linear(weights, "query", deep_context(weights, modality))
    scores = [
        linear(weights, "score", activation(u + linear(weights, "key", x))).item() for x in row
    ]
    return attend(row, row, scores)


def additive_without_tanh(weights, row, modality):
    return additive(weights, row, modality, activation=lambda x: x)


def general(weights, row, modality):
    c = deep_context(weights, modality)
    return attend(row, row, [c @ linear(weights, "key", x) for x in row])


def cross(weights, row, modality):
    q = linear(weights, "query", deep_context(weights, modality))
    scores = [q @ linear(weights, "key", x) / np.sqrt(WIDTH) for x in row]
    return attend(row, [linear(weights, "value", x) for x in row], scores)


FUSIONS = {
    "add-fusion": (add, {}),
    "mul-fusion": (mul, {}),
    "concat-fusion": (concat, {}),
    "additive-attn-fusion": (additive, {"masked": True}),
    "general-attn-fusion": (general, {"masked": True}),
    "cross-attn-fusion": (cross, {"masked": True}),
}
UNMASKED = {
    "additive-attn-fusion": (additive, {"masked": False}),
    "additive-attn-fusion without tanh": (additive_without_tanh, {"tanh": False, "masked": False}),
    "general-attn-fusion": (general, {"masked": False}),
    "cross-attn-fusion": (cross, {"masked": False}),
}


def build(name, options):
    torch.manual_seed(0)
    step = STEPS.load(name.partition(" ")[0])(WIDTH, **options).double()
    for parameter in step.parameters():
        torch.nn.init.normal_(parameter, std=0.7)  # so that gains and biases count too
    return step, {key: value.numpy() for key, value in step.state_dict().items()}


def batch():
    generator = torch.Generator().manual_seed(1)
    longest = max(LENGTHS)
    values = torch.randn(len(LENGTHS), longest, WIDTH, dtype=torch.float64, generator=generator)
    mask = torch.arange(longest) < torch.tensor(LENGTHS)[:, None]
    return Tokens(values, mask)


@pytest.mark.parametrize("modality", list(IMAGE_TEXT))
@pytest.mark.parametrize("name", FUSIONS)
def test_fusion_equals_its_formula_on_the_real_tokens(name, modality):
    formula, options = FUSIONS[name]
    step, weights = build(name, options)
    tokens = batch()
    with torch.no_grad():
        found = step(tokens, modality).values.numpy()
    for i, length in enumerate(LENGTHS):
        expected = formula(weights, tokens.values[i, :length].numpy(), modality)
        np.testing.assert_allclose(found[i, :length], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", UNMASKED)
def test_unmasked_fusion_attends_to_padding_as_published(name):
    formula, options = UNMASKED[name]
    step, weights = build(name, options)
    tokens = batch()
    with torch.no_grad():
        found = step(tokens, Modality.TEXT).values.numpy()
    for i in range(len(LENGTHS)):
        expected = formula(weights, tokens.values[i].numpy(), Modality.TEXT)
        np.testing.assert_allclose(found[i], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FUSIONS)
def test_context_tells_the_modalities_apart(name):
    step, _ = build(name, {})
    tokens = batch()
    difference = step(tokens, Modality.IMAGE).values - step(tokens, Modality.TEXT).values
    assert difference[0].abs().max() > 1e-3


@pytest.mark.parametrize("name", ["additive-attn-fusion", "general-attn-fusion"])
def test_attention_over_a_single_token_doubles_it(name):
    """With one token the softmax is 1, so h = x + x whatever the context is."""
    step, _ = build(name, {})
    values = torch.randn(2, 1, WIDTH, dtype=torch.float64)
    fused = step(Tokens(values, torch.ones(2, 1, dtype=torch.bool)), Modality.IMAGE)
    torch.testing.assert_close(fused.values, 2 * values)


def test_additive_attention_without_tanh_ignores_the_context():
    step, _ = build("additive-attn-fusion", {"tanh": False})
    tokens = batch()
    image, text = step(tokens, Modality.IMAGE), step(tokens, Modality.TEXT)
    torch.testing.assert_close(image.values[tokens.mask], text.values[tokens.mask])
