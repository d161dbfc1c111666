"""Mutations of binary files that keep them well formed: other types, shapes, links, checksums."""

import hashlib
import io
import json
import random
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from _bytes import Mutation


def store_of(path: Path) -> Path:
    """Return the folder of the store that a file belongs to."""
    for folder in path.parents:
        if (folder / "manifest.json").is_file():
            return folder
    raise ValueError(f"{path} is in no store")


def seal_again(store: Path) -> None:
    """Give the manifest of a store the sizes and checksums that its shards have now."""
    from lightalign.featcache import atomic_files

    manifest = json.loads((store / "manifest.json").read_text())
    del manifest["checksum"]
    for shard in manifest.get("shards", []):
        for name, entry in shard["files"].items():
            if (store / name).is_file():
                content = (store / name).read_bytes()
                entry["bytes"] = len(content)
                entry["sha256"] = hashlib.sha256(content).hexdigest()
    atomic_files.write_sealed(store / "manifest.json", manifest)
    (store / "manifest.copy.json").write_bytes((store / "manifest.json").read_bytes())


def resealed(mutation: Mutation) -> Mutation:
    """Return the mutation with a right checksum behind it."""

    def both(path: Path, chance: random.Random) -> str | None:
        told = mutation(path, chance)
        if told is not None:
            seal_again(store_of(path))
            told = f"{told}, checksums made right"
        return told

    both.__name__ = f"{mutation.__name__}_resealed"
    return both


# zarr.json


def zarr_type(path: Path, chance: random.Random) -> str | None:
    """Give the array another type; shape and chunk may be made to fit the size of the file."""
    table = json.loads(path.read_text())
    if table.get("node_type") != "array":
        return None
    new = chance.choice(["object", "int16", "bool", "float64", "float32", "complex128", "str", "O"])
    table["data_type"] = new
    told = f"data_type becomes {new}"
    if chance.random() < 0.5 and table["shape"]:
        part = {"object": 4, "float64": 4, "float32": 2, "bool": 1}.get(new, 1)
        shape = [max(1, table["shape"][0] // part), *table["shape"][1:]]
        table["shape"] = table["chunk_grid"]["configuration"]["chunk_shape"] = shape
        told += f", shape {shape}"
    path.write_text(json.dumps(table, indent=2) + "\n")
    return told


def zarr_shape(path: Path, chance: random.Random) -> str | None:
    table = json.loads(path.read_text())
    if table.get("node_type") != "array":
        return None
    shape = list(table["shape"])
    axis = chance.randrange(len(shape))
    change: Callable[[int], object] = chance.choice(
        [
            lambda size: size // 2,
            lambda size: -size,
            lambda size: size * 2,
            lambda _: 10**15,
            lambda _: 0,
            lambda size: float(size),
            lambda _: "3",
            lambda _: None,
            lambda _: 2**63,
        ]
    )
    shape[axis] = change(shape[axis])
    if chance.random() < 0.2:
        shape = shape[::-1] if chance.random() < 0.5 else [1, *shape]
    table["shape"] = shape
    if chance.random() < 0.7:
        table["chunk_grid"]["configuration"]["chunk_shape"] = shape
    path.write_text(json.dumps(table, indent=2) + "\n")
    return f"shape {shape}"


def zarr_codecs(path: Path, chance: random.Random) -> str | None:
    table = json.loads(path.read_text())
    if table.get("node_type") != "array":
        return None
    options = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 2, "blocksize": 0}
    new = chance.choice(
        [
            [],
            [{"name": "bytes", "configuration": {"endian": "big"}}],
            [{"name": "bytes"}, {"name": "zstd"}],
            [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 10**9}}],
            [{"name": "bytes"}, {"name": "blosc", "configuration": options}],
            [{"name": "bytes"}, {"name": "blosc", "configuration": {**options, "shuffle": "no"}}],
            [{"name": "bytes"}, {"name": "gzip", "configuration": {}}],
            [{"name": "transpose", "configuration": {"order": [1, 0]}}, {"name": "bytes"}],
            ["bytes"],
            None,
        ]
    )
    table["codecs"] = new
    path.write_text(json.dumps(table, indent=2) + "\n")
    return f"codecs {json.dumps(new):.60}"


ZARR_JSON: Mapping[str, Mutation] = {
    made.__name__: made
    for plain in (zarr_type, zarr_shape, zarr_codecs)
    for made in (plain, resealed(plain))
}

