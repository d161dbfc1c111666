"""Prepare each part of a FAISS index for its training, and refuse what it cannot learn."""

from collections.abc import Iterator
from typing import Any

import faiss

from ...featcache.errors import SpecError

_INSIDE = ("index", "base_index", "refine_index", "storage", "quantizer")
_QUANTIZERS = ("pq", "rq", "prq")
_OPQ_BITS = 8  # of a code; FAISS learns the rotation of OPQ by these, whatever codes follow


def parts(index: faiss.Index) -> Iterator[Any]:
    """Return the index and all indexes inside it, each as its own class of FAISS."""
    whole = faiss.downcast_index(index)
    yield whole
    for name in _INSIDE:
        inner = getattr(whole, name, None)
        if inner is not None:
            yield from parts(inner)


def check_trainable(index: faiss.Index, factory: str, num: int) -> None:
    """Refuse a rotation that FAISS would learn beyond the end of its memory.

    It keeps the product of `num` vectors and their codes where only `num` rows have room, though
    that has as many rows as the rotated vectors are wide (`OPQMatrix::train`).

    Raises:
        SpecError: There are fewer vectors than that.
    """
    wide = max((rotation.d_out for rotation in _rotations(index)), default=0)
    if num < wide:
        raise SpecError(
            f"FAISS cannot build index {factory!r} of {num} vectors: OPQ learns a rotation to "
            f"width {wide} and needs as many vectors; take PCAR in its place, or leave it out"
        )


def prepare_training(index: faiss.Index) -> list[faiss.ProductQuantizer]:
    """Allow each part to learn from as few vectors as there are, and only what a search uses.

    What too few vectors do is shown by the measured recall. Codes that are near one another where
    their distances are (polysemous ones) take minutes, cannot be interrupted, and serve a filter
    that is never on.

    Returns:
        What must not be freed before `forget_training`: quantizers that the index refers to.
    """
    for part in parts(index):
        if getattr(part, "do_polysemous_training", False):
            part.do_polysemous_training = False
        trainable = [part, *(getattr(part, name, None) for name in _QUANTIZERS)]
        for clustering in (getattr(learner, "cp", None) for learner in trainable):
            if clustering is not None:
                clustering.min_points_per_centroid = 1
    quantizers = []
    for rotation in _rotations(index):
        # what does not divide is left to FAISS, which refuses it in its own words
        if rotation.d_out % rotation.M == 0:
            quantizer = faiss.ProductQuantizer(rotation.d_out, rotation.M, _OPQ_BITS)
            quantizer.cp.min_points_per_centroid = 1
            rotation.pq = quantizer
            quantizers.append(quantizer)
    return quantizers


def forget_training(index: faiss.Index) -> None:
    """Release the quantizers that `prepare_training` returned."""
    for rotation in _rotations(index):
        rotation.pq = None


def _rotations(index: faiss.Index) -> Iterator[faiss.OPQMatrix]:
    for part in parts(index):
        if isinstance(part, faiss.IndexPreTransform):
            # a vector of C++, which the stubs call a list
            chain: Any = part.chain
            for place in range(chain.size()):
                transform = faiss.downcast_VectorTransform(chain.at(place))
                if isinstance(transform, faiss.OPQMatrix):
                    yield transform
