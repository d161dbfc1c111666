"""The published systems once more, in plain torch, written from their formulas and not from ours.

`python tests/adapters/originals.py` computes what each gives for a few drawn tokens and weights:
embeddings, loss and gradients, and writes them to `originals.safetensors`. `test_originals.py`
holds our presets to these numbers. Nothing of the package is imported here. Weights have the names
that our adapters give them, so that both sides draw the same ones; all else is apart.

Sources: lightweightCRL, commit e3421ad, text_image; OneEncoder, commits 60b2b62 and 91edf3d; PEME,
commit 550a968; fusemix, commit 25f83ee; SAIL, model/sail_model.py, linear.py and loss.py. The
classes of these repositories were themselves run at these weights and tokens, their encoders cut
off, in float64: embeddings, loss and gradients agree to 1e-14 (lightweightCRL as of 62e0aef,
OneEncoder's second release as of c718675, SAIL as of 4402c85 in the fork woonsango/SAIL). Dropout
is off. Where they read what an encoder gives for padding, here are zeros, as in our stores.
"""

import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.nn.functional import (
    cross_entropy,
    gelu,
    layer_norm,
    linear,
    logsigmoid,
    normalize,
    relu,
    relu6,
)

NUMBERS = Path(__file__).with_name("originals.safetensors")
SEED = 20_240_625
PAIRS = 4
IMAGE_WIDTH, TEXT_WIDTH = 12, 10
TEXT_LENGTHS = (6, 3, 5, 4)  # of six positions
SHRUNK = {  # sizes that would only take time here; counts of parameters hold them elsewhere
    "oneencoder/v1": ("towers.both.project.out=32", "towers.both.project.hidden=32"),
    "peme/bridge": (
        "towers.image.bridge.out=32",
        "towers.image.bridge.feedforward=48",
        "towers.image.head.out=24",
        "towers.image.head.hidden=40",
        "towers.text.head.out=24",
        "towers.text.head.hidden=40",
    ),
    "sail/star": ("towers.both.star.out=24",),
    "fusemix": ("towers.both.project.out=24",),
}
Draw = Callable[..., Tensor]


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the weight of a name: matrices near their usual size, gains near 1, others near 0."""
    random = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    values = random.standard_normal(shape)
    if len(shape) >= 2:
        return torch.from_numpy(values / math.sqrt(shape[-1]))
    return torch.from_numpy(0.2 * values + name.endswith("weight"))


def direction(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return what the gradient of a weight is projected onto."""
    return drawn(f"direction of {name}", (1, *shape))[0]


