"""Embed images and texts by a trained run: its frozen encoders, then its adapter."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from ..adapters.checkpoint import load_adapter
from ..featcache.backends import build_encoder, resolve_device
from ..featcache.card import parse_card
from ..featcache.dtypes import finite_tokens, narrow, widen
from ..featcache.encoder import Encoder
from ..featcache.errors import FeatureRangeError, SpecError, WeightsMismatchError
from ..featcache.images import upright_rgb
from ..featcache.kinds import Kind
from ..featcache.spec import Table, fingerprint, read_toml
from ..featcache.tokens import Tokens
from ..featcache.types import Item, Modality
from . import runs


@dataclass(frozen=True)
class _Reading:
    """Hold an encoder with what the training kept of its tokens."""

    encoder: Encoder[Any]
    layer: int
    kind: Kind
    dtype: str

    def features(self, prepared: Sequence[Any], names: Sequence[str]) -> Tokens:
        """Return the features of a batch as its store would hold them."""
        (tokens,) = self.encoder.encode_layers(prepared, [self.layer])
        reduced = self.kind.reduce(tokens, self.encoder.layout(self.layer))
        stored, scales = narrow(reduced.values[reduced.mask].numpy(), self.dtype)
        finite = finite_tokens(stored, scales, self.dtype)
        if not finite.all():
            rows = torch.arange(len(reduced))[:, None].expand_as(reduced.mask)[reduced.mask]
            name = names[int(rows[int(np.argmin(finite))])]
            raise FeatureRangeError(f"{name}: a feature does not fit {self.dtype}")
        kept = torch.from_numpy(np.ascontiguousarray(widen(stored, scales, self.dtype)))
        values = torch.zeros(reduced.values.shape, dtype=kept.dtype)
        values[reduced.mask] = kept
        return Tokens(values, reduced.mask)


class Bundle:
    """Embed images and texts by the adapter of a finished run and the encoders it was trained on.

    An encoder is opened when it is first needed. It must be the very one whose features the adapter
    was trained on: weights, preprocessing, tokenizer and precision are compared.

    Args:
        folder: The run folder; nothing else is needed but the encoders' weights.
        device: `auto`, `cpu` or `cuda`.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.

    Raises:
        RunNotFoundError: The folder holds no trained adapter.
        StoreCorruptError: A file of the run is damaged.
        SpecError: The run is of a version that did not record its encoders.
        DeviceError: This machine has no such device.
    """

    def __init__(
        self, folder: Path, *, device: str = "auto", weights: Mapping[str, Path] | None = None
    ) -> None:
        self.folder = folder
        self.device = resolve_device(device)
        adapter, _, _ = load_adapter(folder)
        self.adapter = adapter.to(self.device)
        self._table = read_toml(folder / runs.SPEC)
        if "encoders" not in self._table:
            raise SpecError(f"{folder} does not say what its encoders were: train again")
        self._weights = dict(weights or {})
        unknown = sorted(set(self._weights) - set(self.encoders.values()))
        if unknown:
            raise SpecError(
                f"weights are named for {unknown[0]!r}; the encoders of {folder} are "
                f"{self.encoders}"
            )
        self._readings: dict[Modality, _Reading] = {}

    @property
    def encoders(self) -> dict[str, str]:
        """Return the name of the encoder of each modality."""
        return {modality: found["name"] for modality, found in self._table["encoders"].items()}

    @property
    def width(self) -> int:
        """Return the number of features of an embedding."""
        return self.adapter.out_width

    def embed_images(
        self, images: Sequence[str | Path | bytes | Image.Image], *, batch_size: int = 32
    ) -> Float32[np.ndarray, "n embed"]:
        """Return the unit-length embedding of each image.

        Args:
            images: Files, contents of files, or pictures that are already decoded.
            batch_size: Images per forward pass.

        Raises:
            UnreadableItemError: An image cannot be read; the message names it.
            WeightsNotFoundError: The encoder's weights are nowhere to be found.
            WeightsMismatchError: The encoder that was found is another one.
            FeatureRangeError: A feature does not fit the type that the training stored.
        """
        reading = self._reading(Modality.IMAGE)

        def prepare(position: int) -> Any:
            image, name = images[position], _name(images[position], position)
            if isinstance(image, Image.Image):
                return reading.encoder.preprocess(upright_rgb(image, item_id=name), item_id=name)
            if isinstance(image, bytes):
                return reading.encoder.prepare(Item(id=name, data=image))
            return reading.encoder.prepare(Item(id=name, path=Path(image).expanduser()))

        names = [_name(image, position) for position, image in enumerate(images)]
        return self._embed(Modality.IMAGE, prepare, names, batch_size)

    def embed_texts(
        self, texts: Sequence[str], *, batch_size: int = 32
    ) -> Float32[np.ndarray, "n embed"]:
        """Return the unit-length embedding of each text.

        Args:
            texts: Texts; what is longer than the encoder reads is cut off.
            batch_size: Texts per forward pass.

        Raises:
            SpecError: One text was given instead of a list of texts.
            WeightsNotFoundError: The encoder's weights are nowhere to be found.
            WeightsMismatchError: The encoder that was found is another one.
            FeatureRangeError: A feature does not fit the type that the training stored.
        """
        if isinstance(texts, str):
            raise SpecError(f"embed_texts takes a list of texts, found the text {texts!r:.40}")
        encoder = self._reading(Modality.TEXT).encoder

        def prepare(position: int) -> Any:
            name = _name(texts[position], position)
            return encoder.prepare(Item(id=name, text=texts[position]))

        names = [_name(text, position) for position, text in enumerate(texts)]
        return self._embed(Modality.TEXT, prepare, names, batch_size)

    @torch.inference_mode()
    def _embed(
        self,
        modality: Modality,
        prepare: Callable[[int], Any],
        names: Sequence[str],
        batch_size: int,
    ) -> Float32[np.ndarray, "n embed"]:
        if batch_size < 1:
            raise SpecError(f"batch_size must be at least 1, found {batch_size}")
        reading = self._reading(modality)
        found = np.empty((len(names), self.width), dtype=np.float32)
        for start in range(0, len(names), batch_size):
            rows = range(start, min(start + batch_size, len(names)))
            tokens = reading.features([prepare(row) for row in rows], [names[row] for row in rows])
            embeddings = self.adapter.embed(tokens.to(self.device), modality)
            found[rows.start : rows.stop] = embeddings.cpu().numpy()
        return found

    def _reading(self, modality: Modality) -> _Reading:
        if modality not in self._readings:
            self._readings[modality] = self._open(modality)
        return self._readings[modality]

    def _open(self, modality: Modality) -> _Reading:
        described: Table = self._table["encoders"][modality.value]
        stored: Table = self._table["stores"]["train"][modality.value]
        name, identity = described["name"], described["identity"]
        if "card" not in described:
            raise SpecError(f"{self.folder} holds no card of encoder {name!r}: train again")
        encoder = build_encoder(
            parse_card(name, described["card"]),
            weights=self._weights.get(name),
            device=str(self.device),
        )
        encoder.precision = identity.get("precision", encoder.precision)
        reading = _Reading(encoder, stored["layer"], Kind(stored["kind"]), stored["dtype"])
        now = dict(encoder.identity())
        if (
            fingerprint([now, stored["layer"], stored["kind"], stored["dtype"]])
            != (stored["encoder_key"])
        ):
            raise WeightsMismatchError(
                f"encoder {name!r} is not the one that {self.folder.name} was trained on: "
                f"{_difference(identity, now)}"
            )
        return reading


def load(
    run: str | Path | None,
    *,
    home: Path,
    device: str = "auto",
    weights: Mapping[str, str | Path] | None = None,
) -> Bundle:
    """Open a finished run, by name or folder, or the newest, to embed with it; see `Bundle`.

    Raises:
        RunNotFoundError: There is no such finished run.
        LightalignError: See `Bundle`.
    """
    places = {name: Path(path).expanduser() for name, path in (weights or {}).items()}
    folder = runs.find_run(home, None if run is None else str(run))
    return Bundle(folder, device=device, weights=places)


def _name(content: object, position: int) -> str:
    """Return how messages name one image or text."""
    shown = str(content) if isinstance(content, str | Path) else type(content).__name__
    return f"{position} ({shown:.60})"


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    differing = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    return (
        "; ".join(f"{key} was {then.get(key)!r:.60}, is {now.get(key)!r:.60}" for key in differing)
        or "it was recorded in another form; train again"
    )