# values of rows


def rows_not_finite(path: Path, chance: random.Random) -> str | None:
    """Put NaN or an infinity into a raw float chunk."""
    if path.parts[-len(("values", "c", "0", "0")) :][0] != "values" and "values" not in path.parts:
        return None
    metadata = path
    while not (metadata / "zarr.json").is_file():
        metadata = metadata.parent
    table = json.loads((metadata / "zarr.json").read_text())
    if table["data_type"] not in ("float16", "float32") or len(table["codecs"]) > 1:
        return None
    values = np.frombuffer(path.read_bytes(), table["data_type"]).copy()
    value = chance.choice([np.nan, np.inf, -np.inf])
    values[chance.randrange(len(values))] = value
    path.write_bytes(values.tobytes())
    return f"one value becomes {value}"


def rows_of_ids(path: Path, chance: random.Random) -> str | None:
    """Reverse, repeat or rename the ids of a shard."""
    if "ids" not in path.parts:
        return None
    metadata = path
    while not (metadata / "zarr.json").is_file():
        metadata = metadata.parent
    shape = json.loads((metadata / "zarr.json").read_text())["shape"]
    rows = np.frombuffer(path.read_bytes(), np.uint8).reshape(shape).copy()
    what = chance.choice(["reversed", "all the first", "unknown", "not UTF-8", "empty"])
    if what == "reversed":
        rows = rows[::-1]
    elif what == "all the first":
        rows[:] = rows[0]
    else:
        rows[0] = {"unknown": ord("x"), "not UTF-8": 0xFF, "empty": 0}[what]
    path.write_bytes(rows.tobytes())
    return f"ids {what}"


ZARR_CHUNK: Mapping[str, Mutation] = {
    made.__name__: made
    for plain in (rows_not_finite, rows_of_ids)
    for made in (plain, resealed(plain))
}

# HDF5


def _replaced(path: Path, chance: random.Random, make: Callable[..., str]) -> str | None:
    import h5py

    with h5py.File(path, "r+") as file:
        name = chance.choice(sorted(file))
        old = file[name]
        values, shape, dtype = old[()], old.shape, old.dtype
        del file[name]
        return f"{name}: {make(file, name, values, shape, dtype)}"


def hdf5_type(path: Path, chance: random.Random) -> str | None:
    import h5py

    def make(file, name, values, shape, _dtype) -> str:
        kind = chance.choice(["text", "reference", "i2", "?", "f8", "u1", "c16", "S4", "region"])
        flat = int(np.prod(shape))
        if kind == "text":
            file.create_dataset(name, shape, dtype=h5py.string_dtype())
            file[name][...] = np.full(shape, "x", object)
        elif kind in ("reference", "region"):
            types = {"reference": h5py.ref_dtype, "region": h5py.regionref_dtype}
            file.create_dataset(name, shape, dtype=types[kind])
        elif kind == "S4":
            file.create_dataset(name, data=np.full(shape, b"abcd"))
        else:
            small = np.arange(flat).reshape(shape) % 2 if values.dtype.kind == "V" else values
            file.create_dataset(name, data=small.astype(kind))
        return f"of type {kind}"

    return _replaced(path, chance, make)


def hdf5_shape(path: Path, chance: random.Random) -> str | None:
    def make(file, name, values, shape, dtype) -> str:
        what = chance.choice(["half", "huge", "empty", "more axes", "resizable", "scalar", "null"])
        if what == "half":
            file[name] = values[: max(1, len(values) // 2)]
        elif what == "huge":
            file.create_dataset(name, (10**15, *shape[1:]), dtype=dtype, chunks=True)
        elif what == "empty":
            file.create_dataset(name, (0, *shape[1:]), dtype=dtype)
        elif what == "more axes":
            file[name] = values[None]
        elif what == "resizable":
            file.create_dataset(name, data=values, maxshape=(None, *shape[1:]))
        elif what == "scalar":
            file[name] = 3.0
        else:
            import h5py

            file[name] = h5py.Empty("f4")
        return f"shape is {what}"

    return _replaced(path, chance, make)


def hdf5_link(path: Path, chance: random.Random) -> str | None:
    import h5py

    def make(file, name, values, shape, dtype) -> str:
        links = {
            "external link": h5py.ExternalLink(chance.choice(["other.h5", path.name]), f"/{name}"),
            "link to itself": h5py.SoftLink(f"/{name}"),
            "soft link": h5py.SoftLink("/elsewhere"),
            "named type": np.dtype("f4"),
        }
        what = chance.choice([*links, "virtual", "group", "external storage", "gone"])
        if what in links:
            file["elsewhere"] = values
            file[name] = links[what]
        elif what == "virtual":
            layout = h5py.VirtualLayout(shape=shape, dtype=dtype)
            layout[...] = h5py.VirtualSource("other.h5", name, shape=shape)
            file.create_virtual_dataset(name, layout)
        elif what == "group":
            file.create_group(name)
        elif what == "external storage":
            file.create_dataset(
                name, shape, dtype=dtype, external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)]
            )
        return what

    return _replaced(path, chance, make)


