"""Settings of an extraction; nothing here imports torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from ...featcache.bounds import MOST
from ...featcache.errors import SpecError
from ...featcache.settings import Setting, check_settings
from ...featcache.store.extract_options import MASK_SHARE, ExtractOptions
from ..common.shared_settings import Home

_ON_ERROR = re.compile(r"skip|fail|max=(\d{1,18})")


@dataclass(frozen=True, kw_only=True)
class ExtractSpec(ExtractOptions):
    """Settings of one extraction; see `ExtractOptions` for those that have a default.

    Attributes:
        encoders: Those of one modality share each decoded item.
        source: Options of the dataset, by name.
        rows_per_shard: About 64 MiB if None.
        derive: Whether features other than tokens are made of a complete store of the same tokens,
            where there is one that is at least as exact, instead of encoding again.
        mask_share: Of the tokens of a text, in each of `mlm_variants`.
        view_seed: Seed of what views draw.
        views_only: Whether the stores of views alone are filled.
    """

    encoders: Annotated[
        tuple[str, ...],
        Setting(
            "Encoder: a card's name, ./card.toml, timm:MODEL or hf:MODEL; repeatable.",
            flag="--encoder",
            each_once=True,
        ),
    ]
    data: Annotated[str, Setting("Dataset as NAME or NAME=PATH.")]
    home: Home
    source: Mapping[str, Any] = field(default_factory=dict)
    rows_per_shard: Annotated[
        int | None,
        Setting("Items per shard; about 64 MiB if none.", least=1, most=MOST, table_only=True),
    ] = None
    derive: Annotated[
        bool, Setting("Make features of stored tokens where these are there.", table_only=True)
    ] = True
    mask_share: Annotated[
        float,
        Setting(
            "Probability with which a token is masked.",
            above=0,
            most=1,
            called="a share",
            table_only=True,
        ),
    ] = MASK_SHARE
    view_seed: Annotated[
        int, Setting("Seed of what is masked.", least=0, most=MOST, table_only=True)
    ] = 0
    views_only: Annotated[
        bool, Setting("Leave the features of unmasked items out.", table_only=True)
    ] = False

    def __post_init__(self) -> None:
        check_settings(self)
        if self.on_error is not None and not _ON_ERROR.fullmatch(self.on_error):
            raise SpecError(f"on_error is skip, fail or max=N, found {self.on_error!r:.200}")
        if not self.mlm_variants and (self.mask_share, self.view_seed) != (MASK_SHARE, 0):
            raise SpecError("mask_share and view_seed are of masked texts: name --mlm-variants")
        if self.views_only and not (self.mlm_variants or self.mask_boxes):
            raise SpecError("views_only leaves nothing: name --mlm-variants or --mask-boxes")
        if any(layer >= 0 for layer in self.layers):
            raise SpecError(f"layers count from the end, -1 is the last; found {list(self.layers)}")
        if self.weights is not None and len(self.encoders) > 1:
            raise SpecError("weights can be given for one encoder at a time")

    def allowed_bad(self, num_items: int) -> int:
        """Return how many of a split's items may be unreadable."""
        matched = _ON_ERROR.fullmatch(self.on_error or "")
        if matched is None:
            return int(self.max_bad * num_items)
        if matched[1] is not None:
            return int(matched[1])
        return num_items if self.on_error == "skip" else 0