def inputs(texts: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens of images and of `texts` times as many texts, and which of these are real."""
    random = np.random.default_rng(SEED)
    image = torch.from_numpy(random.standard_normal((PAIRS, 5, IMAGE_WIDTH)))
    lengths = torch.tensor(TEXT_LENGTHS * texts)
    mask = torch.arange(6)[None, :] < lengths[:, None]
    text = torch.from_numpy(random.standard_normal((len(lengths), 6, TEXT_WIDTH)))
    return image, text * mask[:, :, None], mask


class Weights:
    """The weights that a system has asked for, by name."""

    def __init__(self) -> None:
        self.given: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        if name not in self.given:
            self.given[name] = drawn(name, shape).requires_grad_()
        return self.given[name]

    def affine(self, name: str, values: Tensor, out: int) -> Tensor:
        matrix = self(f"{name}.weight", out, values.shape[-1])
        return linear(values, matrix, self(f"{name}.bias", out))

    def norm(self, name: str, values: Tensor) -> Tensor:
        width = values.shape[-1]
        gain, shift = self(f"{name}.weight", width), self(f"{name}.bias", width)
        return layer_norm(values, (width,), gain, shift)

    def attention(self, name: str, asking: Tensor, asked: Tensor, heads: int) -> Tensor:
        width = asking.shape[-1]
        matrix = self(f"{name}.in_proj_weight", 3 * width, width).chunk(3)
        shift = self(f"{name}.in_proj_bias", 3 * width).chunk(3)
        parts = [
            linear(values, one, other).unflatten(-1, (heads, -1)).transpose(1, 2)
            for values, one, other in zip((asking, asked, asked), matrix, shift, strict=True)
        ]
        query, key, value = parts
        shares = (query @ key.transpose(2, 3) / math.sqrt(width // heads)).softmax(dim=-1)
        return self.affine(f"{name}.out_proj", (shares @ value).transpose(1, 2).flatten(2), width)


def encoder_layer(w: Weights, name: str, x: Tensor) -> Tensor:
    """One layer of torch's transformer encoder at its defaults, four heads."""
    x = w.norm(f"{name}.norm1", x + w.attention(f"{name}.self_attn", x, x, 4))
    wide = relu(w.affine(f"{name}.linear1", x, 2048))
    return w.norm(f"{name}.norm2", x + w.affine(f"{name}.linear2", wide, x.shape[-1]))


def decoder_layer(w: Weights, name: str, x: Tensor, memory: Tensor, wide: int) -> Tensor:
    """One layer of torch's transformer decoder at its defaults, eight heads."""
    x = w.norm(f"{name}.norm1", x + w.attention(f"{name}.self_attn", x, x, 8))
    x = w.norm(f"{name}.norm2", x + w.attention(f"{name}.multihead_attn", x, memory, 8))
    inner = relu(w.affine(f"{name}.linear1", x, wide))
    return w.norm(f"{name}.norm3", x + w.affine(f"{name}.linear2", inner, x.shape[-1]))


def head(w: Weights, name: str, x: Tensor, width: int) -> Tensor:
    x = w.affine(f"{name}.layers.2", gelu(w.affine(f"{name}.layers.0", x, width)), width)
    return w.norm(f"{name}.layers.4", x)


def context(w: Weights, side: str, width: int, sizes: tuple[int, ...]) -> Tensor:
    c = w(f"steps.both/fuse.context.vectors.{side}", 3)
    place = 0
    for size in sizes:
        c = relu(w.affine(f"steps.both/fuse.context.layers.{place}", c, size))
        place += 2
    c = w.affine(f"steps.both/fuse.context.layers.{place}", c, width)
    return w.norm(f"steps.both/fuse.context.layers.{place + 1}", c)


def fused(w: Weights, fusion: str, side: str, x: Tensor) -> Tensor:
    """The six fusions of LightCRL, between images and texts."""
    name, width = "steps.both/fuse", x.shape[-1]
    if fusion == "concatenation":
        short = context(w, side, 10, ()).expand(*x.shape[:2], 10)
        joint = torch.cat([x, short], dim=-1)
        inner = relu(w.affine(f"{name}.project.0", joint, width + 10))
        return x + w.affine(f"{name}.project.2", inner, width)
    c = context(w, side, width, (64, 128))
    if fusion == "addition":
        return x + c
    if fusion == "multiplication":
        return x * c
    query = c.expand(len(x), 1, width)
    if fusion == "additive":  # without a tanh
        mixed = w.affine(f"{name}.query", query, width) + w.affine(f"{name}.key", x, width)
        shares = w.affine(f"{name}.score", mixed, 1).softmax(dim=1)
        return x + (shares * x).sum(dim=1, keepdim=True)
    if fusion == "general":
        scores = query @ w.affine(f"{name}.key", x, width).transpose(1, 2)
        return x + scores.softmax(dim=-1) @ x
    key, value = (w.affine(f"{name}.{part}", x, width) for part in ("key", "value"))
    scores = w.affine(f"{name}.query", query, width) @ key.transpose(1, 2) / width**0.5
    return x + scores.softmax(dim=-1) @ value


def around_transformer(w: Weights, h: Tensor, layers: int) -> Tensor:
    z = w.norm("steps.both/mix.norm", h)
    for number in range(layers):
        z = encoder_layer(w, f"steps.both/mix.layers.{number}", z)
    return (h + z).mean(dim=1)  # over padding, too


def clip_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    logits = scale * image @ text.T
    labels = torch.arange(len(image))
    return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2


def lightcrl(fusion: str) -> Callable[[Weights, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    def system(w: Weights, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = []
        for side, tokens in (("image", image), ("text", text)):
            x = head(w, f"steps.{side}/project", tokens, 256)
            found.append(normalize(around_transformer(w, fused(w, fusion, side, x), 1), dim=-1))
        t = w.given.setdefault("log_scale", torch.tensor(0.07).double().requires_grad_())
        return *found, clip_loss(*found, t.clamp(0.01, 20).exp())

    return system


def oneencoder_v2(w: Weights, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    found = []
    for side, tokens in (("image", image), ("text", text)):
        x = head(w, f"steps.{side}/project", tokens, 256)
        found.append(normalize(around_transformer(w, fused(w, "addition", side, x), 1), dim=-1))
    return *found, clip_loss(*found, torch.tensor(2.5).double().exp())


def oneencoder_v1(w: Weights, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    found = []
    for side, tokens in (("image", image), ("text", text)):
        x = head(w, f"steps.{side}/project", tokens, 32)
        x = x + w(f"steps.both/fuse.context.vectors.{side}", 32)
        found.append(normalize(around_transformer(w, x, 4), dim=-1))
    return *found, clip_loss(*found, torch.tensor(2.5).double().exp())


def peme(w: Weights, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    memory = w.affine("steps.image/bridge.project", image, 32)
    read = w("steps.image/bridge.queries", 32, 32).expand(len(image), 32, 32)
    for number in range(4):
        read = decoder_layer(w, f"steps.image/bridge.layers.{number}", read, memory, 48)
    found = []
    for side, x in (("image", read.mean(dim=1)), ("text", text[:, 0])):
        inner = gelu(w.affine(f"steps.{side}/head.layers.0", x, 40))
        found.append(normalize(w.affine(f"steps.{side}/head.layers.2", inner, 24), dim=-1))
    first = torch.tensor(math.log(1 / 0.07)).double()
    return *found, clip_loss(*found, w.given.setdefault("log_scale", first.requires_grad_()).exp())


def fusemix(w: Weights, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    found = []
    for side, tokens in (("image", image), ("text", text)):
        x = tokens[:, 0]
        for number in range(4):
            block = f"steps.{side}/refine.blocks.{number}"
            inner = gelu(w.affine(f"{block}.1", w.norm(f"{block}.0", x), 4 * x.shape[-1]))
            x = x + w.affine(f"{block}.4", inner, x.shape[-1])
        x = w.affine(f"steps.{side}/project.linear", w.norm(f"steps.{side}/norm.norm", x), 24)
        found.append(normalize(x, dim=-1))
    temperature = w.given.setdefault("temperature", torch.tensor(0.07).double().requires_grad_())
    return *found, clip_loss(*found, 1 / temperature)


def sail(w: Weights, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With a second text of each image: a further positive, in the same mean."""
    found = []
    for side, tokens in (("image", image), ("text", text)):
        x = w.norm(f"steps.{side}/norm.norm", tokens[:, 0])
        first, second = (
            w.affine(f"steps.{side}/star.{part}", x, 8 * x.shape[-1]).clamp(-1e3, 1e3)
            for part in ("first", "second")
        )
        found.append(normalize(w.affine(f"steps.{side}/star.project", relu6(first) * second, 24)))
    scale = w.given.setdefault("log_scale", torch.tensor(20.0).log().double().requires_grad_())
    bias = w.given.setdefault("bias", torch.tensor(-10.0).double().requires_grad_())
    signs = 2 * torch.eye(len(image)).double() - 1
    logits = scale.exp() * found[0] @ found[1].T + bias
    return *found, -logsigmoid(torch.cat([signs, signs], dim=1) * logits).mean()


FUSIONS = ("addition", "multiplication", "concatenation", "additive", "general", "scaled-dot")
SYSTEMS = {
    **{f"lightcrl/{fusion}": lightcrl(fusion) for fusion in FUSIONS},
    "oneencoder/v1": oneencoder_v1,
    "oneencoder/v2": oneencoder_v2,
    "peme/bridge": peme,
    "fusemix": fusemix,
    "sail/star": sail,
}
POOLED = frozenset({"fusemix", "sail/star"})  # they read one token of an item


def inputs_of(preset: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tokens that a system is given, and which of the texts' are real."""
    image, text, mask = inputs(texts=2 if preset == "sail/star" else 1)
    return (image[:, :1], text[:, :1], mask[:, :1]) if preset in POOLED else (image, text, mask)


def summary(gradients: dict[str, Tensor]) -> Tensor:
    """Return length and projection of each gradient, in the order of their names."""
    rows = [
        torch.stack([one.norm(), (one * direction(name, tuple(one.shape))).sum()])
        for name, one in sorted(gradients.items())
    ]
    return torch.stack(rows)


def numbers_of(preset: str) -> dict[str, Tensor]:
    """Return what a system gives: embeddings, loss and gradients."""
    image, text, _ = inputs_of(preset)
    image, text = image.requires_grad_(), text.requires_grad_()
    weights = Weights()
    first, second, loss = SYSTEMS[preset](weights, image, text)
    loss.backward()
    gradients = {
        name: torch.zeros_like(one) if one.grad is None else one.grad
        for name, one in weights.given.items()
    }
    found = {
        "image": first,
        "text": second,
        "loss": loss,
        "image_gradient": image.grad,
        "text_gradient": text.grad,
        "weight_gradients": summary(gradients),
    }
    return {f"{preset}.{name}": one.detach().contiguous() for name, one in found.items()}


if __name__ == "__main__":
    everything: dict[str, Tensor] = {}
    for name in SYSTEMS:
        everything |= numbers_of(name)
    safetensors.torch.save_file(everything, NUMBERS, {"seed": str(SEED)})
