"""Time the repair of a damaged store: `python tests/benchmarks/repair.py [--quick]`.

Extracts generated pictures into shards of `--rows` items, flips a byte in the values of one, two
and all of them, and repairs the store each time. Prints seconds of each and what part of the whole
extraction they are beside the part of the items that was damaged; as its last line one JSON object.
The files are compared with what they were. `--quick` takes few pictures and the toy encoder.
"""

import argparse
import hashlib
import json
import tempfile
import time
from pathlib import Path

from lightalign.pipelines.cache.repair import repair
from lightalign.pipelines.extraction import extract
from lightalign.pipelines.extraction.spec import ExtractSpec


def digest(folder: Path) -> str:
    """Return a checksum of all files of a store."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    contents = (f"{path.relative_to(folder)}".encode() + path.read_bytes() for path in files)
    return hashlib.sha256(b"".join(contents)).hexdigest()


def damage(folder: Path, shards: int) -> None:
    """Flip a byte in the values of the first shards."""
    for index in range(shards):
        path = folder / f"shard-{index:05d}" / "values" / "c" / "0" / "0" / "0"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=128, help="items of a shard")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.images, options.rows, options.encoder = 40, 10, "toy-image"
    with tempfile.TemporaryDirectory(prefix="lightalign-") as name:
        home = Path(name)
        spec = ExtractSpec(
            encoders=(options.encoder,),
            data="shapes",
            home=home,
            split="train",
            source={"train": options.images},
            rows_per_shard=options.rows,
        )
        began = time.perf_counter()
        (store,) = extract.run(spec).stores
        whole = time.perf_counter() - began
        before = digest(store.folder)
        shards = -(-options.images // options.rows)
        print(f"extraction of {shards} shards: {whole:.2f} s")
        seconds = {}
        for count in sorted({1, 2, shards}):
            damage(store.folder, count)
            began = time.perf_counter()
            report = repair(home, str(store.folder))
            seconds[count] = time.perf_counter() - began
            if len(report.recomputed) != count or report.left or digest(store.folder) != before:
                raise RuntimeError(f"the store is not what it was: {report}")
            parts = f"{seconds[count] / whole:.2f} of it for {count / shards:.2f} of the items"
            print(f"repair of {count}: {seconds[count]:.2f} s, {parts}")
    print(json.dumps({"extraction": whole, "repair": seconds}))


if __name__ == "__main__":
    main()
