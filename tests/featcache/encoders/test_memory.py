"""Live bytes are counted as by hand: 4 bytes a float32."""

import pytest
import torch

from lightalign.featcache.encoders.card import read_card
from lightalign.featcache.encoders.loading import open_encoder
from lightalign.featcache.encoders.memory import LiveTensors, bytes_of_an_item


def test_what_lives_at_once_is_counted():
    with LiveTensors() as live:
        first = torch.zeros(1000)
        second = first + 1
        assert live.num_bytes == 8000
        del first
        assert live.num_bytes == 4000
        third = second * 2
        del second, third
    assert live.num_bytes == 0
    assert live.peak_bytes == 8000


def test_views_and_what_was_there_before_cost_nothing():
    weights = torch.ones(10, 100)
    with LiveTensors() as live:
        turned = weights.t()
        assert live.num_bytes == 0
        made = turned.contiguous()
        rows = made[:5].view(-1)
        assert live.num_bytes == 4000
        del made
        assert live.num_bytes == 4000  # the view keeps it
        del rows
    assert live.num_bytes == 0


def test_a_toy_text_takes_its_projected_and_padded_tokens():
    """32 words at most of 16 float32 features: one copy projected, one padded, a mask."""
    encoder = open_encoder("toy-text")
    words = read_card("toy-text").layout.max_tokens
    one = words * encoder.width * 4
    assert 2 * one <= bytes_of_an_item(encoder) <= 4 * one


@pytest.mark.parametrize("name", ["timm vit", "transformers bert"])
def test_a_real_model_takes_more_than_its_output_and_leaves_nothing(name, tiny):
    encoder = tiny.opened(name)
    items = tiny.items_for(encoder)
    before = encoder.encode([encoder.prepare(items[0])]).values
    assert bytes_of_an_item(encoder) > before.numel() * 4
    assert torch.equal(encoder.encode([encoder.prepare(items[0])]).values, before)
