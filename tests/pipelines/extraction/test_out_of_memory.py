"""A batch that does not fit is encoded in halves, and its size is remembered."""

import pytest
import torch

from lightalign.featcache.encoders.backends.toy import ToyEncoder
from lightalign.featcache.encoders.references import find_card
from lightalign.featcache.encoders.weights import Weights
from lightalign.featcache.errors import OutOfMemoryError
from lightalign.pipelines.extraction.out_of_memory import encode_within_memory


class NarrowEncoder(ToyEncoder):
    """Have the memory for `most` items at a time."""

    def __init__(self, most):
        no_weights = Weights(files=None, origin="none needed")
        super().__init__(find_card("toy-text"), no_weights, device=torch.device("cpu"))
        self.most = most
        self.sizes = []

    def encode_layers(self, batch, layers):
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            raise MemoryError("no room")
        return super().encode_layers(batch, layers)


def test_eight_items_where_two_fit_fail_twice_and_come_in_order():
    """8 and 4 do not fit; then 2 at a time: 4 batches. Later batches of 8 begin with 2."""
    encoder, fitting = NarrowEncoder(2), {"toy-text": 8}
    texts = ["a", "a b", "a b c", "a", "b", "c", "b c", "c d"]
    batch = [encoder.preprocess(text, item_id=text) for text in texts]
    (tokens,) = encode_within_memory(encoder, batch, [-1], fitting)
    assert encoder.sizes == [8, 4, 2, 2, 2, 2]
    assert fitting == {"toy-text": 2}
    expected = encoder.encode(batch)
    assert torch.equal(tokens.mask, expected.mask)
    assert torch.equal(tokens.values, expected.values)
    encode_within_memory(encoder, batch, [-1], fitting)
    assert encoder.sizes[6:] == [2, 2, 2, 2]


def test_one_item_that_does_not_fit_is_an_error_that_names_the_encoder():
    encoder = NarrowEncoder(0)
    batch = [encoder.preprocess("a", item_id="1")] * 2
    with pytest.raises(OutOfMemoryError, match="'toy-text' lacks the memory for one item"):
        encode_within_memory(encoder, batch, [-1], {"toy-text": 2})
