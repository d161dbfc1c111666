"""Request, plan and report of a training; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from ...featcache.errors import SpecError
from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import Device, Home, Seed, SourceOptions

Preset: TypeAlias = Annotated[
    str | None, Setting("Preset; our own, with a slot for --fusion, if none.")
]
Fusion: TypeAlias = Annotated[str | None, Setting("Fusion; see `lightalign list fusions`.")]
Encoders: TypeAlias = str | tuple[str, ...] | None  # of one stream, or of each of several
Layers: TypeAlias = tuple[int, ...] | None
Overrides: TypeAlias = Annotated[
    tuple[str, ...], Setting("Change one value of the spec; repeatable.", flag="--set")
]

WAYS = ("average", "distil")  # of making one adapter of several


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """Settings of one training.

    A side reads one stream for each encoder, layer or kind of features that is named of it; what is
    named once is of all of them. Layers count from the end.

    Attributes:
        data: `NAME` of a dataset, for the newest stores; `NAME=PATH` for those of the dataset as it
            is there now.
        second_text_encoder: Name of the second text encoder's card, to align two text encoders by
            the texts of each image; or None, to align images and texts.
        unpaired_images: Folder, name or start of the key of a store, or `DATASET/SPLIT` for the
            newest one there that is like that of the pairs; `unpaired_texts` alike.
        encoder: `SIDE=NAME`, the encoder of any side; the side is called after its modality, or
            `first_` and `second_` and its modality where both sides are of one. Sides that are
            named so, as by `features` and `layers` in the same way, are the two that are aligned,
            with texts where it is one.
        auto_layers: Of the training split; encoders and kinds of features stay.
        seeds: How many are trained, one after the other. The run keeps each of them, with a table
            of their validation; its adapter is the best one by that, or of the first seed without.
        ensemble: `average` makes one adapter of all, whose cosines are the mean of theirs and whose
            embeddings are as many times as wide; `distil` trains one more, with the seed after
            theirs, whose cosines take on those of that average.
        overrides: `a.b=c` on the preset's tables.
        name: Name of the run, or None for an automatic one.
    """

    home: Home
    preset: Preset = None
    fusion: Fusion = None
    data: Annotated[str | None, Setting("Dataset; the newest stores if none.")] = None
    source: SourceOptions = None
    image_encoder: Annotated[
        Encoders, Setting("Encoder of the images; the newest store if none; repeatable.")
    ] = None
    text_encoder: Annotated[
        Encoders, Setting("Encoder of the texts; the newest store if none; repeatable.")
    ] = None
    second_text_encoder: Annotated[
        Encoders, Setting("Align the text encoder with this one, not with images.")
    ] = None
    image_features: Annotated[
        Encoders, Setting("tokens, cls, mean, pooled or grid:HxW; the newest store if none.")
    ] = None
    text_features: Annotated[
        Encoders, Setting("tokens, cls, mean, last or pooled; the newest store if none.")
    ] = None
    second_text_features: Annotated[
        Encoders, Setting("Those of the second text encoder, in the same way.")
    ] = None
    image_layers: Annotated[
        Layers,
        Setting("Layers of the image encoder; the newest store if none.", most=-1, commas="-1,-4"),
    ] = None
    text_layers: Annotated[
        Layers,
        Setting("Layers of the text encoder, in the same way.", most=-1, commas="-1,-4"),
    ] = None
    second_text_layers: Annotated[
        Layers,
        Setting("Those of the second text encoder.", most=-1, commas="-1,-4"),
    ] = None
    encoder: Annotated[
        Encoders, Setting("SIDE=NAME: that of any side, such as tone=spectrum; repeatable.")
    ] = None
    features: Annotated[
        Encoders, Setting("SIDE=KIND: those of any side, such as tone=mean; repeatable.")
    ] = None
    layers: Annotated[
        Encoders, Setting("SIDE=LAYER: that of any side, such as tone=-4; repeatable.")
    ] = None
    auto_layers: Annotated[
        bool | None,
        Setting("Train on the stored layers that share most neighbours.", flag="--auto-layers"),
    ] = None
    unpaired_images: Annotated[
        str | None,
        Setting("Store, or DATASET/SPLIT, of images without texts to learn from, too."),
    ] = None
    unpaired_texts: Annotated[
        str | None, Setting("Store, or DATASET/SPLIT, of texts without images, beside those.")
    ] = None
    seed: Seed = 0
    seeds: Annotated[
        int | None,
        Setting("Train so many, with the seeds from --seed on, in one run.", least=2, most=1000),
    ] = None
    ensemble: Annotated[
        str | None,
        Setting(
            "With --seeds: make one adapter by average or distil; the best one if none.",
            choices=WAYS,
        ),
    ] = None
    overrides: Overrides = ()
    device: Device = "auto"
    name: Annotated[str | None, Setting("Name of the run.")] = None
    tensorboard: Annotated[
        bool, Setting("Log for TensorBoard, too, into RUN/tensorboard.", flag="--tensorboard")
    ] = False

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("encoder", "features", "layers"):
            for given in self._of_sides(name):
                side, _, value = given.partition("=")
                is_layer = value.startswith("-") and value[1:].isdecimal() and int(value) < 0
                if not side or not value or (name == "layers" and not is_layer):
                    example = {"encoder": "spectrum", "features": "mean", "layers": "-4"}[name]
                    raise SpecError(f"--{name} takes SIDE=VALUE, such as tone={example}: {given!r}")
            for side in ("image", "text", "second_text"):
                if len(self.named(side, name)) == 0 and self._given(side, name) is not None:
                    raise SpecError(f"{side}_{name} names none: leave it out, or name one")
        if self.ensemble is not None and self.seeds is None:
            raise SpecError(f"--ensemble {self.ensemble} needs --seeds, such as --seeds 5")

    def named(self, side: str, name: str) -> tuple[Any, ...]:
        """Return the encoders, the features or the layers of a side's streams; none if not given.

        `side` is `image`, `text` or `second_text`, or else one of `further_sides`; `name` is
        `encoder`, `features` or `layers`.
        """
        parts = (given.partition("=") for given in self._of_sides(name))
        values = tuple(value for owner, _, value in parts if owner == side)
        of_sides = tuple(map(int, values)) if name == "layers" else values
        return (*_each(self._given(side, name)), *of_sides)

    @property
    def further_sides(self) -> list[str]:
        """Return the sides that `encoder`, `features` or `layers` name, each once, in order."""
        names = ("encoder", "features", "layers")
        given = (each.partition("=")[0] for name in names for each in self._of_sides(name))
        return list(dict.fromkeys(given))

    def _of_sides(self, name: str) -> tuple[str, ...]:
        return _each(getattr(self, name))

    def _given(self, side: str, name: str) -> Any:
        # the text encoder is the first of two where a second is named
        if side == "first_text" and self.second_text_encoder is not None:
            side = "text"
        return getattr(self, f"{side}_{name}", None)


def _each(given: Any) -> tuple[Any, ...]:
    """Return what an option has been given: one value, several, or none."""
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """Report of one training.

    Attributes:
        folder: The run folder.
        report: Content of its `report.json`.
    """

    folder: Path
    report: Mapping[str, Any]
