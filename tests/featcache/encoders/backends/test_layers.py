"""Layers before the last are the outputs of the library's own blocks, without any norm."""

from itertools import pairwise

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file

from lightalign.featcache.encoders.pooling import LayerLayout
from lightalign.featcache.errors import SpecError

VISION = ["timm vit", "transformers vit", "transformers dinov2", "transformers clip"]
TEXTS = ["transformers bert", "transformers distilbert with a head"]
NUM_LAYERS = {
    # all blocks of timm; of transformers two blocks and the embeddings
    "toy-image": 1,
    "toy-text": 1,
    "timm vit": 6,
    "timm convolutional": 5,
    "transformers vit": 3,
    "transformers dinov2": 3,
    "transformers clip": 3,
    "transformers bert": 3,
    "transformers distilbert with a head": 3,
}


def bare_model(name, tiny) -> torch.nn.Module:
    """Load the model with nothing of ours."""
    _, folder = tiny.built(name)
    if name == "transformers clip":
        return transformers.CLIPVisionModel.from_pretrained(folder).eval()
    if name.startswith("transformers"):
        return transformers.AutoModel.from_pretrained(folder).eval()
    options = {"img_size": 64} if name == "timm vit" else {}
    architecture = "test_vit" if name == "timm vit" else "test_efficientnet"
    model = timm.create_model(architecture, num_classes=5, **options).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model


def blocks_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the longest list of modules of one class: the blocks."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    lists += [module for module in model.modules() if isinstance(module, torch.nn.Sequential)]
    alike = [list(found) for found in lists if len({type(one) for one in found}) == 1]
    return max(alike, key=len)


def outputs_of(model, blocks, **inputs) -> list[torch.Tensor]:
    """Return what each of `blocks` puts out, caught by hooks."""
    caught: list[torch.Tensor] = []

    def catch(module, arguments, output):
        caught.append(output[0] if isinstance(output, tuple) else output)

    hooks = [block.register_forward_hook(catch) for block in blocks]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return caught


def prepared_of(encoder, tiny) -> list:
    return [encoder.prepare(item) for item in tiny.items_for(encoder)]


