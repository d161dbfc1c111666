"""Options that several verbs have, each defined once; nothing here imports torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from ...featcache.bounds import MOST_SEED
from ...featcache.settings import Setting

HOME = Setting("Folder of datasets, features and runs.")
DEVICE = Setting("auto, cpu or cuda.")
SEED = Setting("Seed of initialisation, order and dropout.", least=0, most=MOST_SEED)
WEIGHTS = Setting("Weights to use; repeatable.")

Home: TypeAlias = Annotated[Path, HOME]
Device: TypeAlias = Annotated[str, DEVICE]
RunName: TypeAlias = Annotated[str | None, Setting("Run; the newest if none.", argument=True)]
RunData: TypeAlias = Annotated[str | None, Setting("Dataset; the run's own if none.")]
ClassData: TypeAlias = Annotated[str, Setting("Dataset of classes as NAME or NAME=PATH.")]
SourceOptions: TypeAlias = Mapping[str, Any] | None  # of the dataset, by name; all that fit if None
TrainSplit: TypeAlias = Annotated[str, Setting("Split to train on.")]
Seed: TypeAlias = Annotated[int, SEED]
EncoderWeights: TypeAlias = Annotated[Mapping[str, Path] | None, WEIGHTS]
