"""A tiny timm model with a card of its own, as a user has one beside the packaged cards."""

from pathlib import Path

import timm
import torch
from timm.models import save_for_hf

CARD = """
modality = "image"
backend = "timm"
model = "test_convnext"
width = 64
layout = { grid = [5, 5] }
weights = { path = "model" }
"""


def write_timm_encoder(card: Path) -> None:
    """Write a card, and the folder `model` with its weights beside it; equal ones each time."""
    torch.manual_seed(0)
    model = timm.create_model("test_convnext", num_classes=5)
    save_for_hf(model, card.parent / "model", safe_serialization=True)
    card.write_text(CARD)
