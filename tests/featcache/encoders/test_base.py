"""What every encoder promises, whichever library runs it."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lightalign.featcache.encoders.card import WeightsCard
from lightalign.featcache.encoders.loading import build_encoder, open_encoder
from lightalign.featcache.errors import (
    DeviceError,
    UnknownNameError,
    UnreadableItemError,
    WeightsMismatchError,
)
from lightalign.featcache.types import Item

NAMES = [
    "toy-image",
    "toy-text",
    "timm vit",
    "timm convolutional",
    "transformers vit",
    "transformers dinov2",
    "transformers clip",
    "transformers beit",
    "transformers bert",
    "transformers distilbert with a head",
    "transformers roberta",
    "transformers deberta",
]
LOADED = NAMES[2:]
VISION = NAMES[2:8]


@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_shape_and_type_that_is_promised(name, tiny):
    encoder = tiny.opened(name)
    tokens = encoder.encode([encoder.prepare(item) for item in tiny.items_for(encoder)])
    assert tokens.values.dtype is torch.float32
    assert tokens.values.device.type == "cpu"
    assert tokens.width == encoder.width
    assert torch.isfinite(tokens.values[tokens.mask]).all()
    assert not tokens.values.is_inference()
    if encoder.tokens_per_item is None:
        assert tokens.mask.any(dim=1).all()
    else:
        assert tokens.mask.shape == (4, encoder.tokens_per_item)
        assert tokens.mask.all()


@pytest.mark.parametrize("name", NAMES)
def test_batch_mates_and_padding_do_not_change_a_row(name, tiny):
    encoder = tiny.opened(name)
    prepared = [encoder.prepare(item) for item in tiny.items_for(encoder)]
    together = encoder.encode(prepared)
    for row, one in enumerate(prepared):
        alone = encoder.encode([one])
        torch.testing.assert_close(
            together.values[row][together.mask[row]], alone.values[0], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("name", NAMES)
def test_different_items_have_different_features(name, tiny):
    encoder = tiny.opened(name)
    first, _, third, _ = (encoder.encode([encoder.prepare(i)]) for i in tiny.items_for(encoder))
    assert (first.values[:, 0] - third.values[:, 0]).abs().max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_opening_twice_gives_the_same_identity_and_features(name, tiny):
    first, second = tiny.opened(name), tiny.open_again(name)
    item = tiny.items_for(first)[0]
    assert first.identity() == second.identity()
    assert torch.equal(
        first.encode([first.prepare(item)]).values, second.encode([second.prepare(item)]).values
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_identity_is_json_and_names_no_path(name, tiny, tmp_path_factory):
    text = json.dumps(tiny.opened(name).identity())
    assert json.loads(text) == tiny.opened(name).identity()
    assert str(tmp_path_factory.getbasetemp()) not in text


@pytest.mark.parametrize("name", NAMES)
def test_items_can_be_prepared_by_many_threads(name, tiny):
    encoder = tiny.opened(name)
    items = tiny.items_for(encoder) * 8
    with ThreadPoolExecutor(4) as pool:
        by_threads = list(pool.map(encoder.prepare, items))
    for item, prepared in zip(items, by_threads, strict=True):
        assert np.array_equal(np.asarray(prepared), np.asarray(encoder.prepare(item)))


@pytest.mark.parametrize("name", NAMES)
def test_an_item_of_the_other_modality_is_unreadable(name, tiny):
    encoder = tiny.opened(name)
    other = (
        Item(id="x", data=tiny.photo(0))
        if encoder.tokens_per_item is None
        else Item(id="x", text="a")
    )
    with pytest.raises(UnreadableItemError, match="x: holds no"):
        encoder.prepare(other)


@pytest.mark.parametrize("name", LOADED)
def test_changing_one_weight_changes_the_identity(name, tiny, tmp_path):
    card, folder = tiny.copied(name, tmp_path)
    state = load_file(folder / "model.safetensors")
    key = next(k for k in sorted(state) if "patch_embed" in k or "word_emb" in k or "conv" in k)
    state[key].view(-1)[0] += 1
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    changed = build_encoder(card, weights=folder).identity()
    assert changed.pop("weights") != tiny.opened(name).identity()["weights"]
    assert changed.items() <= tiny.opened(name).identity().items()


@pytest.mark.parametrize("name", LOADED)
def test_a_missing_tensor_is_refused(name, tiny, tmp_path):
    card, folder = tiny.copied(name, tmp_path)
    state = load_file(folder / "model.safetensors")
    key = next(k for k in sorted(state) if "patch_embed" in k or "word_emb" in k or "conv" in k)
    del state[key]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsMismatchError, match="missing ") as caught:
        build_encoder(card, weights=folder)
    assert key.split(".")[-2] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LOADED)
def test_a_tensor_left_over_is_refused(name, tiny, tmp_path):
    card, folder = tiny.copied(name, tmp_path)
    state = load_file(folder / "model.safetensors") | {"adapter.scale": torch.ones(1)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsMismatchError, match=r"unexpected \['adapter.scale'\]"):
        build_encoder(card, weights=folder)


@pytest.mark.parametrize("name", LOADED)
def test_broken_files_are_told_in_one_line(name, tiny, tmp_path):
    card, folder = tiny.copied(name, tmp_path)
    (folder / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(WeightsMismatchError, match="cannot read") as caught:
        build_encoder(card, weights=folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LOADED)
def test_weights_of_another_width_state_both(name, tiny):
    card, folder = tiny.built(name)
    with pytest.raises(WeightsMismatchError, match=r"promises .*99.* features, these weights give"):
        build_encoder(replace(card, width=99), weights=folder)


@pytest.mark.parametrize("name", VISION)
def test_weights_of_another_grid_state_both(name, tiny):
    card, folder = tiny.built(name)
    layout = replace(card.layout, grid=(9, 9))
    with pytest.raises(WeightsMismatchError, match=rf"{layout.tokens_per_item} tokens x .* give "):
        build_encoder(replace(card, layout=layout), weights=folder)


def test_loading_prints_nothing(tiny, capfd):
    for name in LOADED:
        build_encoder(tiny.built(name)[0], weights=tiny.built(name)[1])
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
@pytest.mark.parametrize("name", LOADED)
def test_features_do_not_tell_the_device(name, tiny):
    on_cpu = tiny.opened(name)
    card, folder = tiny.built(name)
    on_gpu = build_encoder(card, weights=folder, device="cuda")
    prepared = [on_cpu.prepare(item) for item in tiny.items_for(on_cpu)]
    first, second = on_cpu.encode(prepared), on_gpu.encode(prepared)
    torch.testing.assert_close(
        first.values[first.mask], second.values[second.mask], rtol=1e-4, atol=1e-4
    )
    assert on_cpu.identity() == on_gpu.identity()


def test_an_unknown_encoder_lists_the_close_ones():
    with pytest.raises(
        UnknownNameError, match=r"no encoder named 'toy-imag'; close: \['toy-image'"
    ):
        open_encoder("toy-imag")


def test_an_unknown_backend_lists_the_known(tiny):
    card, _ = tiny.built("timm vit")
    card = replace(card, backend="jax", weights=WeightsCard())
    with pytest.raises(UnknownNameError, match="no encoder backend named 'jax'"):
        build_encoder(card)


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(DeviceError, match=f"device '{device}' cannot be used: .+") as caught:
        open_encoder("toy-image", device=device)
    assert "\n" not in str(caught.value)
