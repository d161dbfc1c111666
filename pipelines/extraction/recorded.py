"""The request that extracts a store again, as its manifest records it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...featcache.known_datasets import version_of
from ...featcache.store.extract_options import options_of_view
from .spec import ExtractSpec


def spec_of(
    manifest: Mapping[str, Any],
    home: Path,
    *,
    data: str | None = None,
    weights: Path | None = None,
    source: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> ExtractSpec:
    """Return the spec that extracts what a manifest describes.

    Args:
        manifest: Manifest of the store.
        home: Folder of everything lightalign keeps.
        data: `NAME=PATH` where the dataset is not in its place.
        weights: Weights in place of those given then, which are taken if they are still there.
        source: Options of the dataset in place of those that the manifest records.
        device: `auto`, `cpu` or `cuda`.
    """
    description = manifest["description"]
    settings = manifest["settings"]
    options = settings.get("source", {})
    recorded = settings.get("weights")
    if weights is None and isinstance(recorded, str) and Path(recorded).exists():
        weights = Path(recorded)
    version = version_of(home, description["dataset"], description["split"], description["source"])
    if version is not None and data is None:
        data = version.data
        options = version.options
    view = description.get("view")
    asked = {} if view is None else {**options_of_view(view), "views_only": True}
    return ExtractSpec(
        **asked,
        encoders=(description["encoder"],),
        data=data or description["dataset"],
        home=home,
        split=description["split"],
        weights=weights,
        source={**options, **(source or {})},
        features=(description["kind"],),
        layers=(description["layer"],),
        format=description["container"],
        dtype=description["dtype"],
        compression=description["compression"],
        precision=description["identity"].get("precision", "float32"),
        compile="compiled_cosine" in settings,
        batch_size=settings.get("batch_size"),
        rows_per_shard=description["rows_per_shard"],
        # what could not be read then is no reason to repair nothing now; but what was never
        # finished is held to the usual share of bad items
        on_error="skip" if manifest["complete"] else None,
        device=device,
    )
