"""Project both modalities by CCA on kernel values at anchors."""

from typing import ClassVar

from .cca import Cca


class KernelCca(Cca):
    """Project both modalities by CCA on kernel values at anchors.

    The slot must be a `kernel-map`, whose anchors are training items: all of a side where there are
    few, which makes it kernel CCA itself, else random ones (Nystroem), those of all images before a
    second text of any. CCA, its ridge and its power are those of `cca` on the features
    K^(-1/2) k(x), K the kernel of the anchors: a ridge there weighs the norm of the function.

    Source: kernel CCA, Hardoon et al. 2004, Neural Computation 16, section 4, with the arc-cosine
    kernel of Cho and Saul 2009; anchors as in Williams and Seeger 2001. We differ from Hardoon in
    that values are centred and that both sides are solved for at once.

    Args:
        regularisation: Ridge in units of the mean variance of the features; at least 0.
        power: Exponent of the canonical correlations.
        captions: See `cca`; it is the kernel values of the texts that are averaged.

    Raises:
        SpecError: `regularisation` or `power` is negative.
        UnknownNameError: There are no such `captions`.
    """

    by_kernel: ClassVar[bool] = True

    def __init__(
        self, *, regularisation: float = 2.0, power: float = 0.5, captions: str = "each"
    ) -> None:
        super().__init__(regularisation=regularisation, power=power, captions=captions)
