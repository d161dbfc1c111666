"""Stored types: bfloat16 as torch rounds it, int8 within half a scale, and no NaN unseen."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lightalign.featcache.modalities import read_item
from lightalign.featcache.store.key import DTYPES
from lightalign.featcache.store.stored_types import (
    dequantise,
    empty_companion,
    finite_tokens,
    storage,
    token_bytes,
)
from lightalign.featcache.types import PER_TOKEN

from ...helpers import quantised

patterns = arrays.arrays(np.uint32, st.tuples(st.integers(1, 4), st.integers(1, 20)))
finite = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 20)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False),
)


def bits(*words: int) -> np.ndarray:
    """Return one token whose features have these bits."""
    return np.array([words], dtype=np.uint32).view(np.float32)


def by_torch(values: np.ndarray) -> np.ndarray:
    """Return the 16 bits of torch's own rounding."""
    rounded = torch.from_numpy(values.copy()).to(torch.bfloat16)
    return rounded.view(torch.int16).numpy().view(np.uint16)


@given(patterns)
def test_bfloat16_has_torchs_bits_for_every_pattern(words):
    values = words.view(np.float32)
    stored, scales = quantised(values, "bfloat16")
    assert scales is None
    assert stored.dtype == np.uint16
    number = ~np.isnan(values)  # torch's NaN depends on the processor
    np.testing.assert_array_equal(stored[number], by_torch(values)[number])
    assert np.isnan(dequantise(stored, None, "bfloat16")[~number]).all()


def test_bfloat16_rounds_ties_to_even_and_keeps_what_is_special():
    """A float32 has 16 bits more: 0x8000 of them is a tie.

    1.0 is 0x3F80: the tie above it goes down to 0x3F80, that above the odd 0x3F81 up to 0x3F82.
    The largest float32 rounds to infinity, 0x7F80; the smallest denormals round to zero, or to
    0x0001 from 0x8001 on; the sign stays.
    """
    pairs = {
        0x3F808000: 0x3F80,
        0x3F808001: 0x3F81,
        0x3F818000: 0x3F82,
        0xBF818000: 0xBF82,
        0x7F7FFFFF: 0x7F80,
        0xFF800000: 0xFF80,
        0x00000001: 0x0000,
        0x80000001: 0x8000,
        0x00008000: 0x0000,
        0x00008001: 0x0001,
        0x00018000: 0x0002,
    }
    values = bits(*pairs)
    stored, _ = quantised(values, "bfloat16")
    assert [hex(one) for one in stored[0]] == [hex(one) for one in pairs.values()]
    np.testing.assert_array_equal(stored, by_torch(values))


@pytest.mark.parametrize("word", [0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x7FFFFFFF])
def test_bfloat16_keeps_every_nan_a_nan(word):
    """Rounding the bits of 0xFFFFFFFF up would carry into zero, of 0x7F800001 down to infinity."""
    stored, _ = quantised(bits(word), "bfloat16")
    assert np.isnan(dequantise(stored, None, "bfloat16")).all()
    assert not finite_tokens(stored, None, "bfloat16").any()


@given(arrays.arrays(np.uint16, st.tuples(st.integers(1, 4), st.integers(1, 20))))
def test_widening_bfloat16_is_exact(stored):
    expected = torch.from_numpy(stored.view(np.int16).copy()).view(torch.bfloat16).float()
    found = dequantise(stored, None, "bfloat16")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.numpy())
    again, _ = quantised(found, "bfloat16")
    number = ~np.isnan(found)
    np.testing.assert_array_equal(again[number], stored[number])


@given(finite)
@example(np.array([[np.finfo(np.float32).max]], dtype=np.float32))
def test_int8_is_off_by_at_most_half_a_scale(values):
    """The scale is the largest absolute value over 127; 1e-4 of it is for float32's own rounding.

    Where the scale itself would be a denormal it has few bits: such tokens are left out.
    """
    stored, scales = quantised(values, "int8")
    largest = np.abs(values.astype(np.float64)).max(axis=1)
    kept = largest > 127 * float(np.finfo(np.float32).tiny)
    np.testing.assert_allclose(scales[kept], largest[kept] / 127, rtol=1e-6)
    error = np.abs(dequantise(stored, scales, "int8").astype(np.float64) - values)
    assert (error[kept] <= largest[kept, None] / 127 * 0.5001).all()
    assert stored.min() >= -127
    assert finite_tokens(stored, scales, "int8").all()


