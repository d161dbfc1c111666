import hashlib

import numpy as np
import pytest

from lightalign.featcache.errors import SpecError, StoreCorruptError
from lightalign.featcache.item_ids import decode_ids, encode_ids, storable_id


def test_ids_are_rows_of_bytes_padded_with_zeros():
    array = encode_ids(("a", "né"))  # the accent takes two bytes
    assert array.tolist() == [[97, 0, 0], [110, 0xC3, 0xA9]]
    assert decode_ids(array) == ("a", "né")
    assert decode_ids(encode_ids(())) == ()


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_an_id_that_padding_would_change_is_refused(name):
    with pytest.raises(SpecError, match="empty or holds a zero"):
        encode_ids((name,))


def test_bytes_that_are_no_ids_are_refused():
    with pytest.raises(StoreCorruptError, match="is empty"):
        decode_ids(np.zeros((1, 3), np.uint8))
    with pytest.raises(StoreCorruptError, match="is not UTF-8"):
        decode_ids(np.array([[0xFF, 0x61]], np.uint8))


def test_what_cannot_be_stored_is_escaped_or_cut():
    assert storable_id("cat.jpg") == "cat.jpg"
    assert storable_id("caf\udce9\0") == "caf\\udce9\\x00"
    digest = hashlib.sha256(b"x" * 5000).hexdigest()
    assert storable_id("x" * 5000) == f"{'x' * 200}...{digest}"
