"""VLE's fusion once more, in NumPy and float64, a row at a time and without any mask.

A row is given its real tokens alone: padding and empty slots of boxes are not there, so that
nothing can read them. Weights have the names of ours.

Source: iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, and BERT's blocks.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

EPSILON = 1e-12


@dataclass
class Row:
    """One row: tokens of both sides, types of its words, and what each box covers."""

    text: np.ndarray
    image: np.ndarray
    types: list[int] | None = None
    boxes: tuple[np.ndarray, ...] = ()


@dataclass
class Fused:
    """What becomes of a row."""

    text: np.ndarray
    image: np.ndarray
    pooled: np.ndarray


class Vle:
    """The fusion at given weights."""

    def __init__(self, weights, *, layers, heads):
        self.weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}
        self.layers = layers
        self.heads = heads

    def affine(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name, x, epsilon=EPSILON):
        mean = x.mean(axis=-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
        scaled = (x - mean) / np.sqrt(variance + epsilon)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attention(self, name, asking, asked):
        query, key, value = (
            self.affine(f"{name}.{part}", x)
            for part, x in (("query", asking), ("key", asked), ("value", asked))
        )
        size = query.shape[1] // self.heads
        taken = []
        for first in range(0, query.shape[1], size):
            part = slice(first, first + size)
            scores = query[:, part] @ key[:, part].T / math.sqrt(size)
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            taken.append(shares / shares.sum(axis=1, keepdims=True) @ value[:, part])
        return self.affine(f"{name}.out", np.concatenate(taken, axis=1))

    def layer(self, side, number, x, other):
        name = f"steps.fuse.stacks.{side}.{number}"
        x = self.norm(f"{name}.own_norm", x + self.attention(f"{name}.to_own", x, x))
        x = self.norm(f"{name}.other_norm", x + self.attention(f"{name}.to_other", x, other))
        inner = gelu(self.affine(f"{name}.expand", x))
        return self.norm(f"{name}.feedforward_norm", x + self.affine(f"{name}.contract", inner))

    def __call__(self, row):
        text = self.affine("towers.steps.text/project.linear", row.text)
        image = self.affine("towers.steps.image/project.linear", row.image)
        means = [(c[:, None] * image).sum(axis=0) / c.sum() for c in row.boxes]
        embedding = self.weights["steps.types.types.weight"]
        text = text + embedding[row.types or [0] * len(text)]
        types = [1] * len(image) + [2 + i for i in range(len(means))]
        image = np.stack([*image, *means]) + embedding[types]
        for number in range(self.layers):
            text, image = (
                self.layer("text", number, text, image),
                self.layer("image", number, image, text),
            )
        pooled = [
            np.tanh(self.affine(f"steps.pool.poolers.{side}", tokens[0]))
            for side, tokens in (("text", text), ("image", image))
        ]
        return Fused(text, image, np.concatenate(pooled))

    def itm(self, pooled):
        return self.affine("heads.itm.score", pooled)

    def answers(self, pooled):
        inner = self.affine("heads.answers.layers.0", pooled)
        inner = gelu(self.norm("heads.answers.layers.1", inner, epsilon=1e-5))
        return self.affine("heads.answers.layers.3", inner)


def gelu(x):
    return x * (1 + erf(x / math.sqrt(2))) / 2
