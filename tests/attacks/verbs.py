"""Commands that write, each with the home it starts from."""

from dataclasses import dataclass

_SCENES = (
    *("--data", "shapes", "--set", "source.val=8", "--set", "source.test=8"),
    *("--set", "source.size=32", "--set", "rows_per_shard=10"),
    *("--device", "cpu", "--precision", "float32"),
)
_IMAGES = ("extract", *_SCENES, "--set", "source.train=16", "--encoder", "toy-image")
_TEXTS = ("extract", *_SCENES, "--set", "source.train=16", "--encoder", "toy-text")
_PRETRAINED = ("extract", *_SCENES, "--set", "source.train=16", "--encoder", "minilm")
_MANY = ("extract", *_SCENES, "--set", "source.train=96", "--split", "train")  # to rank by
_FOLDER = ("--data", "image-folder={data}/pictures")
_CLASSES = ("extract", *_FOLDER, "--encoder", "toy-image", "--precision", "float32")
_TABLE = ("--data", "text-pair-table={data}/pairs.csv")
_PAIRS = ("extract", *_TABLE, "--encoder", "toy-text", "--precision", "float32")
_TRAIN = ("train-adapter", "--preset", "linear", "--data", "shapes", "--set", "train.epochs=3")
_JOINT = (
    *("train-joint", "--preset", "vle/small", "--data", "shapes", "--set", "train.epochs=3"),
    *("--set", "joint.fuse.layers=1", "--set", "joint.fuse.feedforward=32"),
    *("--set", "towers.both.project.out=16"),
)


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One command that writes.

    Attributes:
        name: What the table calls it.
        stage: Name of the home it starts from.
        command: Its arguments. `{out}` is a folder outside the home, `{data}` that of the datasets,
            and `{test/toy-image}` the folder of that store.
        goes_on: What goes on where the same command is refused.
        seconds: What it takes; the dear ones are tried at fewer points.
        is_fast: Whether the default suite has it.
    """

    name: str
    stage: str
    command: tuple[str, ...]
    goes_on: tuple[str, ...] = ()
    seconds: float = 0.2
    is_fast: bool = True


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Home that commands start from.

    Attributes:
        start: Name of the stage before, or None for an empty home.
        commands: What makes it from that.
        damaged: Store whose first shard loses a bit in the end.
        stopped: Share of its operations after which the last command is killed, or 0.
    """

    start: str | None = None
    commands: tuple[tuple[str, ...], ...] = ()
    damaged: str = ""
    stopped: float = 0


