"""Compare how two encoders see the same items, store by store.

Axis names: `n` items, `d` features of an item, `k` neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from ...featcache.reading.reader import FeatureReader
from ..inputs.layer_ranking import item_vectors
from ..metrics.bootstrap import mean_interval
from ..metrics.intervals import share_interval
from ..metrics.number import Number
from ..metrics.representation import (
    RidgeMap,
    linear_cka,
    neighbours,
    ranks_of_own,
    shared_neighbours,
)

RECALL_AT = 10
HELD_OUT = 0.2  # share of the items


@dataclass(frozen=True)
class EncoderNeighbours:
    """Features of the drawn items by one encoder, with the nearest neighbours of each.

    Attributes:
        nearest: Items that are nearest to each, by cosine.
    """

    vectors: Float32[np.ndarray, "n d"]
    nearest: Int64[np.ndarray, "n k"]

    @classmethod
    def of(
        cls, label: str, reader: FeatureReader, ids: Sequence[str], num: int
    ) -> "EncoderNeighbours":
        """Read the items `ids`.

        Raises:
            StoreCorruptError: Their features do not vary.
        """
        # centred features of a constant encoder are all zero, and every similarity would be 0 / 0
        vectors = item_vectors(label, reader, ids, must_vary=_num_train(len(ids)))
        return cls(vectors, neighbours(vectors, num))


def compared(
    image: EncoderNeighbours, texts: Mapping[str, EncoderNeighbours], num_neighbours: int
) -> dict[str, dict[str, Number]]:
    """Return the numbers of one image store with each text store."""
    num = len(image.vectors)
    num_train = _num_train(num)
    held_out = num - num_train
    ridge = RidgeMap(image.vectors[:num_train], image.vectors[num_train:])
    comparisons = {}
    for label, text in texts.items():
        train = text.vectors[:num_train]
        predicted = ridge.predict(train)
        # the map predicts texts less the mean of the training ones, so these lose it, too
        real = text.vectors[num_train:] - train.mean(axis=0, dtype=np.float64)
        hits = {
            "image_to_text": 100.0 * (ranks_of_own(predicted, real) <= RECALL_AT),
            "text_to_image": 100.0 * (ranks_of_own(real, predicted) <= RECALL_AT),
        }
        by_direction = {"ridge": np.mean(list(hits.values()), axis=0), **hits}
        chance = 100.0 * min(1.0, RECALL_AT / held_out)
        numbers = {
            name: Number(
                value=float(values.mean()),
                num=held_out,
                interval=share_interval(values) if name in hits else mean_interval(values),
                chance=chance,
            )
            for name, values in by_direction.items()
        }
        shared = shared_neighbours(image.nearest, text.nearest)
        numbers["mutual_knn"] = Number(
            value=float(shared.mean()),
            num=num,
            interval=mean_interval(shared),
            chance=100.0 * num_neighbours / (num - 1),
        )
        cka = linear_cka(image.vectors, text.vectors)
        numbers["cka"] = Number(
            value=100.0 * cka.value, num=num, chance=100.0 * cka.chance, unit=""
        )
        comparisons[label] = numbers
    return comparisons


def _num_train(num: int) -> int:
    return num - max(1, int(HELD_OUT * num))
