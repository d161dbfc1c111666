"""Cards derived from what timm knows of a model."""

import difflib
import shlex
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import timm.models
import torch

from ...errors import SpecError, UnknownNameError
from ...home import expanded
from ...types import Modality
from ..card import EncoderCard, Layout, WeightsCard
from ..weights import find_hub_file, read_config
from ._checks import NO_CLASS_TOKEN, has_class_token
from ._timm_models import ModelDescription, build, describe, is_of_transformers
from ._timm_tokens import FeatureShape, find_shape


def derive_timm_card(model: str, *, name: str, weights: Path | None = None) -> EncoderCard:
    """Return the card of a timm model, or of a hub directory that timm wrote.

    The model is built without memory for its weights, to see which tokens it gives.

    Args:
        model: Name of a model, with or without its tag, a folder, or `OWNER/NAME` of the hub.
        name: Name of the card.
        weights: Weights file or hub directory that is used instead of the model's own.

    Raises:
        SpecError: The model is of transformers.
        UnknownNameError: timm has no such model.
        WeightsMismatchError: The model gives no grid of tokens, or cannot be built.
        WeightsNotFoundError: The hub's repository has no configuration that could be read.
    """
    folder = expanded(Path(model))
    files = folder.absolute() if folder.is_dir() else None
    hub = model if files is None and "/" in model else None
    card = EncoderCard(
        name=name,
        title=f"{model} of timm",
        modality=Modality.IMAGE,
        backend="timm",
        model=model,
        width=1,
        layout=Layout(grid=(1, 1)),
        licence="not stated",
        source="timm",
        weights=WeightsCard(hub=hub, path=None if files is None else str(files)),
    )
    if files is None and hub is None:
        card = _named(card)
    described = files if weights is None else expanded(weights)
    if hub is not None and weights is None:
        path = find_hub_file(hub, "config.json", required=True)
        assert path is not None, "a required file is there, or was an error"
        described = path.parent
    path = None if described is None else described / "config.json"
    if path is not None and path.is_file() and is_of_transformers(read_config(card, path)):
        reference = model if weights is None else str(weights)
        raise SpecError(
            f"{reference} is a model of transformers: take --encoder "
            f"{shlex.quote(f'hf:{reference}')}"
        )
    description = describe(card, described)
    if files is not None or hub is not None:
        title = f"{description.architecture} in {files or hub}"
        card = replace(card, model=description.architecture, title=title)
    shape, has_class = _shape(card, description, described)
    layout = Layout(prefix_tokens=shape.prefix_tokens, grid=shape.grid)
    note = "" if shape.prefix_tokens and has_class else NO_CLASS_TOKEN
    return replace(card, width=shape.width, layout=layout, note=note)


def _named(card: EncoderCard) -> EncoderCard:
    """Return a card with what timm keeps for the name of its model."""
    architecture, _, tag = card.model.partition(".")
    if not timm.is_model(architecture):
        raise _unknown(card.model, timm.list_models())
    pretrained: Any = None
    with suppress(RuntimeError):  # of a tag that is not there
        pretrained = timm.get_pretrained_cfg(card.model, allow_unregistered=False)
    if pretrained is None:
        raise _unknown(card.model, timm.list_pretrained(f"{architecture}.*"))
    tagged = f"{architecture}.{pretrained.tag or tag}".rstrip(".")
    # weights under a file name of their own share a repository with others
    hub = None if pretrained.hf_hub_filename else pretrained.hf_hub_id
    if hub is not None and hub.endswith("/"):
        hub = f"{hub}{tagged}"
    return replace(
        card,
        model=tagged,
        title=f"{tagged} of timm",
        licence=pretrained.license or "not stated",
        source=pretrained.origin_url or "timm",
        weights=WeightsCard(hub=hub),
    )


def _unknown(model: str, names: Collection[str]) -> UnknownNameError:
    """Return the error for a model that timm does not have; it has too many to list them all."""
    close = difflib.get_close_matches(model, names, n=5, cutoff=0.6)
    return UnknownNameError(
        f"timm {timm.__version__} has no model named {model!r}; "
        + (f"close: {close}" if close else "timm.list_models() in Python lists all")
    )


def _shape(
    card: EncoderCard, description: ModelDescription, place: Path | None
) -> tuple[FeatureShape, bool]:
    """Return where the model's tokens lie, and whether one of them is a class token."""
    with torch.device("meta"):
        model = build(card, description, place).eval()
    size = description.image_size or model.pretrained_cfg["input_size"][-2:]
    what = f"encoder {card.name!r} ({description.architecture})"
    with torch.inference_mode():
        try:
            features = model.forward_features(torch.zeros(1, 3, *size, device="meta"))
        except (NotImplementedError, RuntimeError):  # some look at values, which are not there
            model = build(card, description, place).eval()
            features = model.forward_features(torch.zeros(1, 3, *size))
    shape = find_shape(model, features, image=(int(size[0]), int(size[1])), what=what)
    return shape, has_class_token(model)
