"""Measure the index that `auto` builds of many vectors: `python tests/benchmarks/index.py`.

The vectors are synthetic and clustered, as embeddings are: unit vectors around random centres, a
centre for a thousand of them, with noise so that the cosine of two of one cluster is about 0.5.
Queries are drawn from the same clusters. Uniform random vectors would be the worst case, which
embeddings are not. What is printed is what `lightalign index` prints: recall@10 and queries a
second beside those of the exact search, on queries by which the index was not tuned. Its last line
is one JSON object. `--quick` takes 120,000 vectors of 64 floats.
"""

import argparse
import json

import numpy as np

from lightalign.pipelines.metrics.number import written
from lightalign.pipelines.ranking.faiss_index import build
from lightalign.pipelines.rendering.evaluations import quality_line

_BLOCK = 50_000
_PER_CLUSTER = 1000


def clustered(num: int, width: int, centres: np.ndarray, seed: int) -> np.ndarray:
    """Return unit vectors around centres, block by block: no second copy is in memory."""
    random = np.random.default_rng(seed)
    found = np.empty((num, width), dtype=np.float32)
    for start in range(0, num, _BLOCK):
        block = found[start : start + _BLOCK]
        block[:] = centres[random.integers(len(centres), size=len(block))]
        block += random.standard_normal(block.shape, dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return found


def centres_of(num: int, width: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.standard_normal((max(1, num // _PER_CLUSTER), width), dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--index", default="auto")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.vectors, options.width = 120_000, 64
    centres = centres_of(options.vectors, options.width)
    gallery = clustered(options.vectors, options.width, centres, seed=1)
    queries = clustered(options.queries, options.width, centres, seed=2)
    built = build(gallery, options.index, queries=queries)
    metrics = written(built.metrics)
    print(
        f"{options.vectors:,} clustered synthetic vectors of width {options.width}: "
        f"{built.plan.kind} ({built.plan.factory}), {dict(built.parameters)}, built, tuned and "
        f"measured in {built.seconds:.0f} s"
    )
    if metrics:
        print(quality_line(metrics))
    result = {
        "vectors": options.vectors,
        "width": options.width,
        "data": "synthetic, clustered",
        "kind": built.plan.kind,
        "factory": built.plan.factory,
        "parameters": dict(built.parameters),
        "metrics": metrics,
        "seconds": built.seconds,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
