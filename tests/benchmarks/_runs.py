"""Train and evaluate by name, so that a stopped benchmark goes on."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from lightalign.featcache.config import canonical_json, fingerprint, to_table
from lightalign.featcache.errors import RunNotFoundError, SpecError
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.extraction import extract
from lightalign.pipelines.extraction.spec import ExtractSpec
from lightalign.pipelines.inputs.store_selection import DatasetQuery
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train
from lightalign.pipelines.training.options import resolve_preset
from lightalign.pipelines.training.spec import TrainSpec

ENCODERS = ("efficientnet-lite0", "minilm")
COLUMNS = [(side, k) for side in ("text_to_image", "image_to_text") for k in ("1", "5", "10")]
HEADS = [f"{'t2i' if side == 'text_to_image' else 'i2t'} R@{k}" for side, k in COLUMNS]


@contextmanager
def kept_home(home: Path | None) -> Iterator[Path]:
    """Give the folder that keeps stores and runs, or without one a folder that goes at the end."""
    if home is not None:
        yield home
        return
    with tempfile.TemporaryDirectory(prefix="lightalign-") as folder:
        yield Path(folder)


def file_name(label: str) -> str:
    """Return a label, such as the name of a preset, as a part of a file name."""
    return label.replace("/", "-").replace(":", "-")


def extract_all(
    home: Path,
    data: str,
    source: Mapping[str, Any],
    encoders: Sequence[str] = ENCODERS,
    **fields: Any,
) -> None:
    """Extract the dataset with these encoders, or find it in the cache.

    `fields` are those of `ExtractSpec`.
    """
    for encoder in encoders:
        extract.run(
            ExtractSpec(encoders=(encoder,), data=data, home=home, source=dict(source), **fields)
        )


def trained(
    label: str, home: Path, data: str, source: Mapping[str, Any], sets: Sequence[str], **fields: Any
) -> Path:
    """Return the folder of a run of this label, data and options; train it if it is not there.

    `fields` are those of `TrainSpec`; the encoders are `ENCODERS` if none are named there.

    Raises:
        SpecError: The run is there, and was trained by a preset that has changed since.
    """
    wanted = DatasetQuery.of(data, home=home, options=source)
    asked = fingerprint([wanted.fingerprint("train"), list(sets), fields])[:12]
    name = f"{file_name(label)}-{wanted.name}-{asked}"
    try:
        folder = run_folder.find_run(home, name)
    except RunNotFoundError:
        spec = TrainSpec(
            home=home,
            data=data,
            source=source,
            overrides=tuple(sets),
            name=name,
            **{"image_encoder": ENCODERS[0], "text_encoder": ENCODERS[1], **fields},
        )
        return train.run(spec).folder
    table, options = resolve_preset(fields.get("preset"), fields.get("fusion"), sets)
    now = {**table, "train": to_table(options)}
    then = run_folder.read_spec(folder)
    for key in ("towers", "objective", "start", "fit", "finish", "train"):
        if canonical_json(now.get(key)) != canonical_json(then.get(key)):
            raise SpecError(f"[{key}] of {folder} is another now: remove that run")
    return folder


def evaluated(
    folder: Path, home: Path, data: str, source: Mapping[str, Any], split: str
) -> Mapping[str, Any]:
    """Return the report of a run's retrieval."""
    spec = retrieve.RetrieveSpec(home=home, run=str(folder), data=data, source=source, split=split)
    return retrieve.run(spec).report


def measured(
    folder: Path, home: Path, data: str, source: Mapping[str, Any], split: str
) -> dict[str, float]:
    """Return the recalls of a run in both directions, and their sum."""
    metrics = evaluated(folder, home, data, source, split)["metrics"]
    found = {f"{side} R@{k}": metrics[side]["recall"][k]["value"] for side, k in COLUMNS}
    return {**found, "sum": metrics["recall_sum"]["value"]}


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return mean and sample deviation of each number."""
    return {
        key: [
            mean(row[key] for row in rows),
            stdev(row[key] for row in rows) if rows[1:] else 0.0,
        ]
        for key in rows[0]
    }
