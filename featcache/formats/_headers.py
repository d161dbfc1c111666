"""Headers of compressed chunks: decoders believe them, so they are compared first.

Sources: c-blosc 1, README_CHUNK_FORMAT.rst; RFC 8878, section 3.1.1 (Zstandard frames).
"""

import struct

_ZSTD_MAGIC = 0xFD2FB528
_SINGLE_SEGMENT = 0x20  # flag: there is no window descriptor, and a content size of any length
_DICTIONARY = 0x03  # flags: length of the id of a dictionary, which we never use
_SIZES = {0: "<B", 1: "<H", 2: "<I", 3: "<Q"}  # how the content size is written
_OFFSET_OF_TWO_BYTES = 256  # a content size of two bytes is written less this


def check_blosc(header: bytes, num_bytes: int, *, num_encoded: int) -> None:
    """Pass if a Blosc chunk has the sizes that it should have.

    Args:
        header: First bytes of the chunk.
        num_bytes: Bytes that it should become.
        num_encoded: Bytes that it has.

    Raises:
        ValueError: A size differs, or there are no 16 bytes.
    """
    if len(header) < 16:
        raise ValueError(f"{len(header)} bytes are no Blosc chunk")
    decoded, _, encoded = struct.unpack_from("<4x3I", header)
    if (decoded, encoded) != (num_bytes, num_encoded):
        raise ValueError(
            f"its header says {encoded} bytes that become {decoded}, "
            f"found {num_encoded} that should become {num_bytes}"
        )


def check_zstd(header: bytes, num_bytes: int, *, num_encoded: int) -> None:
    """Pass if a Zstandard frame says that it becomes as many bytes as it should.

    Args:
        header: First bytes of the frame.
        num_bytes: Bytes that it should become.
        num_encoded: Bytes that it has.

    Raises:
        ValueError: It says another size or none, or is no such frame.
    """
    try:
        magic, flags = struct.unpack_from("<IB", header)
        single = bool(flags & _SINGLE_SEGMENT)
        length = flags >> 6
        known = single or length > 0
        (decoded,) = struct.unpack_from(_SIZES[length], header, 5 if single else 6)
    except struct.error as error:
        raise ValueError(f"{num_encoded} bytes are no Zstandard frame") from error
    if magic != _ZSTD_MAGIC or flags & _DICTIONARY or not known:
        raise ValueError("it is no Zstandard frame of ours")
    decoded += _OFFSET_OF_TWO_BYTES if length == 1 else 0
    if decoded != num_bytes:
        raise ValueError(f"its header says that it becomes {decoded} bytes, expected {num_bytes}")
