"""Find an encoder's card by what names it on the command line: a name, a file, or a model.

`NAME` is a card of lightalign or of `HOME/encoders`, `./my-vit.toml` a card anywhere, and
`timm:MODEL` and `hf:MODEL` are models of which a card is derived. Nothing here imports torch before
a card has to be derived.
"""

import importlib
import os
from pathlib import Path

from ..atomic_files import write_bytes
from ..config import Table, to_table, to_toml, without_none
from ..errors import SpecError
from ..home import expanded
from . import card as cards
from .card import HOME_CARDS, EncoderCard, read_card, read_card_file, safe_name, split_half

# By scheme the module of `backends` that derives cards of a library, and its function.
SCHEMES = {
    "timm": ("_timm_cards", "derive_timm_card"),
    "hf": ("_huggingface_cards", "derive_huggingface_card"),
}
_NOTE = "# kept by lightalign, of --encoder "


def card_name(reference: str) -> str:
    """Return the name of the card that `reference` names; that of a name is the name itself.

    Raises:
        SpecError: No name of a folder can be made of it.
    """
    scheme, colon, model = reference.partition(":")
    if colon and scheme in SCHEMES:
        folder, half = split_half(model)
        place = expanded(Path(folder))
        if place.is_dir():
            model = "-".join(filter(None, (place.absolute().name, half)))
        return safe_name(f"{scheme}-{model}")
    if reference.endswith(".toml"):
        return safe_name(Path(reference).stem)
    return reference


def find_card(
    reference: str, *, home: Path | None = None, weights: Path | None = None
) -> EncoderCard:
    """Return the card that `reference` names, of lightalign, of `home` or of a model.

    A model is a name, a repository `OWNER/NAME` of the hub, or a folder. Where `weights`, a file or
    a hub directory, are given instead of the model's own, a derived card is of these.

    Raises:
        UnknownNameError: Nothing has this name.
        SpecError: The card's TOML is wrong, or no card can be derived.
        WeightsNotFoundError: The model to derive a card from is not there.
        WeightsMismatchError: It is no encoder of images or texts.
    """
    scheme, colon, model = reference.partition(":")
    if colon and scheme in SCHEMES:
        if not model:
            raise SpecError(f"--encoder {reference} names no model: say {scheme}:MODEL or a folder")
        module, function = SCHEMES[scheme]
        # importing it imports the library
        derive = getattr(importlib.import_module(f".backends.{module}", __package__), function)
        card: EncoderCard = derive(model, name=card_name(reference), weights=weights)
        return card
    path = expanded(Path(reference))
    if reference.endswith(".toml"):
        if not path.is_file():
            raise SpecError(f"there is no encoder card {reference}")
        if safe_name(path.stem) in cards.card_names():
            raise SpecError(
                f"{path} has the name of a card that comes with lightalign: give it another"
            )
        return read_card_file(path)
    if reference and path.is_dir() and reference not in cards.card_names(home):
        raise SpecError(
            f"{reference} is a folder: say which library wrote it, by --encoder timm:{reference} "
            f"or --encoder hf:{reference}"
        )
    return read_card(reference, home=home)


def lasting_reference(reference: str) -> str:
    """Return a reference as it can be given in any folder: with absolute paths."""
    scheme, colon, model = reference.partition(":")
    if colon and scheme in SCHEMES:
        folder, half = split_half(model)
        place = expanded(Path(folder))
        if not place.is_dir():
            return reference
        return f"{scheme}:{place.absolute()}" + (f"#{half}" if half else "")
    if reference.endswith(".toml"):
        return str(expanded(Path(reference)).absolute())
    return reference


def keep_card(reference: str, card: EncoderCard, home: Path) -> None:
    """Keep a card that is neither ours nor of this home as `HOME/encoders/NAME.toml`.

    So its name alone finds it again: that is what stores, runs and messages call the encoder.

    Raises:
        SpecError: That file is there and is a card of another encoder.
    """
    if reference == card.name:
        return
    path = home / HOME_CARDS / f"{card.name}.toml"
    if os.path.realpath(expanded(Path(reference))) == os.path.realpath(path):
        return
    table = without_none(_table(card))
    note = f"{_NOTE}{lasting_reference(reference)!r}\n"  # quoted: a line break ends no comment
    if path.is_file() and not path.read_text(encoding="utf-8").startswith(note):
        if without_none(_table(read_card_file(path))) == table:
            return
        raise SpecError(
            f"{path} is a card of another encoder than {reference}, and stores call both "
            f"{card.name!r}: rename one of them, or take the kept one by --encoder {card.name}"
        )
    content = note + to_toml(table, where=str(path))
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content.encode())


def table_of_own(card: EncoderCard) -> Table | None:
    """Return a card as a manifest holds it, or None of one that comes with lightalign."""
    return None if card.name in cards.card_names() else without_none(_table(card))


def _table(card: EncoderCard) -> Table:
    table = to_table(card)
    del table["name"]
    return table
