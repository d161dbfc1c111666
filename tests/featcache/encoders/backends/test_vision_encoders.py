"""Vision encoders give the numbers of the bare library, after the final norm."""

import json

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

from lightalign.featcache.encoders.loading import build_encoder
from lightalign.featcache.errors import (
    WeightsMismatchError,
)

from ...conftest import VISION_CARD, save_vision


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


# What vision models of transformers do besides


def bare(**options):
    return {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
            "intermediate_size": 64, "patch_size": 16, **options}  # fmt: skip


def test_vit_mae_keeps_every_patch_in_its_order(tiny, tmp_path):
    """As it was saved it drops three of four patches at random, and shuffles the others."""
    torch.manual_seed(0)
    config = transformers.ViTMAEConfig(
        **bare(), decoder_hidden_size=16, decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2, decoder_intermediate_size=16,
    )  # fmt: skip
    model = transformers.ViTMAEForPreTraining(config)  # with a decoder, of which nothing is read
    folder = save_vision(tmp_path / "mae", model)
    encoder = build_encoder(VISION_CARD, weights=folder)
    images = [tiny.pixels(encoder, seed) for seed in (0, 1)]
    first, second = encoder.encode(images), encoder.encode(images)
    assert torch.equal(first.values, second.values)
    assert encoder.identity()["masked"] == "nothing"
    config.mask_ratio = 0.0
    noise = torch.arange(4.0).expand(2, -1)
    with torch.no_grad():
        expected = model.eval().vit(pixel_values=torch.stack(images), noise=noise)
    torch.testing.assert_close(first.values, expected.last_hidden_state, rtol=0, atol=1e-5)


def test_the_norm_of_the_pooled_vector_is_found_and_named(tiny, tmp_path):
    """ConvNeXt normalises the mean of its last map, ChineseCLIP its CLS token."""
    torch.manual_seed(0)
    convnext = transformers.ConvNextModel(
        transformers.ConvNextConfig(hidden_sizes=[8, 8, 16, 32], depths=[1, 1, 1, 1])
    )
    chinese = transformers.ChineseCLIPVisionModel(transformers.ChineseCLIPVisionConfig(**bare()))
    one_cell = tiny.image_card("huggingface", width=32, grid=(1, 1), prefix=0)
    cases = [
        (convnext, "layernorm on tokens", one_cell),
        (chinese, "post-layernorm on tokens", VISION_CARD),
    ]
    for model, name, card in cases:
        folder = save_vision(tmp_path / name, model.eval())
        encoder = build_encoder(card, weights=folder)
        assert encoder.identity()["layer"] == name
        with torch.no_grad():
            output = model(pixel_values=tiny.pixels(encoder)[None])
        tokens = encoder.encode([tiny.pixels(encoder)])
        # one cell is its own mean, and CLS is what the norm is of
        torch.testing.assert_close(tokens.values[:, 0], output.pooler_output, rtol=0, atol=1e-5)


def test_data2vec_normalises_every_token_by_the_norm_of_its_pooler(tiny, tmp_path):
    torch.manual_seed(0)
    config = transformers.Data2VecVisionConfig(**bare(), use_mean_pooling=True)
    model = transformers.Data2VecVisionModel(config, add_pooling_layer=True).eval()
    folder = save_vision(tmp_path / "data2vec", model)
    encoder = build_encoder(VISION_CARD, weights=folder)
    with torch.no_grad():
        last = model(pixel_values=tiny.pixels(encoder)[None]).last_hidden_state
        expected = model.pooler.layernorm(last)
    found = encoder.encode([tiny.pixels(encoder)]).values
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert encoder.identity()["layer"] == "pooler-norm on tokens"


def test_heads_of_the_class_that_wrote_the_files_are_passed_over(tiny, tmp_path):
    """PoolFormer's classifier has a norm of its own, which is no part of the model."""
    torch.manual_seed(0)
    config = transformers.PoolFormerConfig(hidden_sizes=[8, 8, 16, 32], depths=[1, 1, 1, 1])
    folder = save_vision(tmp_path / "pool", transformers.PoolFormerForImageClassification(config))
    card = tiny.image_card("huggingface", width=32, grid=(1, 1), prefix=0)
    assert build_encoder(card, weights=folder).identity()["layer"] == "final-norm"
    table = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**table, "architectures": None}))
    with pytest.raises(WeightsMismatchError, match=r"unexpected \['norm.bias', 'norm.weight'\]"):
        build_encoder(card, weights=folder)
