"""Vision encoders give the numbers of the bare library, after the final norm."""

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

from lightalign.featcache.backends import build_encoder
from lightalign.featcache.errors import (
    WeightsMismatchError,
)


def test_timm_tokens_are_those_of_forward_features(tiny):
    encoder = tiny.opened("timm vit")
    model = timm.create_model("test_vit", num_classes=5, img_size=64).eval()
    model.load_state_dict(load_file(tiny.built("timm vit")[1] / "model.safetensors"))
    images = torch.stack([tiny.pixels(encoder, 0), tiny.pixels(encoder, 1)])
    with torch.no_grad():
        expected = model.forward_features(images)
    torch.testing.assert_close(encoder.encode(list(images)).values, expected, rtol=0, atol=1e-5)


def test_convolutional_cells_are_read_row_by_row(tiny):
    encoder = tiny.opened("timm convolutional")
    model = timm.create_model("test_efficientnet", num_classes=5).eval()
    model.load_state_dict(load_file(tiny.built("timm convolutional")[1] / "model.safetensors"))
    image = tiny.pixels(encoder)
    with torch.no_grad():
        maps = model.forward_features(image[None])
    values = encoder.encode([image]).values[0]
    torch.testing.assert_close(values[0], maps[0, :, 0, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(values[1], maps[0, :, 0, 1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(values[5], maps[0, :, 1, 0], rtol=1e-4, atol=1e-5)


def test_beit_of_timm_normalises_every_token(tiny, tmp_path):
    options = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}
    folder = tiny.save_timm(tmp_path / "beit", "beit_base_patch16_224", **options)
    encoder = build_encoder(
        tiny.image_card("timm", width=32, grid=(2, 2), prefix=1), weights=folder
    )
    model = timm.create_model("beit_base_patch16_224", num_classes=5, **options).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    with torch.no_grad():
        expected = model.fc_norm(model.forward_features(tiny.pixels(encoder)[None]))
    torch.testing.assert_close(
        encoder.encode([tiny.pixels(encoder)]).values, expected, rtol=0, atol=1e-5
    )
    assert encoder.identity()["final_norm"] == "fc-norm on tokens"


@pytest.mark.parametrize("name", ["transformers vit", "transformers dinov2"])
def test_transformers_tokens_are_the_last_hidden_state(name, tiny):
    encoder = tiny.opened(name)
    model = transformers.AutoModel.from_pretrained(tiny.built(name)[1]).eval()
    with torch.no_grad():
        expected = model(pixel_values=tiny.pixels(encoder)[None]).last_hidden_state
    torch.testing.assert_close(
        encoder.encode([tiny.pixels(encoder)]).values, expected, rtol=0, atol=1e-5
    )


def test_clip_tokens_have_the_norm_of_the_pooled_vector(tiny):
    """The pooled output is the normalised CLS token, which is our first token."""
    encoder = tiny.opened("transformers clip")
    model = transformers.CLIPModel.from_pretrained(tiny.built("transformers clip")[1]).eval()
    with torch.no_grad():
        output = model.vision_model(pixel_values=tiny.pixels(encoder)[None])
    values = encoder.encode([tiny.pixels(encoder)]).values
    torch.testing.assert_close(values[:, 0], output.pooler_output, rtol=0, atol=1e-5)
    assert (values - output.last_hidden_state).abs().max() > 0.1


def test_beit_of_transformers_normalises_every_token(tiny):
    encoder = tiny.opened("transformers beit")
    model = transformers.BeitModel.from_pretrained(tiny.built("transformers beit")[1]).eval()
    with torch.no_grad():
        output = model(pixel_values=tiny.pixels(encoder)[None]).last_hidden_state
        expected = model.pooler.layernorm(output)
    torch.testing.assert_close(
        encoder.encode([tiny.pixels(encoder)]).values, expected, rtol=0, atol=1e-5
    )


def test_beit_without_its_norm_is_refused(tiny, tmp_path):
    card, folder = tiny.copied("transformers beit", tmp_path)
    state = load_file(folder / "model.safetensors")
    kept = {key: state[key] for key in state if "pooler" not in key}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsMismatchError, match=r"missing \['pooler.layernorm.bias'"):
        build_encoder(card, weights=folder)


@pytest.mark.parametrize("name", ["transformers vit", "transformers bert"])
def test_a_missing_pooler_changes_nothing(name, tiny, tmp_path):
    card, folder = tiny.copied(name, tmp_path)
    state = load_file(folder / "model.safetensors")
    kept = {key: state[key] for key in state if "pooler" not in key}
    assert len(kept) < len(state)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    assert build_encoder(card, weights=folder).identity() == tiny.opened(name).identity()
