"""Compare a large retrieval with bare FAISS: `python tests/benchmarks/retrieval.py`.

Each query is a noisy copy of one item of a gallery of random unit vectors. "Ours" is all that
`lightalign retrieve` measures of one direction once both sides are embedded: R@k and its curve,
mAP, MRR, median and mean rank over the whole gallery, each with chance and a bootstrap interval,
and the worst queries with what came first. "Bare" is one call of FAISS for the first k answers, by
which nothing is measured: its flat inner-product index, `search`. Both are timed in this process,
in turn, and compared by medians; and each runs in a process of its own, which says its peak memory.
Bare FAISS holds a copy of the gallery, as its index takes one.

Prints a table, and as its last line one JSON object. `--quick` takes 20,000 x 64 and 500 queries.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import faiss
import numpy as np

from lightalign.pipelines.metrics.bootstrap import BootstrapDraws
from lightalign.pipelines.metrics.ranks import Relevance
from lightalign.pipelines.ranking.ranking import Direction
from lightalign.pipelines.ranking.recall import Retrieval

_BLOCK = 50_000
_NOISE = 1.5  # times the spread of an item: the right item is mostly among the first hundred


def drawn(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gallery, the queries and the right row of each; the gallery is held but once."""
    random = np.random.default_rng(0)
    gallery = np.empty((options.gallery, options.width), dtype=np.float32)
    for start in range(0, len(gallery), _BLOCK):
        block = gallery[start : start + _BLOCK]
        random.standard_normal(out=block, dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    right = random.integers(options.gallery, size=options.queries)
    noise = random.standard_normal((options.queries, options.width), dtype=np.float32)
    queries = gallery[right] + _NOISE * noise / np.sqrt(np.float32(options.width))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return gallery, queries.astype(np.float32), right


def ours(gallery: np.ndarray, queries: np.ndarray, right: np.ndarray, k: int) -> float:
    """Return R@k in percent."""
    direction = Direction(
        name="text_to_image",
        queries=queries,
        gallery=gallery,
        relevance=Relevance.of([[row] for row in right.tolist()]),
        query_ids=[f"text-{row}" for row in range(len(queries))],
        gallery_ids=range(len(gallery)),
        groups=np.arange(len(queries)),
    )
    table, _, _ = Retrieval(k=k).measure(direction, BootstrapDraws(len(queries)))
    return table["curve"]["recall"][-1]


def bare_search(index: faiss.Index, queries: np.ndarray, k: int) -> np.ndarray:
    return index.search(queries, k)[1]


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def peak_bytes() -> int:
    """Return the most memory this process has held."""
    for line in open("/proc/self/status", encoding="utf-8"):  # noqa: PTH123, SIM115
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not say how much memory a process has held")


def child(options: argparse.Namespace) -> None:
    gallery, queries, right = drawn(options)
    before = peak_bytes()
    if options.child == "ours":
        ours(gallery, queries, right, options.k)
    else:
        index = faiss.IndexFlatIP(options.width)
        index.add(gallery)
        bare_search(index, queries, options.k)
    print(json.dumps({"peak": peak_bytes(), "before": before, "gallery": gallery.nbytes}))


def memory_of(name: str, options: argparse.Namespace) -> dict[str, int]:
    sizes = [f"--{key}={getattr(options, key)}" for key in ("gallery", "width", "queries", "k")]
    command = [sys.executable, __file__, "--child", name, *sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", choices=("ours", "bare"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.gallery, options.width, options.queries = 20_000, 64, 500
    if options.child:
        child(options)
        return
    peaks = {name: memory_of(name, options) for name in ("ours", "bare")}
    gallery, queries, right = drawn(options)
    index = faiss.IndexFlatIP(options.width)
    index.add(gallery)
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(options.rounds):
        seconds["bare"].append(timed(lambda: bare_search(index, queries, options.k)))
        seconds["ours"].append(timed(lambda: ours(gallery, queries, right, options.k)))
    found = ours(gallery, queries[:100], right[:100], options.k)
    result = {
        "gallery": options.gallery,
        "width": options.width,
        "queries": options.queries,
        "k": options.k,
        "rounds": options.rounds,
        "threads": faiss.omp_get_max_threads(),
        "seconds": {name: median(all_of) for name, all_of in seconds.items()},
        "time_ratio": median(seconds["ours"]) / median(seconds["bare"]),
        "gallery_mb": gallery.nbytes / 1e6,
        "peak_mb": {name: peak["peak"] / 1e6 for name, peak in peaks.items()},
        "beyond_gallery_mb": {
            name: (peak["peak"] - peak["gallery"]) / 1e6 for name, peak in peaks.items()
        },
        "recall_at_k_of_100_queries": found,
    }
    print(f"{'':8}{'seconds':>10}{'peak MB':>10}{'beyond the gallery':>20}")
    for name in ("ours", "bare"):
        print(
            f"{name:8}{result['seconds'][name]:10.2f}{result['peak_mb'][name]:10.0f}"
            f"{result['beyond_gallery_mb'][name]:20.0f}"
        )
    print(f"time ratio {result['time_ratio']:.3f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
