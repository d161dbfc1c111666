"""What is kept of each row: numbers worked out by hand, or by NumPy in float64."""

import numpy as np
import pytest
import torch

from lightalign.featcache.encoders.pooling import POOLED, FeaturePooling, LayerLayout
from lightalign.featcache.errors import SpecError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import Modality

IMAGE = LayerLayout(width=2, prefix_tokens=1, grid=(2, 2))
BARE_IMAGE = LayerLayout(width=2, grid=(2, 2))
TEXT = LayerLayout(width=2)
CAUSAL = LayerLayout(width=2, constant_first=True)
REGISTERS = LayerLayout(width=2, prefix_tokens=4, grid=(2, 2), first_is_class=False)
WORDS = LayerLayout(width=2, first_is_class=False)
EMBEDDINGS = LayerLayout(width=2, prefix_tokens=1, grid=(2, 2), constant_first=True)


def image_tokens() -> Tokens:
    """Return one image: the CLS token (9, 9), then the cells (1, 0), (2, 0), (3, 0), (6, 4)."""
    values = torch.tensor([[[9.0, 9], [1, 0], [2, 0], [3, 0], [6, 4]]])
    return Tokens(values, torch.ones(1, 5, dtype=torch.bool))


def text_tokens(padding: float) -> Tokens:
    """Return two texts: (1, 2), (3, 4), (5, 9) and, padded, (7, 8)."""
    values = torch.full((2, 3, 2), padding)
    values[0] = torch.tensor([[1.0, 2], [3, 4], [5, 9]])
    values[1, 0] = torch.tensor([7.0, 8])
    return Tokens(values, torch.tensor([[True, True, True], [True, False, False]]))


def random_grid(rows: int, columns: int, *, prefix: int = 0, seed: int = 0) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, prefix + rows * columns, 5, generator=generator)
    return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool))


def pooled_by_numpy(tokens: Tokens, layout: LayerLayout, rows: int, columns: int) -> np.ndarray:
    """Return the mean of each cell: floor(i * H / h) up to ceil((i + 1) * H / h) of the rows."""
    height, width = layout.grid
    values = tokens.values.double().numpy()[:, layout.prefix_tokens :]
    cells = values.reshape(len(values), height, width, -1)
    pooled = [
        cells[
            :,
            row * height // rows : -(-(row + 1) * height // rows),
            column * width // columns : -(-(column + 1) * width // columns),
        ].mean(axis=(1, 2))
        for row in range(rows)
        for column in range(columns)
    ]
    return np.stack(pooled, axis=1)


def test_tokens_keeps_everything():
    tokens = text_tokens(0.0)
    assert FeaturePooling("tokens").reduce(tokens, TEXT) is tokens
    assert FeaturePooling("tokens").keeps_tokens


def test_cls_keeps_the_first_token():
    assert FeaturePooling("cls").reduce(image_tokens(), IMAGE).values.tolist() == [[[9, 9]]]
    assert FeaturePooling("cls").reduce(text_tokens(0.0), TEXT).values.tolist() == [
        [[1, 2]],
        [[7, 8]],
    ]


@pytest.mark.parametrize("padding", [0.0, float("nan")])
def test_last_keeps_the_last_real_token_whichever_side_is_padded(padding):
    assert FeaturePooling("last").reduce(text_tokens(padding), TEXT).values.tolist() == [
        [[5, 9]],
        [[7, 8]],
    ]
    padded = text_tokens(padding)
    left = Tokens(padded.values.flip(1), padded.mask.flip(1))  # (5, 9), (3, 4), (1, 2); (7, 8)
    assert FeaturePooling("last").reduce(left, TEXT).values.tolist() == [[[1, 2]], [[7, 8]]]


def test_pooled_is_read_in_place_of_the_last_layer_only():
    assert FeaturePooling("pooled").layer_read(-1) == POOLED
    assert [FeaturePooling(kind).layer_read(-2) for kind in ("tokens", "cls", "mean", "last")] == [
        -2
    ] * 4
    with pytest.raises(SpecError, match="of the last layer, -1, only; found layer -2"):
        FeaturePooling("pooled").layer_read(-2)


def test_the_mean_of_an_image_leaves_the_prefix_out():
    """(1 + 2 + 3 + 6) / 4 = 3 and 4 / 4 = 1."""
    assert FeaturePooling("mean").reduce(image_tokens(), IMAGE).values.tolist() == [[[3, 1]]]


def test_the_mean_of_an_image_without_prefix_takes_all_its_tokens():
    """(1 + 2 + 3 + 6) / 4 = 3 and 4 / 4 = 1."""
    cells = image_tokens().values[:, 1:]
    tokens = Tokens(cells, torch.ones(1, 4, dtype=torch.bool))
    assert FeaturePooling("mean").reduce(tokens, BARE_IMAGE).values.tolist() == [[[3, 1]]]