def hdf5_rows(path: Path, chance: random.Random) -> str | None:
    """Keep type and shape, and make the values not finite or the ids others."""
    import h5py

    with h5py.File(path, "r+") as file:
        name = chance.choice(sorted(file))
        values = file[name][()]
        if values.dtype.kind == "f":
            values.flat[chance.randrange(values.size)] = chance.choice([np.nan, np.inf])
        else:
            values = values[::-1]
        file[name][...] = values
    return f"{name}: not finite, or reversed"


HDF5: Mapping[str, Mutation] = {
    made.__name__: made
    for plain in (hdf5_type, hdf5_shape, hdf5_link, hdf5_rows)
    for made in (plain, resealed(plain))
}

# .npy, safetensors, FAISS


def npy_header(path: Path, chance: random.Random) -> str | None:
    """Write another array into the file, or a header that promises one."""
    array = np.load(path)
    what = chance.choice(["object", "huge", "other type", "shorter", "reversed", "2-d", "eval"])
    if what == "object":
        np.save(path, np.array([{"a": 1}] * max(1, len(array)), dtype=object), allow_pickle=True)
    elif what == "other type":
        np.save(path, array.astype("f8"))
    elif what == "shorter":
        np.save(path, array[:-1])
    elif what == "reversed":
        np.save(path, array[::-1].copy())
    elif what == "2-d":
        np.save(path, array[None])
    else:
        shape = "(1000000000000000,)" if what == "huge" else "__import__('os').getcwd()"
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
        path.write_bytes(content + array.tobytes())
    return f"holds an array that is {what}"


