"""Open an encoder by the name of its card, or from a card of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import LightalignError, SpecError, WeightsMismatchError
from ..hardware import resolve_device
from ..modalities import reader_of
from ..registry import Registry
from .card import EncoderCard
from .references import find_card
from .weights import OF_TIMM, Weights, find_weights, read_config

if TYPE_CHECKING:
    from .base import Encoder

    AnyEncoder: TypeAlias = Encoder[Any]
else:
    # At run time torch is imported only once the weights are found: a mistake in `--weights`
    # is reported before the seconds that this import takes.
    AnyEncoder = Any

BACKENDS = Path(__file__).parent / "backends"


def open_encoder(
    name: str,
    *,
    home: Path | None = None,
    weights: Path | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> AnyEncoder:
    """Build the encoder whose card is called `name`.

    Args:
        name: Name of a card, such as `dino-vits16`, the path of one, `timm:MODEL` or `hf:MODEL`.
        home: Folder of everything lightalign keeps, with cards of its own.
        weights: Weights file or hub directory to use instead of the card's own.
        device: Where the model runs: `auto`, `cpu`, `cuda` or `cuda:1`.
        progress: Whether a download draws its bars on standard error.

    Raises:
        UnknownNameError: No card has this name.
        WeightsNotFoundError: The weights are nowhere to be found.
        WeightsMismatchError: The weights are not those of the card.
        DeviceError: This machine has no such device.
    """
    card = find_card(name, home=home, weights=weights)
    return build_encoder(card, weights=weights, device=device, progress=progress)


def build_encoder(
    card: EncoderCard,
    *,
    weights: Path | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> AnyEncoder:
    """Build the encoder that `card` describes; see `open_encoder`.

    Raises:
        UnknownNameError: The card names a backend that does not exist.
        LightalignError: See `open_encoder`.
    """
    located = find_weights(card, override=weights, progress=progress)
    return load_encoder(card, located, device=device)


def load_encoder(card: EncoderCard, weights: Weights, *, device: str = "cpu") -> AnyEncoder:
    """Build the encoder that `card` describes from weights that `find_weights` has found.

    Raises:
        UnknownNameError: The card names a backend that does not exist.
        SpecError: The backend has no encoders of the card's modality.
        WeightsMismatchError: The weights are not those of the card.
        DeviceError: This machine has no such device.
    """
    from .probe import require_repeatable

    name = backend_for(card, weights)
    backend = load_backend(name)
    if card.modality not in backend.modalities:
        plurals = " and ".join(reader_of(modality).plural for modality in backend.modalities)
        raise SpecError(
            f"encoder card {card.name}: modality = {card.modality.value!r}, but encoders of "
            f"backend {name} read {plurals}"
        )
    place = resolve_device(device)
    try:
        encoder: AnyEncoder = backend.build(card, weights, device=place)
        require_repeatable(encoder)
    except LightalignError:
        raise
    except Exception as error:  # whatever the libraries stumble over in files that are not ours
        if weights.files is None:
            raise
        reason = " ".join(str(error).split())
        raise WeightsMismatchError(
            f"encoder {card.name!r} cannot be built from {weights.files}: {type(error).__name__}: "
            f"{reason:.300}"
        ) from error
    return encoder


def load_backend(name: str) -> Any:
    """Return the class of encoders called `name`, and import the libraries it needs.

    Raises:
        UnknownNameError: There is no such backend.
    """
    from .base import Encoder

    package = f"{__package__}.{BACKENDS.name}"
    registry: Registry[Any] = Registry("encoder backend", package, BACKENDS, Encoder)
    return registry.load(name)


def backend_for(card: EncoderCard, weights: Weights) -> str:
    """Return the backend that reads `weights`: a hub directory says it in its config.json.

    A transformers directory is read by `huggingface` whatever the card's backend is, so that
    either library's copy of a model serves its card.

    Raises:
        WeightsMismatchError: The config.json cannot be read.
    """
    if weights.files is None or not weights.files.is_dir():
        return card.backend
    path = weights.files / "config.json"
    if not path.is_file():
        return card.backend  # timm's own hub cache holds nothing but the weights
    config = read_config(card, path)
    if config.get("model_type", OF_TIMM) != OF_TIMM:
        return "huggingface"
    return "timm" if "architecture" in config else card.backend
