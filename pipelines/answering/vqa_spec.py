"""Request and report of an evaluation of visual question answering. Nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ...featcache.errors import SpecError
from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import Device, Home, Seed, SourceOptions
from ..language.options import LanguageOptions
from ..training.spec import Overrides

DEFAULT_PRESET = "lightalign/joint-small"
# OneEncoder's nine combinations: texts x images
GRID_TEXTS = ("distilbert", "bert-base", "roberta-base")
GRID_IMAGES = ("beit-b16", "deit-b16", "vit-b16")


@dataclass(frozen=True, kw_only=True)
class VqaSpec(LanguageOptions):
    """Settings of one table of visual question answering, and of a language model in it.

    Attributes:
        data: `NAME` or `NAME=PATH` of a dataset of questions.
        preset: Presets of joint adapters, each a row.
        image_encoder: Encoders of the images; with `grid` each beside each text encoder.
        text_encoder: Encoders of the questions.
        split: What is answered. Where it is the split that would choose the epoch to keep, a tenth
            of the training images does that instead.
        seeds: Trainings of each row, with the seeds from `seed` on; a row is their mean.
        controls: What the first preset is compared with: the most frequent answer, the same
            adapter trained on questions alone and on images alone, and on images that are not those
            of the questions when it answers.
        grid: One row for each pair of encoders: those that are named, or the nine pairs of
            OneEncoder's published scripts.
        overrides: `a.b=c` on the tables of the presets.
        captions: Table with what the language model is told of each image, by its id.
    """

    home: Home
    data: Annotated[str, Setting("Dataset of questions, as NAME or NAME=PATH.")] = "daquar"
    source: SourceOptions = None
    preset: Annotated[tuple[str, ...], Setting("Preset of a joint adapter; repeatable.")] = (
        DEFAULT_PRESET,
    )
    image_encoder: Annotated[
        tuple[str, ...], Setting("Encoder of the images; the newest store if none; repeatable.")
    ] = ()
    text_encoder: Annotated[
        tuple[str, ...], Setting("Encoder of the questions; the newest store if none; repeatable.")
    ] = ()
    image_features: Annotated[
        str | None, Setting("tokens, mean, pooled or grid:HxW; tokens if none.")
    ] = None
    text_features: Annotated[str | None, Setting("tokens, mean or pooled; tokens if none.")] = None
    split: Annotated[
        str | None, Setting("Split to answer; test if it is stored, else val, if none.")
    ] = None
    seed: Seed = 0
    seeds: Annotated[int, Setting("Trainings of each row.", least=1, most=1000)] = 1
    controls: Annotated[
        bool, Setting("Leave the controls out.", flag="--no-controls", negates=True)
    ] = True
    grid: Annotated[
        bool, Setting("A row for each pair of image and text encoder.", flag="--grid")
    ] = False
    overrides: Overrides = ()
    allow_leakage: Annotated[
        bool, Setting("Measure what took part in the training, too.", flag="--allow-leakage")
    ] = False
    device: Device = "auto"
    captions: Annotated[
        Path | None, Setting("Table of captions, columns image and caption, for a language model.")
    ] = None

    def __post_init__(self) -> None:
        check_settings(self)
        self.check_language()
        if self.captions is not None and self.caption_model is not None:
            raise SpecError("--captions has captions, and --caption-model writes them: give one")
        if not self.preset:
            raise SpecError("preset names none: leave it out, or name one")
        if not self.grid and max(len(self.image_encoder), len(self.text_encoder)) > 1:
            raise SpecError("several encoders are compared with one another by --grid: add it")
        if self.grid and len(self.preset) > 1:
            raise SpecError("--grid compares encoders by one preset: name one")

    @property
    def encoders(self) -> list[tuple[str | None, str | None]]:
        """Return the image encoder and the text encoder of each pair; None is the newest store."""
        if not self.grid:
            return [
                (next(iter(self.image_encoder), None), next(iter(self.text_encoder), None)),
            ]
        images = self.image_encoder or GRID_IMAGES
        texts = self.text_encoder or GRID_TEXTS
        return [(image, text) for text in texts for image in images]

    def options(self) -> dict[str, Any]:
        """Return all that the numbers depend on beside the trainings, as JSON values."""
        return {
            "data": self.data,
            "source": None if self.source is None else dict(self.source),
            "preset": list(self.preset),
            "image_encoder": list(self.image_encoder),
            "text_encoder": list(self.text_encoder),
            "image_features": self.image_features,
            "text_features": self.text_features,
            "split": self.split,
            "seed": self.seed,
            "seeds": self.seeds,
            "controls": self.controls,
            "grid": self.grid,
            "overrides": list(self.overrides),
            "allow_leakage": self.allow_leakage,
            "device": self.device,
            **self.language_table(),
            **({} if self.captions is None else {"captions": str(self.captions)}),
        }


@dataclass(frozen=True, kw_only=True)
class VqaReport:
    """Report of one table of visual question answering.

    Attributes:
        path: The report file, or None where it may not be written.
        report: Its content.
    """

    path: Path | None
    report: Mapping[str, Any]
