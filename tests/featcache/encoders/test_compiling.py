"""A compiled encoder gives the same features, whatever the size of the batch."""

import pytest
import torch

from lightalign.featcache.encoders.precision import SAME_COSINE, compile_encoder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", ["timm vit", "timm convolutional", "transformers bert"])
def test_compiling_changes_features_to_rounding(name, tiny):
    encoder = tiny.open_again(name)
    prepared = [encoder.prepare(item) for item in tiny.items_for(encoder)]
    exact = [encoder.encode_layers(part, [-1, -2]) for part in (prepared, prepared[:1])]
    assert compile_encoder(encoder) >= SAME_COSINE
    for part, expected in zip((prepared, prepared[:1]), exact, strict=True):
        for one, other in zip(encoder.encode_layers(part, [-1, -2]), expected, strict=True):
            assert torch.equal(one.mask, other.mask)
            torch.testing.assert_close(
                one.values[one.mask], other.values[other.mask], rtol=1e-4, atol=1e-4
            )
