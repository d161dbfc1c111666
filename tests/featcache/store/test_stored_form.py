"""Fresh features as a store holds them, by the three that make them: equal bytes."""

import numpy as np
import pytest
import torch

from lightalign.featcache.encoders.card import read_card
from lightalign.featcache.encoders.loading import build_encoder
from lightalign.featcache.encoders.pooling import FeaturePooling, LayerLayout
from lightalign.featcache.store.key import DTYPES
from lightalign.featcache.store.stored_form import as_stored
from lightalign.featcache.store.stored_types import SCALES, dequantise
from lightalign.featcache.tokens import Tokens
from lightalign.pipelines.exporting.towers import WholeTower
from lightalign.pipelines.extraction.shard_rows import ShardRows
from lightalign.pipelines.runs.run_encoders import EncoderView


@pytest.mark.parametrize("dtype", DTYPES)
def test_extraction_embedder_and_export_hold_equal_bytes(dtype):
    """Three rows of four, two and four tokens; one token is zeros, one far larger."""
    values = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0))
    values[0, 1] = 0
    values[2, 3] *= 1e4
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    tokens = Tokens(values, mask)

    rows = ShardRows(dtype=dtype, width=7)
    rows.add(tokens, sources=np.arange(3), targets=np.arange(3))
    shard = rows.features({0: "a", 1: "b", 2: "c"}, {})
    stored = dequantise(shard.values, shard.companions.get(SCALES), dtype)

    encoder = build_encoder(read_card("toy-text"), device="cpu")
    encoder.encode_layers = lambda prepared, layers: [tokens]
    view = EncoderView(encoder, -1, LayerLayout(width=7), FeaturePooling("tokens"), dtype)
    embedded = view.features([None] * 3, ["a", "b", "c"])

    export = WholeTower.__new__(WholeTower)
    torch.nn.Module.__init__(export)
    seen = []
    export.encoder, export._mask, export._reading = (lambda *_: values), 1, view
    export.tower = lambda values, mask: seen.append(values[mask]) or values[:, 0]
    export(values, mask.long())

    assert embedded.values[mask].numpy().tobytes() == stored.tobytes()
    assert seen[0].numpy().tobytes() == stored.astype(np.float32).tobytes()


def test_as_many_axes_as_there_are_stay():
    """An export rounds a padded batch; of (254, -127, 3) the scale is 2."""
    stored = as_stored(torch.tensor([[[254.0, -127, 3]]]), "int8")
    values, scales = stored.arrays()
    assert values.tolist() == [[[127, -64, 2]]]
    assert scales.tolist() == [[2]]
    assert stored.floats().tolist() == [[[254, -128, 4]]]
