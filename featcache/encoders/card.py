"""Encoder cards: what is known about a pretrained encoder before any of its files are there."""

import hashlib
import json
import math
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from .. import config
from ..documents import read_toml
from ..errors import SpecError
from ..home import expanded
from ..modalities import MODALITIES, reader_of
from ..notes import note
from ..registry import unknown_name
from ..types import Modality

CARDS = Path(__file__).parents[2] / "data" / "encoders"
HOME_CARDS = "encoders"  # folder of a home's own cards
MAPPINGS = ("by-name", "by-order")
_UNSAID = {"licence": "not stated", "source": "a card of one's own"}
_WITH_PROMPTS = "huggingface"
_LONGEST_NAME = 120  # bytes; file systems take 255, and a key stands behind it


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Layout of the tokens that an encoder returns: a grid, as of images, or ragged, as of texts.

    Attributes:
        prefix_tokens: Tokens before the grid: CLS, distillation, registers.
        grid: Rows and columns of patches (or of a feature map), read row by row.
        ragged: Whether the number of tokens differs from item to item.
        max_tokens: Longest ragged item in tokens, special ones included; the rest is cut off.
    """

    prefix_tokens: int = 0
    grid: tuple[int, ...] | None = None
    ragged: bool = False
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        is_grid = self.grid is not None and len(self.grid) == 2 and not self.ragged
        is_ragged = self.grid is None and self.ragged and self.max_tokens is not None
        if not is_grid and not is_ragged:
            stated = [
                f"{entry.name} = {json.dumps(getattr(self, entry.name))}"
                for entry in fields(self)
                if getattr(self, entry.name) != entry.default
            ]
            raise SpecError(
                "layout must have `grid = [rows, columns]`, or `ragged = true` with `max_tokens`; "
                f"found {', '.join(stated) or 'neither'}"
            )

    @property
    def tokens_per_item(self) -> int | None:
        """Return the number of tokens of every item, or None where items differ."""
        return None if self.grid is None else self.prefix_tokens + math.prod(self.grid)


@dataclass(frozen=True, kw_only=True)
class Package:
    """An installable package that carries the weights, at `path` in the folder of its `module`."""

    distribution: str
    module: str
    path: str


@dataclass(frozen=True, kw_only=True)
class WeightsCard:
    """Sources of an encoder's pretrained weights; where none is named, none are needed.

    Attributes:
        hub: Hub repository.
        revision: Commit of the hub repository; None is the newest.
        path: Weights file or hub directory on this machine, which goes before hub and package.
        mapping: `by-name`, or `by-order` for files whose tensors have other names in the same
            order.
    """

    hub: str | None = None
    revision: str | None = None
    package: Package | None = None
    path: str | None = None
    mapping: str = "by-name"

    def __post_init__(self) -> None:
        if self.mapping not in MAPPINGS:
            raise SpecError(f"weights.mapping must be one of {MAPPINGS}, found {self.mapping!r}")

    @property
    def needed(self) -> bool:
        """Return whether the card names a place of pretrained weights."""
        return any(place is not None for place in (self.hub, self.package, self.path))


@dataclass(frozen=True, kw_only=True)
class EncoderCard:
    """Describe one encoder; `data/encoders/<name>.toml` holds all fields but the name.

    Attributes:
        backend: Module of `featcache/encoders/backends` that builds it.
        model: Architecture, or hub repository, as the backend names it.
        width: Features of one token.
        licence: Licence of the weights.
        source: Paper or page that describes the encoder.
        note: What a user should know before comparing numbers.
        prompt: Name of the prompt, of those that a sentence-transformers directory keeps, which
            stands before every text; None is its default one.
    """

    name: str
    title: str
    modality: Modality
    backend: str
    model: str
    width: int
    layout: Layout
    licence: str
    source: str
    note: str = ""
    prompt: str | None = None
    weights: WeightsCard = field(default_factory=WeightsCard)

    def __post_init__(self) -> None:
        if self.prompt is None:
            return
        if self.backend != _WITH_PROMPTS or not reader_of(self.modality).may_list_modules:
            raise SpecError(
                f"encoder card {self.name}: prompt = {self.prompt!r:.80} is for texts of backend "
                f"{_WITH_PROMPTS} only; leave it out"
            )


def card_names(home: Path | None = None) -> list[str]:
    """List the names of all cards that come with lightalign, and those of a home; sorted."""
    return sorted({path.stem for path in CARDS.glob("*.toml")} | set(home_cards(home)))


def home_cards(home: Path | None) -> dict[str, list[Path]]:
    """Return the files of cards in `HOME/encoders`, by the name of the card.

    Several have one name where their own names differ by what no folder's name can hold.
    """
    paths: dict[str, list[Path]] = {}
    for path in sorted((home / HOME_CARDS).glob("*.toml")) if home is not None else ():
        name = _stem_name(path)
        if name is not None:
            paths.setdefault(name, []).append(path)
    return paths


def list_encoders(home: Path | None = None) -> list[EncoderCard]:
    """Read all cards, sorted by name; a file of a home that cannot be read is named by a note."""
    cards = (_listed(name, home) for name in card_names(home))
    return [card for card in cards if card is not None]


def _listed(name: str, home: Path | None) -> EncoderCard | None:
    try:
        return read_card(name, home=home)
    except (SpecError, OSError) as error:
        if not home_cards(home).get(name):
            raise
        note(f"a card is passed over: {error}")
        return read_card(name) if _is_ours(name) else None


def _stem_name(path: Path) -> str | None:
    """Return the name that a file gives to its card, or None where nothing could ask for it."""
    try:
        return safe_name(path.stem)
    except SpecError as error:
        note(f"a card is passed over: {path}: {error}")
        return None


def read_card(name: str, *, home: Path | None = None) -> EncoderCard:
    """Read the card called `name`, of lightalign or of a home.

    Raises:
        UnknownNameError: No card has this name.
        SpecError: The card's TOML is wrong, or two cards have this name.
    """
    if name not in card_names(home):
        raise unknown_name("encoder", name, card_names(home))
    of_home = home_cards(home).get(name, [])
    if not of_home:
        return parse_card(name, read_toml(CARDS / f"{name}.toml"))
    if _is_ours(name):
        raise SpecError(
            f"{of_home[0]} has the name of a card that comes with lightalign: give the file another"
        )
    if len(of_home) > 1:
        raise SpecError(f"{of_home[0]} and {of_home[1]} are both called {name!r}: rename one")
    return read_card_file(of_home[0])


def _is_ours(name: str) -> bool:
    return (CARDS / f"{name}.toml").is_file()


def read_card_file(path: Path) -> EncoderCard:
    """Read a card of one's own; places of weights are relative to its folder.

    Raises:
        SpecError: The card's TOML is wrong.
    """
    table = read_toml(path)
    weights = table.get("weights")
    if isinstance(weights, dict) and isinstance(weights.get("path"), str):
        place = expanded(Path(weights["path"]))
        table = {**table, "weights": {**weights, "path": str((path.parent / place).absolute())}}
    name = safe_name(path.stem)
    try:
        return parse_card(name, {**_UNSAID, "title": path.stem, **table})
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def safe_name(name: str) -> str:
    """Return a name as a folder can have it: letters, digits, `.`, `_` and single `-`.

    Raises:
        SpecError: Nothing is left of it.
    """
    safe = re.sub(r"-{2,}", "-", re.sub(r"[^\w.-]", "-", name)).strip("-.")
    if not safe:
        raise SpecError(f"{name!r} cannot name an encoder: no letter and no digit is in it")
    if len(safe.encode()) <= _LONGEST_NAME:
        return safe
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    cut = safe.encode()[: _LONGEST_NAME - 9].decode(errors="ignore")
    return f"{cut.rstrip('-.')}-{digest}"


def parse_card(name: str, table: config.Table) -> EncoderCard:
    """Build a card from its TOML table.

    Raises:
        SpecError: The table has unknown, missing or wrong entries.
    """
    modalities = MODALITIES.names()
    if "modality" in table and table["modality"] not in modalities:
        raise SpecError(
            f"encoder card {name}: modality must be one of {modalities}, "
            f"found {table['modality']!r:.80}"
        )
    resolved = {**table, "name": name}
    if "modality" in table:
        resolved["modality"] = Modality(table["modality"])
    return config.build(EncoderCard, resolved, where=f"encoder card {name}")


def split_half(model: str) -> tuple[str, str | None]:
    """Return a model without its `#image` or `#text`, and which of the modalities it was."""
    name, _, half = model.rpartition("#")
    return (name, half) if name and half in MODALITIES.names() else (model, None)
