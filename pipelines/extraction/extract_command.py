"""The command line that asks for an extraction, to be copied from a message."""

from pathlib import Path

from ...featcache.encoders.references import lasting_reference
from ...featcache.known_datasets import source_words
from ...featcache.sources.opening import absolute_data
from ...featcache.store.remedies import extract_command, view_changes
from .spec import ExtractSpec


def command_of(spec: ExtractSpec) -> str:
    """Return the command that runs `spec`, in any folder."""
    options = {
        name: value.absolute() if isinstance(value, Path) else value
        for name, value in vars(spec).items()
    }
    changes: dict[str, object] = {}
    if spec.rows_per_shard is not None:
        changes["rows_per_shard"] = spec.rows_per_shard
    if not spec.derive:
        changes["derive"] = False
    changes |= view_changes(options)
    if spec.views_only:
        changes["views_only"] = True
    return extract_command(
        [lasting_reference(encoder) for encoder in spec.encoders],
        ["--data", absolute_data(spec.data), *source_words(spec.source)],
        home=spec.home,
        options=options,
        changes=changes,
    )
