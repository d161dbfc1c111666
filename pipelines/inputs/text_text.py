"""Join two stores of the same items, by two encoders: texts through the images they describe."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from ...featcache.errors import SpecError, StoreCorruptError
from ...featcache.links import Links
from ...featcache.reading.reader import FeatureReader
from ..metrics.ranks import Relevance
from .pairs import BatchRows, PairDataset, Relations, order_by_shard


class PairedTexts(PairDataset):
    """Join each text of the first side with the other texts of its image on the second.

    Items of any one modality are joined so, through those of another that they are linked with;
    here they are called texts, and what links them images.

    A text makes no pair with itself, unless its image has no other. Where it meets itself in a
    batch all the same, because two images have it in common, it does not count as wrong. One that
    has no row in one of the stores, because it could not be read, takes no part.

    Source: LightCRL (arXiv 2403.04650) between texts; lightweightCRL, commit e3421ad,
    text_text/coco_dataset.py. We differ: there each text is paired with itself, too, and with those
    of its image only that another encoder finds similar; here with all of them and not with itself,
    from which nothing is learnt but to know a text again.

    Attributes:
        texts_of: Texts of each image, by its place in the dataset; texts are called by their row in
            the first store.
        second_row: Row in the second store of each text, or -1.

    Raises:
        StoreCorruptError: No text of an image has a row in both stores.
        UnknownNameError: There is no such residency.
    """

    def _join(self, pairs: Links) -> None:
        texts_of: dict[int, set[int]] = defaultdict(set)
        images_of: dict[int, list[int]] = defaultdict(list)
        self.second_row = np.full(len(self.first), -1, dtype=np.int64)
        # a caption that an image has twice is one text
        anchor, modality = self._joining = pairs.joining(self.pair.sides[0].modality)
        links = dict.fromkeys(map(tuple, pairs.places((anchor, modality)).tolist()))
        text_ids = pairs.ids_of(modality)
        rows = [reader.rows_of(text_ids).tolist() for reader in (self.first, self.second)]
        for image, place in links:
            text, second = rows[0][place], rows[1][place]
            if text >= 0 and second >= 0:
                self.second_row[text] = second
                texts_of[image].add(text)
                images_of[text].append(image)
        if not texts_of:
            raise StoreCorruptError(f"no {modality.value} of {self.path} has a row in both stores")
        self.texts_of = {image: tuple(sorted(texts)) for image, texts in sorted(texts_of.items())}
        self.num_links_lost = len(links) - sum(map(len, self.texts_of.values()))
        self._related = {
            text: sorted({other for image in images for other in self.texts_of[image]})
            for text, images in sorted(images_of.items())
        }
        self.seconds_of = {
            text: self._seconds([other for other in related if other != text] or related)
            for text, related in self._related.items()
        }
        self.belonging = {
            text: self._seconds(relatives) for text, relatives in self._related.items()
        }

    @property
    def _texts(self) -> FeatureReader:
        return self.first

    def _unite(self, same: Mapping[int, tuple[int, ...]]) -> None:
        before = self._related

        def saying(texts: Iterable[int]) -> set[int]:
            return {row for text in texts for row in same.get(text, (text,)) if row in before}

        self._related = {
            text: sorted(saying(other for twin in saying([text]) for other in before[twin]))
            for text in before
        }
        self.belonging = {
            text: self._seconds(relatives) for text, relatives in self._related.items()
        }

    def _seconds(self, texts: Sequence[int]) -> tuple[int, ...]:
        return tuple(sorted(self.second_row[texts].tolist()))

    @property
    def notes(self) -> list[str]:
        """Return the notes on the pairs, with the count of texts that only match themselves."""
        alone = sum(len(related) == 1 for related in self._related.values())
        whole = len(self._related)
        image, text = self._joining
        line = f"{alone} of {whole} {text}s have no other of their {image}: each is its own partner"
        return [*super().notes, *([line] if alone else [])]

    @property
    def images(self) -> Int64[np.ndarray, " n"]:
        """Return the places of all images that have a text, in order."""
        return np.fromiter(self.texts_of, dtype=np.int64)

    def firsts(
        self, images: Int64[np.ndarray, " n"], random: np.random.Generator
    ) -> Int64[np.ndarray, " m"]:
        """Return one text of each image, drawn at random; one that is drawn twice comes once.

        All else of an image is on the second side: no text meets itself as one that it should be
        unlike.
        """
        drawn = [int(random.choice(self.texts_of[image])) for image in images.tolist()]
        return np.array(list(dict.fromkeys(drawn)), dtype=np.int64)

    def all_firsts(self, images: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
        """Return all texts of these images, each once, in order."""
        return np.unique([text for image in images.tolist() for text in self.texts_of[image]])

    def relations(self, images: Int64[np.ndarray, " n"]) -> Relations:
        """Return all texts of these images on both sides; right are the others of an image.

        The loss is of the first text of each image that has another.

        Raises:
            SpecError: None of these images has two texts.
        """
        texts = self.all_firsts(images)
        place = {text: position for position, text in enumerate(texts.tolist())}
        others = [
            [place[other] for other in self._related[text] if other != text and other in place]
            for text in place
        ]
        if not any(others):
            image, text = self._joining
            raise SpecError(
                f"no {image} of split {self.pair.split!r} to evaluate has two {text}s, so no "
                f"{text} has another to find: take a split with more, or train with "
                "train.validation=none"
            )
        anchors = [place[self.texts_of[image][0]] for image in images.tolist()]
        relevance = Relevance.of(others)
        return Relations(
            BatchRows(texts, self.second_row[texts]),
            relevance,
            relevance,
            np.unique([anchor for anchor in anchors if others[anchor]]),
        )

    def block_order(
        self, images: Int64[np.ndarray, " n"], seed: Sequence[int]
    ) -> Int64[np.ndarray, " n"] | None:
        """Return the images shard by shard, of the first text of each."""
        first_texts = np.array([self.texts_of[image][0] for image in images.tolist()])
        if self.first.buffer_shards is not None:
            return order_by_shard(images, first_texts, self.first, seed)
        if self.second.buffer_shards is not None:
            return order_by_shard(images, self.second_row[first_texts], self.second, seed)
        return None
