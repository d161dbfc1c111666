"""Request of a training of a joint adapter; nothing here imports torch."""

from dataclasses import dataclass
from typing import Annotated

from ...featcache.errors import SpecError
from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import Device, Home, Seed, SourceOptions
from .spec import Layers, Overrides


@dataclass(frozen=True, kw_only=True)
class TrainJointSpec:
    """Settings of one training of a joint adapter.

    Attributes:
        data: `NAME` of a dataset, for the newest stores; `NAME=PATH` for those of the dataset as it
            is there now.
        objective: `NAME=WEIGHT` of each objective, separated by commas, in the place of those of
            the preset, whose options they keep; a name alone has the weight 1.
        negatives_from: Name or folder of a finished run that aligns the same two modalities. Wrong
            pairs of `itm` are drawn in proportion to the softmax of its cosines.
        overrides: `a.b=c` on the preset's tables.
        name: Name of the run, or None for an automatic one.
    """

    home: Home
    preset: Annotated[str, Setting("Preset of a joint adapter.")] = "lightalign/joint-small"
    data: Annotated[str | None, Setting("Dataset; the newest stores if none.")] = None
    source: SourceOptions = None
    image_encoder: Annotated[
        str | None, Setting("Encoder of the images; the newest store if none.")
    ] = None
    text_encoder: Annotated[
        str | None, Setting("Encoder of the texts; the newest store if none.")
    ] = None
    image_features: Annotated[
        str | None, Setting("tokens, mean, pooled or grid:HxW; tokens if none.")
    ] = None
    text_features: Annotated[str | None, Setting("tokens, mean or pooled; tokens if none.")] = None
    image_layers: Annotated[
        Layers,
        Setting("Layer of the image encoder; the newest store if none.", most=-1, commas="-1"),
    ] = None
    text_layers: Annotated[
        Layers, Setting("Layer of the text encoder, in the same way.", most=-1, commas="-1")
    ] = None
    objective: Annotated[
        str | None,
        Setting("Objectives with weights, such as itm=1,answers=0.5; the preset's if none."),
    ] = None
    negatives_from: Annotated[
        str | None,
        Setting("Run whose cosines say which wrong pairs are hard; random ones if none."),
    ] = None
    seed: Seed = 0
    overrides: Overrides = ()
    device: Device = "auto"
    name: Annotated[str | None, Setting("Name of the run.")] = None
    tensorboard: Annotated[
        bool, Setting("Log for TensorBoard, too, into RUN/tensorboard.", flag="--tensorboard")
    ] = False

    def __post_init__(self) -> None:
        check_settings(self)
        _ = self.objectives

    @property
    def objectives(self) -> dict[str, float] | None:
        """Return the weight of each objective that was asked for, or None for those of the preset.

        Raises:
            SpecError: A weight is no number above 0, or a name stands there twice.
        """
        if self.objective is None:
            return None
        weights: dict[str, float] = {}
        for part in self.objective.split(","):
            name, has_weight, number = (piece.strip() for piece in part.partition("="))
            try:
                weight = float(number) if has_weight else 1.0
            except ValueError:
                weight = 0.0
            if not name or name in weights or not 0 < weight < float("inf"):
                raise SpecError(
                    "--objective takes each name once with a weight above 0, such as "
                    f"itm=1,answers=0.5: {self.objective!r}"
                )
            weights[name] = weight
        return weights