def safetensors_header(path: Path, chance: random.Random) -> str | None:
    """Change the header: its length, an offset, a shape, a type, a name."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    table = json.loads(content[8 : 8 + length])
    names = sorted(name for name in table if name != "__metadata__")
    name = chance.choice(names)
    if chance.random() < 0.3:
        length += chance.choice([-8, 8, 1, 10**8, 2**40, 2**62])
        path.write_bytes(struct.pack("<Q", length) + content[8:])
        return f"a header of {length} bytes"
    entry = table[name]
    changes: dict[str, object] = {
        "offset": {**entry, "data_offsets": [0, 2**50]},
        "shape": {**entry, "shape": [10**15, 10**15]},
        "transposed": {**entry, "shape": entry["shape"][::-1]},
        "dtype": {**entry, "dtype": chance.choice(["I32", "F64", "BF16", "X", "BOOL", None])},
        "overlap": {**entry, "data_offsets": table[names[0]]["data_offsets"]},
        "dropped": None,
    }
    what = chance.choice([*changes, "metadata", "renamed", "deep"])
    if what == "metadata":
        name = "__metadata__"
        table[name] = chance.choice([{}, {"lightalign": "x"}, {"lightalign": "[]"}, 3])
    elif what == "renamed":
        table["other"] = table.pop(name)
    elif what != "deep":
        table[name] = changes[what]
    header = json.dumps({key: value for key, value in table.items() if value is not None}).encode()
    header = b"[" * 100_000 if what == "deep" else header
    path.write_bytes(struct.pack("<Q", len(header)) + header + _data(content))
    return f"{what}: {name}"


def safetensors_value(path: Path, chance: random.Random) -> str | None:
    """Make a value not finite, or another one, in the data behind the header."""
    content = bytearray(path.read_bytes())
    start = len(content) - len(_data(bytes(content)))
    if start + 4 > len(content):
        return None
    place = start + chance.randrange((len(content) - start) // 4) * 4
    value = chance.choice([np.nan, np.inf, 0.5, 1e30])
    content[place : place + 4] = np.float32(value).tobytes()
    path.write_bytes(content)
    return f"a value becomes {value}"


def _data(content: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    return content[8 + length :]


def faiss_header(path: Path, chance: random.Random) -> str | None:
    """Change a number among the first of the file: type, width, count, size."""
    content = bytearray(path.read_bytes())
    place = chance.randrange(0, min(80, len(content) - 8), 4)
    value = chance.choice([0, -1, 2**31 - 1, 10**15, 2**62, 1])
    content[place : place + 8] = struct.pack("<q", value)
    path.write_bytes(content)
    return f"8 bytes at {place} become {value}"


def faiss_reversed(path: Path, _: random.Random) -> str | None:
    import faiss

    index = faiss.read_index(str(path))
    if not isinstance(index, faiss.IndexFlat):
        return None
    vectors = index.reconstruct_n(0, index.ntotal)
    index.reset()
    index.add(np.ascontiguousarray(vectors[::-1]))
    faiss.write_index(index, str(path))
    return "its vectors reversed"


def sealed_index(mutation: Mutation) -> Mutation:
    """Return the mutation with the sizes and checksums of the index made right behind it."""

    def both(path: Path, chance: random.Random) -> str | None:
        from lightalign.featcache import atomic_files

        told = mutation(path, chance)
        if told is None:
            return None
        place = path.parent / "index.json"
        table = json.loads(place.read_text())
        del table["checksum"]
        content = path.read_bytes()
        if path.suffix == ".faiss":
            table["bytes"] = len(content)
        entries = table.get("files", {})
        if path.name in entries:
            sealed = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            entries[path.name] = (
                sealed if isinstance(entries[path.name], dict) else sealed["sha256"]
            )
        atomic_files.write_sealed(place, table)
        return f"{told}, checksums made right"

    both.__name__ = f"{mutation.__name__}_resealed"
    return both


def _named(*made: Mutation) -> Mapping[str, Mutation]:
    return {mutation.__name__: mutation for mutation in made}  # type: ignore[attr-defined]


NPY = _named(npy_header, sealed_index(npy_header))
SAFETENSORS = _named(safetensors_header, safetensors_value)
FAISS = _named(faiss_header, faiss_reversed, sealed_index(faiss_header))

# pictures and archives


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def picture_size(path: Path, chance: random.Random) -> str | None:
    """Put a picture of a few bytes and very many pixels, or of one long side, into the place."""
    width, height = chance.choice([(60_000, 1), (1, 60_000), (100_000, 100_000), (2**31 - 1, 1)])
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + width) * height)) if width * height <= 60_000 else b"x"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", rows)
        + _chunk(b"IEND", b"")
    )
    return f"a picture of {width} x {height}"


def picture_of_another_kind(path: Path, chance: random.Random) -> str | None:
    from PIL import Image

    kind = chance.choice(["GIF", "TIFF", "BMP", "palette", "16 bits", "text", "grey"])
    stream = io.BytesIO()
    image = Image.new("RGB", (8, 8), (3, 4, 5))
    if kind == "palette":
        image.convert("P").save(stream, "PNG")
    elif kind == "16 bits":
        Image.new("I;16", (8, 8)).save(stream, "PNG")
    elif kind == "grey":
        image.convert("LA").save(stream, "PNG")
    elif kind == "text":
        stream.write(b"<svg/>")
    else:
        image.save(stream, kind)
    path.write_bytes(stream.getvalue())
    return f"a picture that is {kind}"


PICTURE = _named(picture_size, picture_of_another_kind)


def tar_header(path: Path, chance: random.Random) -> str | None:
    """Change an archive's headers, or put other members into it."""
    what = chance.choice(["promise", "deep names", "link", "device", "outside"])
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as packed:
        member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        if what == "promise":
            member.type, member.size = tarfile.XHDTYPE, 9 * 2**30
        elif what == "deep names":
            member.name = "/".join("n" * 50 for _ in range(2000))
        elif what == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/dev/zero"
        elif what == "device":
            member.type = tarfile.CHRTYPE
        else:
            member.name = "../../out"
        packed.addfile(member)
    return f"an archive with {what}"


TAR = _named(tar_header)
