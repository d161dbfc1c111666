"""Encoders of every library refuse what does not fit them, in one line."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightalign.featcache.encoders.card import WeightsCard
from lightalign.featcache.encoders.loading import build_encoder, open_encoder
from lightalign.featcache.errors import (
    DeviceError,
    UnknownNameError,
    WeightsMismatchError,
)
from lightalign.featcache.types import Modality

from ..conftest import TINY

LOADED = [*TINY]
VISION = [name for name in TINY if TINY[name][0].modality is Modality.IMAGE]


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
