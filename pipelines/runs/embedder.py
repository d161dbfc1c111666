"""Embed items by a trained run, such as images and texts: its frozen encoders, then its adapter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from ...adapters.checkpoint import load_adapter
from ...adapters.without_bank import without_bank
from ...featcache.errors import (
    DivergedError,
    SpecError,
)
from ...featcache.hardware import resolve_device
from ...featcache.modalities import reader_of
from ...featcache.registry import unknown_name
from ...featcache.tokens import StreamTokens, Tokens
from ...featcache.types import Modality, Side, in_words
from . import run_folder
from .run_encoders import EncoderView, RunEncoders


class Embedder:
    """Embed items by the adapter of a finished run and the encoders it was trained on.

    They are images and texts, or what the sides of the run are: `embed` takes those of any side.

    An encoder is opened when it is first needed. It must be the very one whose features the adapter
    was trained on: weights, preprocessing, tokenizer and precision are compared.

    Each text is embedded without any padding, so that no embedding depends on what else is in a
    call. Published presets in which padding takes part, such as `lightcrl/addition`, give other
    embeddings to texts that are padded in a batch, as those of an evaluation are.

    Args:
        folder: The run folder; nothing else is needed but the encoders' weights.
        device: `auto`, `cpu` or `cuda`.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.
        offsets: Whether embeddings hold the offsets of hubs of a run that has them (`[finish]`),
            which is for ranking; `False` is for classes and for similarities of one side.

    Raises:
        RunNotFoundError: The folder holds no trained adapter.
        StoreCorruptError: A file of the run is damaged.
        SpecError: The run did not record its encoders, or weights are named for another one.
        UnknownNameError: The adapter has a part that this version does not have.
        DeviceError: This machine has no such device.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "auto",
        weights: Mapping[str, Path] | None = None,
        offsets: bool = True,
    ) -> None:
        self.folder = folder
        self.device = resolve_device(device)
        adapter, _, _ = load_adapter(folder)
        self.adapter = (adapter if offsets else without_bank(adapter)).to(self.device)
        self._run_encoders = RunEncoders(folder, device=self.device, weights=weights)
        self._sides = self._run_encoders.sides

    @property
    def encoders(self) -> dict[str, str]:
        """Return the name of the encoder of each side, such as `image` or `first_text`.

        Those of a side that reads several stand side by side, joined by `+`.
        """
        return self._run_encoders.names

    @property
    def width(self) -> int:
        """Return the number of features of an embedding."""
        return self.adapter.out_width

    def embed(
        self, items: Sequence[Any], *, side: str, batch_size: int = 32
    ) -> Float32[np.ndarray, "n embed"]:
        """Return the unit-length embedding of each item of one of the run's sides.

        Args:
            items: Texts of a side of texts; of any other files, or contents of files, or of images
                pictures that are already decoded.
            side: Name of the side, such as `image`, `text` or `first_text`.
            batch_size: Items per forward pass of the encoder, at least 1.

        Raises:
            UnknownNameError: The run has no such side.
            LightalignError: See `embed_images`.
        """
        sides = {run_side.value: run_side for run_side in self._sides}
        if side not in sides:
            raise unknown_name("side", side, sides)
        modality = sides[side].modality
        kinds: tuple[type, ...] = (str, Path, bytes)
        if modality is Modality.IMAGE:
            kinds = (*kinds, Image.Image)
        if not reader_of(modality).has_files:
            kinds = (str,)
        _check_list(items, kinds, "embed", reader_of(modality).plural)
        return self._embed(sides[side], items, batch_size)

    def embed_images(
        self, images: Sequence[str | Path | bytes | Image.Image], *, batch_size: int = 32
    ) -> Float32[np.ndarray, "n embed"]:
        """Return the unit-length embedding of each image.

        Args:
            images: Files, contents of files, or pictures that are already decoded.
            batch_size: Images per forward pass, at least 1.

        Raises:
            SpecError: An argument is of another type or range, both sides are texts, or the run has
                no card of its encoder.
            UnreadableItemError: An image cannot be read; the message names it.
            WeightsNotFoundError: The encoder's weights are nowhere to be found.
            WeightsMismatchError: The encoder that was found is another one.
            FeatureRangeError: A feature does not fit the type that the training stored.
            DivergedError: An embedding is not finite.
        """
        _check_list(images, (str, Path, bytes, Image.Image), "embed_images", "images")
        if Modality.IMAGE not in self._sides:
            raise SpecError(f"{self.folder} aligns {in_words(self._sides)}: it embeds no images")

        return self._embed(Modality.IMAGE, images, batch_size)

    def embed_texts(
        self, texts: Sequence[str], *, side: str | None = None, batch_size: int = 32
    ) -> Float32[np.ndarray, "n embed"]:
        """Return the unit-length embedding of each text.

        Args:
            texts: Texts; what is longer than the encoder reads is cut off.
            side: Through which encoder: `first_text` or `second_text` where both sides are texts,
                and nothing else where one is.
            batch_size: Texts per forward pass of the encoder, at least 1.

        Raises:
            SpecError: An argument is of another type or range, or the run has no card of its
                encoder.
            UnknownNameError: The run has no such side of texts.
            UnreadableItemError: The encoder can make nothing of a text; the message names it.
            WeightsNotFoundError: The encoder's weights are nowhere to be found.
            WeightsMismatchError: The encoder that was found is another one.
            FeatureRangeError: A feature does not fit the type that the training stored.
            DivergedError: An embedding is not finite.
        """
        _check_list(texts, (str,), "embed_texts", "texts")
        chosen = self._text_side(side)

        return self._embed(chosen, texts, batch_size)

    def _text_side(self, name: str | None) -> Side:
        """Return the side of texts called `name`; None will do where there is one."""
        text_sides = {side.value: side for side in self._sides if side.modality is Modality.TEXT}
        if not text_sides:
            raise SpecError(f"{self.folder} aligns {in_words(self._sides)}: it embeds no texts")
        if name is None and len(text_sides) > 1:
            first, second = text_sides
            raise SpecError(
                f"{self.folder} aligns two text encoders, {self.encoders}: say through which, by "
                f"side={first!r} or side={second!r}"
            )
        if name is None:
            return Modality.TEXT
        if name not in text_sides:
            raise unknown_name("side", name, text_sides)
        return text_sides[name]

    @torch.inference_mode()
    def _embed(
        self,
        side: Side,
        contents: Sequence[Any],
        batch_size: int,
    ) -> Float32[np.ndarray, "n embed"]:
        names = [_name(content, position) for position, content in enumerate(contents)]
        embeddings = np.empty((len(contents), self.width), dtype=np.float32)
        start = 0
        features = self._run_encoders.features(side, contents, names, batch_size=batch_size)
        for streams in features:
            stop = start + len(streams[0])
            embeddings[start:stop] = self._adapt(streams, side)
            start = stop
        finite = np.isfinite(embeddings).all(axis=1)
        if not finite.all():
            name = names[int(np.argmin(finite))]
            raise DivergedError(
                f"the embedding of {name} is not finite, as an adapter gives whose training "
                f"diverged: {run_folder.ways_out(self.folder)} with a lower train.learning_rate"
            )
        return embeddings

    def _adapt(self, streams: Sequence[Tokens], side: Side) -> Float32[np.ndarray, "n embed"]:
        """Return the embeddings of rows, those of one length together: no row is padded."""
        all_embeddings = np.empty((len(streams[0]), self.width), dtype=np.float32)
        # padding takes part in presets without a mask: rows of one length need none
        lengths = torch.stack([stream.mask.sum(dim=1) for stream in streams], dim=1)
        for of_streams in torch.unique(lengths, dim=0):
            rows = torch.nonzero((lengths == of_streams).all(dim=1))[:, 0]
            same_length = [
                Tokens(
                    stream.values[rows][stream.mask[rows]].reshape(len(rows), length, -1),
                    torch.ones(len(rows), length, dtype=torch.bool),
                )
                for stream, length in zip(streams, of_streams.tolist(), strict=True)
            ]
            embeddings = self.adapter.embed(StreamTokens.of(same_length).to(self.device), side)
            all_embeddings[rows.numpy()] = embeddings.cpu().numpy()
        return all_embeddings

    def reading(self, side: Side) -> EncoderView:
        """Return the encoder of a side that reads one, with what the training kept of its tokens.

        Raises:
            SpecError: The side reads several streams.
            LightalignError: See `embed_images`.
        """
        reading, *further = self.readings(side)
        if further:
            raise SpecError(
                f"the {side.label} side of {self.folder.name} reads {len(further) + 1} streams, "
                "and this takes runs that read one"
            )
        return reading

    def readings(self, side: Side) -> tuple[EncoderView, ...]:
        """Return the encoder of each stream of a side, with what the training kept of its tokens.

        Raises:
            LightalignError: See `embed_images`.
        """
        return self._run_encoders.readings(side)


def _name(content: object, position: int) -> str:
    """Return how messages name one image or text."""
    shown = str(content) if isinstance(content, str | Path) else type(content).__name__
    return f"{position} ({shown:.60})"


def _check_list(contents: object, kinds: tuple[type, ...], verb: str, noun: str) -> None:
    """Refuse one item where a list of them is meant, and items of other types."""
    if isinstance(contents, kinds) or not isinstance(contents, Sequence):
        raise SpecError(f"{verb} takes a list of {noun}, found {contents!r:.60}")
    for content in contents:
        if not isinstance(content, kinds):
            allowed = " or ".join(kind.__name__ for kind in kinds)
            raise SpecError(f"{verb} takes {allowed}, found {type(content).__name__}")
