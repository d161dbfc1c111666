"""Homes whose image encoder, a tiny timm model, has stores of several layers."""

import shutil
from pathlib import Path

import timm
import torch
from timm.models import save_for_hf

from ..conftest import extract_toy

CARD = """
modality = "image"
backend = "timm"
model = "test_convnext"
width = 64
layout = { grid = [5, 5] }
weights = { path = "model" }
"""
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
        torch.manual_seed(0)
        model = timm.create_model("test_convnext", num_classes=5)
        save_for_hf(model, folder / "model", safe_serialization=True)
        card.write_text(CARD)
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    fields = {"features": ("mean",), **changes}
    extract_toy(home, str(card), layers=layers, **fields)
    extract_toy(home, "toy-text", **fields)
    return home
