"""Images are prepared as the model's own library prepares them, and the identity says how."""

import io
import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from timm.data import create_transform

from lightalign.featcache.encoders.loading import build_encoder, open_encoder
from lightalign.featcache.types import Item


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_timm_images_are_prepared_by_its_evaluation_transform(tiny):
    encoder = tiny.opened("timm convolutional")
    settings = encoder.identity()["preprocessing"]
    assert settings.pop("library") == "timm"
    data = tiny.photo(3, (300, 200))
    expected = create_transform(**settings, is_training=False)(decoded(data))
    assert torch.equal(encoder.prepare(Item(id="i", data=data)), expected)


def test_transformers_images_are_prepared_by_the_directorys_processor(tiny):
    encoder = tiny.opened("transformers vit")
    data = tiny.photo(3, (300, 200))
    processor = transformers.AutoImageProcessor.from_pretrained(tiny.built("transformers vit")[1])
    expected = processor(images=decoded(data), return_tensors="pt")["pixel_values"][0]
    assert torch.equal(encoder.prepare(Item(id="i", data=data)), expected)


def test_white_is_one_where_mean_and_deviation_are_a_half(tiny):
    """A white pixel is 1.0 after rescaling, so (1.0 - 0.5) / 0.5 = 1."""
    stream = io.BytesIO()
    Image.new("RGB", (60, 80), "white").save(stream, "PNG")
    image = tiny.opened("transformers vit").prepare(Item(id="i", data=stream.getvalue()))
    assert image.shape == (3, 32, 32)
    torch.testing.assert_close(image, torch.ones(3, 32, 32))


@pytest.mark.parametrize(
    ("key", "value"),
    [("image_mean", [0.4, 0.5, 0.5]), ("resample", 2), ("do_rescale", False)],
)
def test_the_identity_changes_with_each_setting_of_the_processor(key, value, tiny, tmp_path):
    card, folder = tiny.copied("transformers vit", tmp_path)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    changed = build_encoder(card, weights=folder).identity()
    original = tiny.opened("transformers vit").identity()
    assert changed.pop("preprocessing") == {**original["preprocessing"], key: value}
    assert changed.items() <= original.items()


def test_the_identity_changes_with_timms_normalisation(tiny, tmp_path):
    card, folder = tiny.copied("timm vit", tmp_path)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "pretrained_cfg": {"mean": [0.1, 0.2, 0.3]}}))
    changed = build_encoder(card, weights=folder).identity()["preprocessing"]
    assert changed["mean"] == [0.1, 0.2, 0.3]
    assert tiny.opened("timm vit").identity()["preprocessing"]["mean"] != [0.1, 0.2, 0.3]


def test_the_toy_gives_the_mean_colour_of_each_cell_row_by_row():
    """A 4x4 grid over 8x8 pixels: cell (0, 1) is columns 2 and 3 of rows 0 and 1."""
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    picture[0:2, 2:4] = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]]
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    cells = open_encoder("toy-image").prepare(Item(id="i", data=stream.getvalue()))
    assert cells.shape == (16, 3)
    np.testing.assert_allclose(cells[1], [0.5, 0.5, 0.5], atol=1 / 255)
    assert not cells[[0, 2, 4, 5]].any()