@pytest.mark.parametrize("name", VISION)
def test_the_last_but_one_layer_of_images_is_the_last_but_one_blocks_output(name, tiny):
    encoder = tiny.opened(name)
    model = bare_model(name, tiny)
    pixels = torch.stack(prepared_of(encoder, tiny))
    inputs = {"x": pixels} if name == "timm vit" else {"pixel_values": pixels}
    blocks = blocks_of(model)
    assert len(blocks) >= 2
    expected = outputs_of(model, blocks, **inputs)
    (found,) = encoder.encode_layers(list(pixels), [-2])
    torch.testing.assert_close(found.values, expected[-2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", TEXTS)
def test_the_last_but_one_layer_of_texts_is_the_last_but_one_blocks_output(name, tiny):
    """One text at a time: no padding stands between the two."""
    encoder = tiny.opened(name)
    model = bare_model(name, tiny)
    blocks = blocks_of(model)
    assert len(blocks) == 2
    prepared = prepared_of(encoder, tiny)
    (found,) = encoder.encode_layers(prepared, [-2])
    for row, ids in enumerate(prepared):
        expected = outputs_of(model, blocks, input_ids=torch.tensor([ids]))
        torch.testing.assert_close(
            found.values[row][found.mask[row]], expected[-2][0], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("name", NUM_LAYERS)
def test_several_layers_in_one_pass_are_those_of_one_pass_each(name, tiny):
    encoder = tiny.opened(name)
    prepared = prepared_of(encoder, tiny)
    # the last in the middle, one twice, in no order
    layers = [-2, -1, -3, -2] if NUM_LAYERS[name] > 1 else [-1, -1]
    together = encoder.encode_layers(prepared, layers)
    assert len(together) == len(layers)
    for layer, found in zip(layers, together, strict=True):
        (alone,) = encoder.encode_layers(prepared, [layer])
        torch.testing.assert_close(found.values[alone.mask], alone.values[alone.mask])
        assert torch.equal(found.mask, alone.mask)
        assert found.values.dtype is torch.float32
        assert not found.values.is_inference()


@pytest.mark.parametrize("name", NUM_LAYERS)
def test_the_last_layer_beside_others_is_what_encode_gives(name, tiny):
    encoder = tiny.opened(name)
    prepared = prepared_of(encoder, tiny)
    expected = encoder.encode(prepared)
    layers = [-2, -1] if NUM_LAYERS[name] > 1 else [-1]
    found = encoder.encode_layers(prepared, layers)[-1]
    torch.testing.assert_close(found.values[found.mask], expected.values[expected.mask])


@pytest.mark.parametrize("name", NUM_LAYERS)
def test_every_layer_has_the_layout_that_it_says(name, tiny):
    encoder = tiny.opened(name)
    prepared = prepared_of(encoder, tiny)[:1]
    layers = range(-NUM_LAYERS[name], 0)
    for layer, found in zip(layers, encoder.encode_layers(prepared, layers), strict=True):
        layout = encoder.layout(layer)
        assert layout.width == found.width
        if layout.tokens_per_item is not None:
            assert found.mask.shape == (1, layout.tokens_per_item)


@pytest.mark.parametrize("name", NUM_LAYERS)
def test_neighbouring_layers_differ(name, tiny):
    encoder = tiny.opened(name)
    layers = range(-NUM_LAYERS[name], 0)
    found = encoder.encode_layers(prepared_of(encoder, tiny)[:1], layers)
    for earlier, later in pairwise(found):
        same_shape = earlier.values.shape == later.values.shape
        assert not (same_shape and torch.allclose(earlier.values, later.values, atol=1e-3))


@pytest.mark.parametrize("name", NUM_LAYERS)
def test_a_layer_that_does_not_exist_is_refused_with_the_range(name, tiny):
    encoder = tiny.opened(name)
    prepared = prepared_of(encoder, tiny)[:1]
    for layer in (0, 3, -NUM_LAYERS[name] - 1):
        for ask in (lambda n: encoder.encode_layers(prepared, [-1, n]), encoder.layout):
            with pytest.raises(SpecError, match=rf"-1.*found.*{layer}") as caught:
                ask(layer)
            if NUM_LAYERS[name] > 1:
                assert f"layers -1 to -{NUM_LAYERS[name]}" in str(caught.value)


def test_earlier_stages_of_a_convolutional_model_have_larger_maps(tiny):
    """160 pixels: strides 2, 4, 8, 16 and 32 leave maps of 80, 40, 20, 10 and 5 cells.

    The last layer is the head's convolution after the last stage, so that the last but one is the
    stage of stride 16.
    """
    encoder = tiny.opened("timm convolutional")
    model = bare_model("timm convolutional", tiny)
    with torch.no_grad():
        maps = model.forward_intermediates(
            torch.stack(prepared_of(encoder, tiny)), intermediates_only=True
        )
    found = encoder.encode_layers(prepared_of(encoder, tiny), [-5, -4, -3, -2])
    for layer, tokens, expected, edge in zip(
        [-5, -4, -3, -2], found, maps, [80, 40, 20, 10], strict=False
    ):
        assert encoder.layout(layer) == LayerLayout(width=expected.shape[1], grid=(edge, edge))
        cell = tokens.values[:, edge * 2 + 3]  # row 2, column 3
        torch.testing.assert_close(cell, expected[:, :, 2, 3], rtol=1e-4, atol=1e-5)


def test_the_prefix_of_earlier_blocks_comes_first(tiny):
    encoder = tiny.opened("timm vit")
    assert encoder.layout(-2) == LayerLayout(width=64, prefix_tokens=1, grid=(4, 4))
    (found,) = encoder.encode_layers(prepared_of(encoder, tiny), [-2])
    model = bare_model("timm vit", tiny)
    caught = outputs_of(model, list(model.blocks), x=torch.stack(prepared_of(encoder, tiny)))
    torch.testing.assert_close(found.values[:, 0], caught[-2][:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", TEXTS)
def test_padding_does_not_change_an_earlier_layer_of_a_text(name, tiny):
    encoder = tiny.opened(name)
    prepared = prepared_of(encoder, tiny)
    (together,) = encoder.encode_layers(prepared, [-2])
    for row, one in enumerate(prepared):
        (alone,) = encoder.encode_layers([one], [-2])
        torch.testing.assert_close(
            together.values[row][together.mask[row]], alone.values[0], rtol=0, atol=1e-5
        )