@pytest.mark.parametrize("padding", [0.0, 1e30, float("nan"), float("inf")])
def test_the_mean_of_a_text_leaves_padding_out_whatever_it_holds(padding):
    """(1 + 3 + 5) / 3 = 3 and (2 + 4 + 9) / 3 = 5; one token is its own mean."""
    found = FeaturePooling("mean").reduce(text_tokens(padding), TEXT)
    assert found.values.tolist() == [[[3, 5]], [[7, 8]]]


def test_every_reduced_token_is_real():
    for kind in ("cls", "mean", "last", "pooled"):
        found = FeaturePooling(kind).reduce(text_tokens(float("nan")), TEXT)
        assert found.mask.tolist() == [[True], [True]]
        assert found.values.is_contiguous()


def test_a_grid_of_one_cell_is_the_mean():
    tokens = random_grid(3, 4, prefix=2)
    layout = LayerLayout(width=5, prefix_tokens=2, grid=(3, 4))
    mean, grid = (
        FeaturePooling(name).reduce(tokens, layout).values for name in ("mean", "grid:1x1")
    )
    torch.testing.assert_close(grid, mean)


def test_a_grid_that_divides_is_the_mean_of_its_blocks():
    """4 x 4 cells 0 to 15: the upper left block holds 0, 1, 4 and 5, mean 2.5."""
    values = torch.arange(16.0).reshape(1, 16, 1)
    tokens = Tokens(values, torch.ones(1, 16, dtype=torch.bool))
    found = FeaturePooling("grid:2x2").reduce(tokens, LayerLayout(width=1, grid=(4, 4)))
    assert found.values.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_neighbours_share_the_middle_of_a_grid_that_does_not_divide():
    """3 x 1 cells 1, 2, 6 to two: (1 + 2) / 2 and (2 + 6) / 2."""
    tokens = Tokens(torch.tensor([[[1.0], [2], [6]]]), torch.ones(1, 3, dtype=torch.bool))
    found = FeaturePooling("grid:2x1").reduce(tokens, LayerLayout(width=1, grid=(3, 1)))
    assert found.values.flatten().tolist() == [1.5, 4]


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize(
    ("grid", "kept"), [((7, 7), (2, 2)), ((7, 7), (3, 5)), ((14, 14), (7, 7)), ((5, 9), (5, 2))]
)
def test_a_coarser_grid_is_that_of_numpy_in_float64(grid, kept, prefix):
    layout = LayerLayout(width=5, prefix_tokens=prefix, grid=grid)
    tokens = random_grid(*grid, prefix=prefix)
    found = FeaturePooling(f"grid:{kept[0]}x{kept[1]}").reduce(tokens, layout)
    expected = pooled_by_numpy(tokens, layout, *kept)
    np.testing.assert_allclose(found.values.double().numpy(), expected, atol=1e-6)
    assert found.mask.shape == (3, kept[0] * kept[1])


@pytest.mark.parametrize(
    ("kind", "image", "text"),
    [("tokens", 5, None), ("cls", 1, 1), ("mean", 1, 1), ("pooled", 1, 1)],
)
def test_the_number_of_tokens_is_known_before_any_is_seen(kind, image, text):
    assert FeaturePooling(kind).tokens_per_item(IMAGE, Modality.IMAGE) == image
    assert FeaturePooling(kind).tokens_per_item(TEXT, Modality.TEXT) == text


def test_the_number_of_cells_is_known_before_any_is_seen():
    layout = LayerLayout(width=5, prefix_tokens=1, grid=(14, 7))
    assert FeaturePooling("grid:7x2").tokens_per_item(layout, Modality.IMAGE) == 14


@pytest.mark.parametrize(
    ("kind", "layout", "modality", "message"),
    [
        ("cls", BARE_IMAGE, Modality.IMAGE, "need a CLS token"),
        ("grid:3x2", IMAGE, Modality.IMAGE, "at least 3x2, this encoder has 2x2"),
        ("grid:2x3", IMAGE, Modality.IMAGE, "at least 2x3, this encoder has 2x2"),
        ("grid:1x1", TEXT, Modality.TEXT, "this encoder has none"),
        ("last", IMAGE, Modality.IMAGE, "those of a text's last token; of images: cls"),
        ("cls", CAUSAL, Modality.TEXT, "one vector for all texts that begin alike.*'last' or"),
        ("cls", REGISTERS, Modality.IMAGE, "registers only, 4 an image; take 'mean' or 'pooled'"),
        ("cls", WORDS, Modality.TEXT, "each text's first word: .*take 'mean', 'last' or 'pooled'"),
        ("cls", EMBEDDINGS, Modality.IMAGE, "one vector for all images: no attention precedes"),
    ],
)
def test_what_a_layer_cannot_give_is_refused(kind, layout, modality, message):
    with pytest.raises(SpecError, match=message):
        FeaturePooling(kind).tokens_per_item(layout, modality)


@pytest.mark.parametrize(
    "name", ["", "max", "Mean", "grid", "grid:2", "grid:0x2", "grid:2x", "grid:2x2x2", "grid:-1x2"]
)
def test_names_that_mean_nothing_are_refused(name):
    with pytest.raises(SpecError, match=r"known: tokens, cls, mean, last, pooled, grid:HxW"):
        FeaturePooling(name)
