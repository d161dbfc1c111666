"""Write the towers of a run for other libraries; what is written needs no lightalign.

    onnx                    <modality>-adapter.onnx: features to embedding
                                values float32 [batch, tokens, width], mask bool [batch, tokens]
                            <modality>.onnx: the frozen encoder before it, too
                                pixel_values float32 [batch, 3, height, width], or
                                input_ids and attention_mask int64 [batch, tokens]
                            each gives embedding float32 [batch, embed], of length 1
                            tokenizer.json: makes the ids, cuts and pads (texts)
    sentence-transformers   one tower as a folder that SentenceTransformer opens

Beside them lies lightalign.json: the encoders with their preprocessing and the hashes of their
weights, inputs and outputs of each file, versions, and how far cosines are from the run's.
"""

from collections.abc import Iterable, Mapping
from importlib import metadata, util
from pathlib import Path
from typing import Any

from ... import __version__
from ...featcache import atomic_files
from ...featcache.documents import read_json
from ...featcache.errors import ExportError, MissingExtraError, StoreCorruptError
from ...featcache.home import expanded
from ...featcache.types import IMAGE_TEXT, Modality, in_words, sides_of
from ..common.destinations import check_folder
from ..common.progress import SILENT, Progress
from ..common.versions import library_versions
from ..extraction.exact import ROUNDED, USUAL_DTYPE, exact_commands, inexact_sides, why_inexact
from ..inputs.store_selection import each_recorded
from ..runs import run_folder
from .export_spec import TARGETS, ExportedRun, ExportSpec
from .onnx import write_towers
from .sentence_transformers import write_tower

ABOUT = "lightalign.json"
VERSION = 1  # of the table in it
_FORMAT = "lightalign towers for"


def run(spec: ExportSpec, progress: Progress = SILENT) -> ExportedRun:
    """Export the towers of a run, whole or not at all, and compare each with the run.

    Raises:
        RunNotFoundError: There is no such finished run.
        SpecError: There is something at `output`.
        MissingExtraError: A package that the target needs is not installed.
        ExportError: A tower cannot be expressed there, or gives other cosines.
        LightalignError: The encoders cannot be opened; see `LoadedRun`.
    """
    folder = run_folder.find_run(spec.home, spec.run)
    table = run_folder.read_spec(folder)
    _require_images_and_texts(folder, table)
    _require_one_stream(spec, folder, table)
    if spec.to == "sentence-transformers":
        _require_exact(table, spec)
    path = expanded(spec.output).absolute()
    atomic_files.clear_abandoned_beside(path)
    # refused before encoders are opened, which takes long
    _check_free(path, force=spec.force)
    _require_packages(spec.to)
    of_target = {name: metadata.version(name) for name in TARGETS[spec.to]}
    with atomic_files.making(path.parent), atomic_files.replacing(path) as temporary:
        temporary.mkdir()
        towers = _write(spec, folder, temporary, progress)
        about = {
            "format": f"{_FORMAT} {spec.to}",
            "version": VERSION,
            "run": folder.name,
            "versions": {"lightalign": __version__, **library_versions(), **of_target},
            "towers": towers,
        }
        atomic_files.write_json(temporary / ABOUT, about)
        # asked again: writing towers takes long enough for a file to appear at the place
        _check_free(path, force=spec.force)
    size = sum(file.stat().st_size for file in atomic_files.files_below(path))
    inexact = inexact_sides(table, towers) if spec.whole else {}
    remedy = f"for whole towers {_remedy(table, inexact, spec)}" if inexact else None
    return ExportedRun(run=folder, path=path, to=spec.to, towers=towers, remedy=remedy, bytes=size)


def _require_exact(table: Mapping[str, Any], spec: ExportSpec) -> None:
    """Refuse a tower whose encoder computed otherwise than exports do, before it is opened."""
    for side, encoder in inexact_sides(table, [_tower_for_stock(spec).value]).items():
        raise ExportError(
            f"{why_inexact(encoder)}: {_remedy(table, [side], spec)}, or take --to onnx "
            "--adapter-only, which leaves the encoder out"
        )


def _remedy(table: Mapping[str, Any], sides: Iterable[str], spec: ExportSpec) -> str:
    commands = exact_commands(table, sides, home=spec.home, weights=spec.weights)
    return f"run `{commands}` and train again"


def _remedy_for_rounding(table: Mapping[str, Any], side: str, spec: ExportSpec) -> str:
    """Return what to do where stored features were rounded, which no stock module does."""
    dtype = table["stores"]["train"].get(side, {}).get("dtype")
    if dtype not in ROUNDED:
        return ""
    commands = exact_commands(
        table, [side], home=spec.home, weights=spec.weights, dtype=USUAL_DTYPE
    )
    return (
        f"the features were stored in {dtype}, to which no stock module rounds them; run "
        f"`{commands}` and train again, or take --to onnx, which rounds them"
    )


def _tower_for_stock(spec: ExportSpec) -> Modality:
    return Modality(spec.towers[0]) if spec.towers else Modality.TEXT


def _require_images_and_texts(folder: Path, table: Mapping[str, Any]) -> None:
    encoders = table.get("encoders", {})
    if encoders and (sides := sides_of(encoders)) != IMAGE_TEXT:
        raise ExportError(
            f"{folder.name} aligns {in_words(sides)}, and only adapters between images and texts "
            "can be exported"
        )


def _require_one_stream(spec: ExportSpec, folder: Path, table: Mapping[str, Any]) -> None:
    encoders = table.get("encoders", {})
    usual = encoders if spec.to == "onnx" else [_tower_for_stock(spec).value]
    for side in spec.towers or usual:
        count = len(each_recorded(encoders.get(side)))
        if count > 1:
            raise ExportError(
                f"the {side} tower of {folder.name} reads {count} streams, and an exported tower "
                "reads one: name the other by --tower"
            )


def _check_free(path: Path, *, force: bool) -> None:
    check_folder(path, option="--output", force=force, is_own=is_export, what="export of a run")


def is_export(folder: Path) -> bool:
    """Return whether a folder holds an exported run."""
    if not (folder / ABOUT).is_file():
        return False
    try:
        about = read_json(folder / ABOUT)
    except StoreCorruptError:
        return False
    return isinstance(about, dict) and str(about.get("format", "")).startswith(_FORMAT)


def _require_packages(target: str) -> None:
    missing = [name for name in TARGETS[target] if util.find_spec(name.replace("-", "_")) is None]
    if missing:
        raise MissingExtraError(
            f'--to {target} needs {" and ".join(missing)}: `pip install "lightalign[export]"`'
        )


def _write(spec: ExportSpec, folder: Path, place: Path, progress: Progress) -> dict[str, Any]:
    if spec.to == "onnx":
        return write_towers(spec, folder, place, progress)
    side = _tower_for_stock(spec)
    remedy = _remedy_for_rounding(run_folder.read_spec(folder), side.value, spec)
    return write_tower(spec, folder, place, modality=side, remedy=remedy, progress=progress)