def test_int8_by_hand():
    """Of (254, -127, 3) the scale is 254 / 127 = 2: 127, -63.5 to even -64, and 1.5 to even 2."""
    stored, scales = quantised(np.array([[254.0, -127, 3]], dtype=np.float32), "int8")
    assert scales.tolist() == [2]
    assert stored.tolist() == [[127, -64, 2]]
    assert dequantise(stored, scales, "int8").tolist() == [[254, -128, 4]]


def test_each_token_has_its_own_scale():
    values = np.array([[1.27, 0], [1270, 0]], dtype=np.float32)
    stored, scales = quantised(values, "int8")
    np.testing.assert_allclose(scales, [0.01, 10], rtol=1e-6)
    np.testing.assert_allclose(dequantise(stored, scales, "int8"), values, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_token_of_zeros_stays_one(dtype):
    values = np.zeros((2, 3), dtype=np.float32)
    stored, scales = quantised(values, dtype)
    np.testing.assert_array_equal(dequantise(stored, scales, dtype), values)
    assert finite_tokens(stored, scales, dtype).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_token_with_a_number_that_is_none_is_found(dtype, bad):
    values = np.ones((3, 4), dtype=np.float32)
    values[1, 2] = bad
    stored, scales = quantised(values, dtype)
    assert finite_tokens(stored, scales, dtype).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("dtype", "fits"), [("float16", False), ("bfloat16", True), ("float32", True), ("int8", True)]
)
def test_a_number_that_is_too_large_for_the_type_is_found(dtype, fits):
    """float16 ends at 65,504."""
    stored, scales = quantised(np.array([[1e5, 1.0]], dtype=np.float32), dtype)
    assert finite_tokens(stored, scales, dtype).tolist() == [fits]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 384])
def test_no_tokens_at_all_are_no_exception(dtype, width):
    stored, scales = quantised(np.empty((0, width), dtype=np.float32), dtype)
    assert stored.shape == (0, width)
    assert dequantise(stored, scales, dtype).shape == (0, width)
    assert finite_tokens(stored, scales, dtype).shape == (0,)


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float16", 768), ("bfloat16", 768), ("float32", 1536), ("int8", 388)]
)
def test_the_bytes_of_a_token_are_those_of_its_arrays(dtype, expected):
    """384 features of 2, 2, 4 and 1 bytes; the scale of int8 is 4 more."""
    assert token_bytes(dtype, 384) == expected
    stored, scales = quantised(np.ones((1, 384), dtype=np.float32), dtype)
    assert stored.dtype == storage(dtype)
    assert stored.nbytes + (0 if scales is None else scales.nbytes) == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_that_are_not_contiguous_are_stored_all_the_same(dtype):
    values = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    strided, scales = quantised(values[::2], dtype)
    dense, dense_scales = quantised(values[::2].copy(), dtype)
    np.testing.assert_array_equal(strided, dense)
    np.testing.assert_array_equal(scales, dense_scales)


@pytest.mark.parametrize(
    "name",
    ["toy-image", "timm vit", "transformers vit", "transformers bert", "transformers roberta"],
)
def test_the_companions_of_no_item_are_like_those_of_one(name, tiny):
    encoder = tiny.opened(name)
    content = read_item(tiny.items_for(encoder)[0], encoder.modality)
    found = encoder.companions(content)
    assert set(found) == set(encoder.companion_names)
    assert found
    for companion, array in found.items():
        empty = empty_companion(companion)
        assert len(empty) == 0
        assert (empty.dtype, empty.shape[1:]) == (array.dtype, array.shape[1:])
        assert len(array) == 1 or companion in PER_TOKEN
