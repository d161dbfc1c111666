"""Homes whose image encoder, a tiny timm model, has stores of several layers."""

import shutil
from pathlib import Path

from ...timm_encoder import write_timm_encoder
from ..conftest import extract_toy

IMAGES = "layered"  # name of the encoder


def make_layered_home(folder: Path, *, layers: tuple[int, ...] = (-1, -2), **changes) -> Path:
    """Return a new home below `folder` with means of several layers of images, and of texts.

    Args:
        folder: Where it is made, with the card and the weights of the image encoder.
        layers: Of the images.
        changes: Fields of `ExtractSpec` for images and texts.
    """
    card = folder / f"{IMAGES}.toml"
    if not card.exists():
        write_timm_encoder(card)
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    fields = {"features": ("mean",), **changes}
    extract_toy(home, str(card), layers=layers, **fields)
    extract_toy(home, "toy-text", **fields)
    return home
