"""What every encoder promises, whichever backend runs it; a new backend adds its example here."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from lightalign.featcache.encoders.base import LAST
from lightalign.featcache.encoders.loading import BACKENDS
from lightalign.featcache.encoders.references import find_card
from lightalign.featcache.errors import SpecError, UnreadableItemError
from lightalign.featcache.modalities import read_item
from lightalign.featcache.registry import list_names
from lightalign.featcache.types import PER_ROW, Item, Modality

from ...conftest import TINY

TOYS = ["toy-image", "toy-text"]
NAMES = [*TOYS, *TINY]
SMALLEST = [*TOYS, "timm vit", "transformers vit", "transformers bert"]


def card_of(name):
    return find_card(name) if name in TOYS else TINY[name][0]


def test_every_backend_of_the_registry_is_held_to_this():
    assert {card_of(name).backend for name in SMALLEST} == set(list_names(BACKENDS))


@pytest.mark.parametrize("name", SMALLEST)
def test_an_encoder_is_what_its_card_says(name, tiny):
    encoder, card = tiny.opened(name), card_of(name)
    assert (encoder.name, encoder.modality, encoder.width) == (card.name, card.modality, card.width)
    assert encoder.tokens_per_item == card.layout.tokens_per_item
    layout = encoder.layout()
    assert (layout.width, layout.tokens_per_item) == (encoder.width, encoder.tokens_per_item)


@pytest.mark.parametrize("name", SMALLEST)
def test_the_same_items_have_the_same_features_each_time(name, tiny):
    encoder = tiny.opened(name)
    batch = [encoder.prepare(item) for item in tiny.items_for(encoder)]
    first, second = encoder.encode(batch), encoder.encode_layers(batch, [LAST, LAST])
    for again in second:
        assert torch.equal(first.values[first.mask], again.values[again.mask])
        assert torch.equal(first.mask, again.mask)


@pytest.mark.parametrize("name", SMALLEST)
def test_a_layer_that_is_not_there_is_refused(name, tiny):
    encoder = tiny.opened(name)
    batch = [encoder.prepare(item) for item in tiny.items_for(encoder)[:1]]
    with pytest.raises(SpecError, match="-99"):
        encoder.encode_layers(batch, [-99])
    with pytest.raises(SpecError, match="-99"):
        encoder.layout(-99)


@pytest.mark.parametrize("name", SMALLEST)
def test_companions_have_a_line_a_token_or_a_row(name, tiny):
    encoder = tiny.opened(name)
    for item in tiny.items_for(encoder):
        arrays = encoder.companions(read_item(item, encoder.modality))
        assert tuple(arrays) == encoder.companion_names
        tokens = encoder.encode([encoder.prepare(item)])
        for companion, array in arrays.items():
            assert len(array) == (1 if companion in PER_ROW else int(tokens.mask.sum()))


@pytest.mark.parametrize("name", SMALLEST)
def test_the_size_of_a_text_is_its_tokens(name, tiny):
    """Batches are of similar size; images are all alike."""
    encoder = tiny.opened(name)
    batch = [encoder.prepare(item) for item in tiny.items_for(encoder)]
    sizes = [encoder.size(prepared) for prepared in batch]
    if encoder.modality is Modality.TEXT:
        assert sizes == encoder.encode(batch).mask.sum(dim=1).tolist()
    else:
        assert len(set(sizes)) == 1


@pytest.mark.parametrize("name", SMALLEST)
def test_an_exported_model_gives_the_features_or_is_refused(name, tiny):
    encoder = tiny.opened(name)
    if name in TOYS:
        with pytest.raises(SpecError, match="exported"):
            encoder.portable()
        return
    exportable = encoder.portable()
    batch = [encoder.prepare(item) for item in tiny.items_for(encoder)]
    inputs = exportable.collate(batch)
    assert len(inputs) == len(exportable.axes)
    expected = encoder.encode(batch)
    with torch.inference_mode():
        values = exportable.model(*inputs)
    torch.testing.assert_close(values[expected.mask], expected.values[expected.mask])


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
