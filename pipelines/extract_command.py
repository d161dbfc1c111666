"""The command line that asks for an extraction, to be copied from a message."""

import dataclasses
import json
from pathlib import Path

from ..featcache.datasets import absolute_data
from ..featcache.home import command_line
from ..featcache.references import lasting_reference
from .extract import ExtractSpec

_OPTIONS = {  # by field; what has its default is not named
    "split": "split",
    "weights": "weights",
    "features": "features",
    "layers": "layers",
    "format": "format",
    "dtype": "dtype",
    "compression": "compression",
    "precision": "precision",
    "batch_size": "batch-size",
    "workers": "workers",
    "max_bad": "max-bad",
    "on_error": "on-error",
    "device": "device",
}


def command_of(spec: ExtractSpec) -> str:
    """Return the command that runs `spec`, in any folder."""
    words = ["extract"]
    for encoder in spec.encoders:
        words += ["--encoder", lasting_reference(encoder)]
    words += ["--data", absolute_data(spec.data)]
    defaults = {field.name: field.default for field in dataclasses.fields(spec)}
    for name, option in _OPTIONS.items():
        value = getattr(spec, name)
        value = value.absolute() if isinstance(value, Path) else value
        if value == defaults[name]:
            continue
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        # a layer begins with a dash, as options do
        words += [f"--{option}={shown}"] if shown.startswith("-") else [f"--{option}", shown]
    if spec.compile:
        words.append("--compile")
    changes = {f"source.{name}": value for name, value in spec.source.items()}
    if spec.rows_per_shard is not None:
        changes["rows_per_shard"] = spec.rows_per_shard
    if not spec.derive:
        changes["derive"] = False
    for name, value in changes.items():
        words += ["--set", f"{name}={json.dumps(value, ensure_ascii=False)}"]
    return command_line(*words, home=spec.home)