STAGES = {
    "empty": Stage(),
    "images": Stage(start="empty", commands=((*_IMAGES, "--split", "train"),)),
    "damaged": Stage(start="images", damaged="train/toy-image"),
    "halved": Stage(start="empty", commands=((*_IMAGES, "--split", "train"),), stopped=0.7),
    "both": Stage(start="empty", commands=(_IMAGES, _TEXTS)),
    "stopped": Stage(start="both", commands=((*_TRAIN, "--name", "a"),), stopped=0.6),
    "trained": Stage(start="both", commands=((*_TRAIN, "--name", "a"),)),
    "indexed": Stage(
        start="trained", commands=(("index", "a", "--memory", "1GB"), ("retrieve", "a"))
    ),
    "many": Stage(
        start="empty",
        commands=((*_MANY, "--encoder", "toy-image"), (*_MANY, "--encoder", "toy-text")),
    ),
    "pretrained": Stage(start="empty", commands=(_IMAGES, _PRETRAINED, (*_TRAIN, "--name", "a"))),
    "classes": Stage(start="trained", commands=(_CLASSES,)),
    "pairs": Stage(start="trained", commands=(_PAIRS,)),
    "named": Stage(start="empty", commands=(("data", "add", "mine", "{data}/pictures"),)),
}
_INDEX = (
    "index",
    "a",
    "--memory",
    "1GB",
)  # of half of the free there would be another share each time
_RESUME = ("train-adapter", "--resume", "a")
_FINE_TUNE = ("fine-tune", "a", *_FOLDER, "--set", "epochs=2", "--name", "b")
VERBS = (
    Verb(name="extract zarr", stage="empty", command=(*_IMAGES, "--split", "train")),
    Verb(
        name="extract hdf5",
        stage="empty",
        command=(*_IMAGES, "--split", "train", "--format", "hdf5"),
        is_fast=False,
    ),
    Verb(
        name="derive",
        stage="images",
        command=(*_IMAGES, "--split", "train", "--features", "mean,grid:2x2"),
        is_fast=False,
    ),
    Verb(name="repair", stage="damaged", command=("cache", "repair", "{train/toy-image}")),
    Verb(name="repair, incomplete", stage="halved", command=("cache", "repair"), is_fast=False),
    Verb(name="rm", stage="both", command=("cache", "rm", "{test/toy-image}"), is_fast=False),
    Verb(
        name="rm, last of split",
        stage="images",
        command=("cache", "rm", "{train/toy-image}"),
        is_fast=False,
    ),
    Verb(name="train", stage="both", command=(*_TRAIN, "--name", "a"), goes_on=_RESUME),
    Verb(name="resume", stage="stopped", command=_RESUME, is_fast=False),
    Verb(
        name="train joint",
        stage="both",
        command=(*_JOINT, "--name", "a"),
        goes_on=("train-joint", "--resume", "a"),
        seconds=0.5,
        is_fast=False,
    ),
    Verb(
        name="train joint, hard pairs",
        stage="trained",
        command=(*_JOINT, "--negatives-from", "a", "--name", "b"),
        goes_on=("train-joint", "--resume", "b"),
        seconds=0.5,
        is_fast=False,
    ),
    Verb(
        name="fine-tune",
        stage="classes",
        command=_FINE_TUNE,
        goes_on=("runs", "rm", "b"),
        is_fast=False,
    ),
    Verb(name="index", stage="trained", command=(*_INDEX, "--side", "both"), is_fast=False),
    Verb(name="index again", stage="indexed", command=_INDEX, is_fast=False),
    Verb(name="retrieve", stage="trained", command=("retrieve", "a"), is_fast=False),
    Verb(name="probe", stage="classes", command=("probe", "a", *_FOLDER), is_fast=False),
    Verb(name="zero-shot", stage="classes", command=("zero-shot", "a", *_FOLDER), is_fast=False),
    Verb(name="similarity", stage="pairs", command=("similarity", "a", *_TABLE), is_fast=False),
    Verb(name="report", stage="indexed", command=("report", "a"), is_fast=False),
    Verb(
        name="report --out",
        stage="indexed",
        command=("report", "a", "--out", "{out}/r.html"),
        is_fast=False,
    ),
    Verb(
        name="search --sheet",
        stage="indexed",
        command=("search", "a", "a red circle", "--sheet", "{out}/s.html"),
        is_fast=False,
    ),
    Verb(
        name="cache export npy",
        stage="images",
        command=("cache", "export", "{train/toy-image}", "{out}/npy", "--format", "npy"),
        goes_on=("cache", "export", "{train/toy-image}", "{out}/npy", "--format", "npy", "--force"),
        is_fast=False,
    ),
    Verb(
        name="cache export parquet",
        stage="images",
        command=("cache", "export", "{train/toy-image}", "{out}/rows.parquet"),
        goes_on=("cache", "export", "{train/toy-image}", "{out}/rows.parquet", "--force"),
        is_fast=False,
    ),
    Verb(
        name="cache export safetensors",
        stage="images",
        command=(
            *("cache", "export", "{train/toy-image}", "{out}/deep/rows.safetensors"),
            *("--format", "safetensors"),
        ),
        goes_on=(
            *("cache", "export", "{train/toy-image}", "{out}/deep/rows.safetensors"),
            *("--format", "safetensors", "--force"),
        ),
        is_fast=False,
    ),
    Verb(
        name="data add",
        stage="images",
        command=("data", "add", "mine", "{data}/pictures"),
        is_fast=False,
    ),
    Verb(
        name="data move",
        stage="named",
        command=("data", "move", "mine", "{data}/pictures/../pictures"),
        is_fast=False,
    ),
    Verb(
        name="data rm",
        stage="named",
        command=("data", "rm", "mine"),
        goes_on=("data", "list"),
        is_fast=False,
    ),
    Verb(name="runs rm", stage="indexed", command=("runs", "rm", "a"), is_fast=False),
    Verb(
        name="rank-encoders",
        stage="many",
        command=("rank-encoders", "--data", "shapes"),
        seconds=1,
        is_fast=False,
    ),
    Verb(
        name="export onnx",
        stage="trained",
        command=("export", "a", "--to", "onnx", "--adapter-only", "--output", "{out}/onnx"),
        seconds=8,
        is_fast=False,
    ),
    Verb(
        name="export onnx, whole",
        stage="pretrained",
        command=("export", "a", "--to", "onnx", "--tower", "text", "--output", "{out}/deep/onnx"),
        seconds=30,
        is_fast=False,
    ),
    Verb(
        name="export stock",
        stage="pretrained",
        command=("export", "a", "--to", "sentence-transformers", "--output", "{out}/deep/stock"),
        seconds=8,
        is_fast=False,
    ),
)
