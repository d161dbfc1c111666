"""Headers of compressed bytes, held against what the bytes must become.

The decoders believe a header: they take the memory that it asks for, and read and write beyond.
"""

import struct

_ZSTD_MAGIC = 0xFD2FB528
_SIZE_BYTES = {0: 1, 1: 2, 2: 4, 3: 8}  # of the content, by the two highest bits of the descriptor
_DICTIONARY_BYTES = (0, 1, 2, 4)


def check_header(compression: str, header: bytes, length: int, num_bytes: int) -> None:
    """Pass if the header says that there are `length` bytes, which become `num_bytes`.

    Raises:
        ValueError: A size differs, or it is no header.
    """
    try:
        if compression == "zstd":
            decoded, encoded = _zstd_content_size(header), length
        else:
            # c-blosc 1, README_CHUNK_FORMAT.rst
            decoded, _, encoded = struct.unpack_from("<4x3I", header)
    except (struct.error, IndexError) as error:
        raise ValueError(f"its header ends after {len(header)} bytes") from error
    if (decoded, encoded) != (num_bytes, length):
        raise ValueError(
            f"its header says {encoded} bytes that become {decoded}, "
            f"found {length} that should become {num_bytes}"
        )


def most_compressed_bytes(num_bytes: int) -> int:
    """Return how many bytes `num_bytes` become at most, by either compression."""
    return num_bytes + num_bytes // 128 + 2**16


def _zstd_content_size(header: bytes) -> int:
    """Return the size that a frame says of its content (RFC 8878, section 3.1.1.1)."""
    (magic,) = struct.unpack_from("<I", header)
    if magic != _ZSTD_MAGIC:
        raise ValueError("it is no frame of Zstandard")
    descriptor = header[4]
    single_segment = bool(descriptor & 0x20)
    flag = descriptor >> 6
    if flag == 0 and not single_segment:
        raise ValueError("its header does not say its size")
    first = 5 + (not single_segment) + _DICTIONARY_BYTES[descriptor & 3]
    size = header[first : first + _SIZE_BYTES[flag]]
    if len(size) < _SIZE_BYTES[flag]:
        raise IndexError
    return int.from_bytes(size, "little") + (256 if flag == 1 else 0)
