"""Which files are attacked, how, and with which commands that read them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import _containers
import _texts
from _bytes import ANY, Mutation
from _home import MANY_ROWS, QUICK, ROWS, SHAPES, SHAPES_TOKENS, sets

ONE_EPOCH = sets(*QUICK[1:], "train.epochs=1")
ONE_EPOCH_OF_OURS = sets("train.batch_size=32", "train.epochs=1")


@dataclass(frozen=True)
class Verb:
    """One command and what of its doings is compared.

    Attributes:
        arguments: Its arguments; `{place}` is where everything lies, `{store}` the store that the
            file belongs to, else one of them.
        written: Globs below PLACE of what it writes; its bytes are numbers, too.
        lists: It lists many things, of which the damaged one may be passed over by name.
        verifies: It says whether bytes are as they were.
        shows: What it prints is compared.
    """

    arguments: Sequence[str]
    written: Sequence[str] = ()
    lists: bool = False
    verifies: bool = False
    shows: bool = True


def _extract(encoder: str, data: str, *more: str, rows: Sequence[str] = ROWS) -> Verb:
    command = ("extract", "--encoder", encoder, "--data", data, *rows, "--max-bad", "0.5")
    return Verb((*command, *more), written=("home/features/**/c/**/*",))


def _new_run(*arguments: str) -> Verb:
    written = ("home/runs/new/adapter.safetensors", "home/runs/new/head.safetensors")
    return Verb((*arguments, "--name", "new"), written=written)


def _report(*runs: str) -> Verb:
    page = "out/page.html"
    return Verb(("report", *runs, "--out", f"{{place}}/{page}"), written=(page,), lists=True)


PRESET = ("--preset", "linear")
VERBS: Mapping[str, Verb] = {
    "retrieve": Verb(("retrieve", "main", "--k", "5")),
    "retrieve flat": Verb(("retrieve", "main", "--k", "5", "--index", "flat")),
    "retrieve --scoring": Verb(("retrieve", "main", "--k", "3", "--scoring", "qb-norm")),
    "retrieve tuned": Verb(("retrieve", "tuned", "--k", "5", "--data", "shapes")),
    "zero-shot": Verb(("zero-shot", "main", "--data", "image-folder")),
    "zero-shot --prompts": Verb(
        (
            *("zero-shot", "main", "--data", "image-folder"),
            *("--prompts", "{place}/given/prompts.toml"),
        )
    ),
    "probe": Verb(("probe", "main", "--data", "image-folder")),
    "probe knn": Verb(("probe", "tuned", "--data", "image-folder", "--protocol", "knn")),
    "fine-tune": _new_run(
        "fine-tune", "main", "--data", "image-folder", *sets("epochs=1", "batch_size=8")
    ),
    "similarity": Verb(("similarity", "main", "--data", "stsb")),
    "similarity --encoder": Verb(("similarity", "--data", "stsb", "--encoder", "toy-text")),
    "rank-encoders": Verb(("rank-encoders", "--data", "shapes", "--neighbours", "3")),
    "train": _new_run("train-adapter", *PRESET, *SHAPES_TOKENS, *ONE_EPOCH),
    "train ours": _new_run("train-adapter", *SHAPES_TOKENS, *ONE_EPOCH_OF_OURS),
    "train means": _new_run(
        *("train-adapter", *PRESET, "--data", "shapes", "--image-features", "mean"),
        *("--text-features", "mean", *ONE_EPOCH, *sets("train.validation=none")),
    ),
    "train table": _new_run(
        *("train-adapter", *PRESET, "--data", "image-text-table"),
        *(*ONE_EPOCH, *sets("train.validation=none")),
    ),
    "resume": Verb(
        ("train-adapter", "--resume", "stopped"),
        written=("home/runs/stopped/adapter.safetensors", "home/runs/stopped/adapter.toml"),
    ),
    "index": Verb(
        ("index", "main", "--split", "test", "--index", "flat", "--memory", "1GB"),
        written=("home/runs/main/index/shapes-test-image*/*.faiss",),
    ),
    "index table": Verb(
        (
            *("index", "table", "--split", "train", "--side", "image"),
            *("--index", "flat", "--memory", "1GB"),
        ),
        written=("home/runs/table/index/*image*/*.faiss", "home/runs/table/index/*image*/ids.npy"),
    ),
    "search": Verb(
        ("search", "table", "a picture number 3", "--side", "image", "--k", "5"),
    ),
    "search text": Verb(
        ("search", "table", "{place}/given/query.png", "--side", "text", "--as", "image"),
    ),
    "search ivf": Verb(("search", "main", "red square", "--side", "text", "--k", "4")),
    "search --sheet": Verb(
        ("search", "table", "a picture", "--k", "5", "--sheet", "{place}/out/sheet.html")
    ),
    "report": _report("main", "tuned"),
    "report table": _report("table"),
    "export": Verb(
        (
            *("export", "main", "--to", "onnx", "--adapter-only"),
            *("--tower", "text", "--output", "{place}/out/onnx"),
        )
    ),
    "ls": Verb(("cache", "ls"), lists=True),
    "info": Verb(("cache", "info", "{store}"), lists=True),
    "verify": Verb(("cache", "verify"), verifies=True, lists=True),
    "verify one": Verb(("cache", "verify", "{store}"), verifies=True, lists=True),
    "repair": Verb(("cache", "repair"), written=("home/features/**/*",), shows=False),
    "explain": Verb(("cache", "explain", "{store}"), lists=True),
    "rm": Verb(("cache", "rm", "{store}", "--force"), shows=False),
    "cache export": Verb(
        ("cache", "export", "{store}", "{place}/out/rows", "--format", "npy"),
        written=("out/rows/**/*",),
    ),
    "cache export safetensors": Verb(
        ("cache", "export", "{store}", "{place}/out/rows", "--format", "safetensors"),
        written=("out/rows",),
    ),
    "extract again": _extract("toy-image", "shapes", *sets(*SHAPES), rows=MANY_ROWS),
    "extract texts again": _extract("toy-text", "shapes", *sets(*SHAPES), rows=MANY_ROWS),
    "extract val means": _extract(
        "toy-text", "shapes", "--split", "val", "--features", "mean", *sets(*SHAPES)
    ),
    "extract table": _extract("toy-image", "image-text-table", "--features", "mean"),
    "extract table texts": _extract("toy-text", "image-text-table", "--features", "mean"),
    "extract folder": _extract("toy-image", "image-folder", "--features", "mean"),
    "extract stsb": _extract("toy-text", "stsb", "--features", "mean"),
    "extract flickr8k": _extract("toy-image", "flickr8k"),
    "extract flickr8k texts": _extract("toy-text", "flickr8k"),
    "extract flickr30k": _extract("toy-text", "flickr30k"),
    "extract flickr30k images": _extract("toy-image", "flickr30k"),
    "extract pairs": _extract("toy-text", "text-pair-table"),
    "extract cifar": _extract("toy-image", "cifar10"),
    "extract minilm": _extract(
        "minilm", "stsb", "--split", "test", "--weights", "{place}/models/minilm"
    ),
    "extract dinov2": _extract(
        "dinov2-vits14", "shapes", "--split", "test", "--weights", "{place}/models/dinov2",
        *sets("source.test=2"),
    ),
    "extract vits16": _extract(
        "dino-vits16", "shapes", "--split", "test", "--weights", "{place}/models/vits16",
        *sets("source.test=2"),
    ),
    "extract lite0": _extract(
        "efficientnet-lite0", "shapes", "--split", "test",
        "--weights", "{place}/models/lite0.pth", *sets("source.test=1"),
    ),
}  # fmt: skip
# Made once issue 15 has them: the command line of an earlier commit is attacked without.
RUN_VERBS = {
    "runs list": Verb(("runs", "list"), lists=True),
    "data list": Verb(("data", "list"), lists=True),
    "data show": Verb(("data", "show", "shapes")),
    "runs show": Verb(("runs", "show", "main"), lists=True),
    "runs show stopped": Verb(("runs", "show", "stopped"), lists=True),
    "runs rm": Verb(("runs", "rm", "stopped"), lists=True),
}

_CACHE = ("ls", "info", "verify", "verify one", "repair", "explain", "rm", "cache export")
_ALL_OF_MAIN = ("retrieve", "zero-shot", "probe", "fine-tune", "similarity", "index", "report")
# commands that read a file, by the beginning of its path; what follows may read it
_READERS: Sequence[tuple[str, Sequence[str], Sequence[str]]] = (
    ("verified/indexes", ("search", "search ivf"), ("verify",)),
    (
        "verified/shapes--train",
        ("train", "train ours", "train means", "resume", "rank-encoders", "cache export"),
        ("verify", "rm"),
    ),
    ("verified/shapes--val", ("train", "resume"), ("verify", "extract val means")),
    ("verified/shapes--test", ("retrieve", "retrieve flat", "index"), ("verify", "rm")),
    ("verified/image-text-table", ("train table", "index table"), ("verify",)),
    ("verified/image-folder", ("probe", "zero-shot", "fine-tune"), ("verify",)),
    ("verified/stsb", ("similarity", "similarity --encoder"), ("verify",)),
    (
        "known-datasets/shapes",
        ("retrieve", "index", "extract again", "train"),
        ("data list", "data show", "repair", "report"),
    ),
    ("known-datasets/image-text-table", ("index table", "search --sheet"), ("data list",)),
    ("known-datasets/image-folder", ("extract folder",), ("data list", "probe")),
    ("known-datasets/stsb", ("extract stsb",), ("similarity", "data list")),
    ("features/shapes/train/pairs", ("train", "resume", "rank-encoders"), ("train means",)),
    ("features/shapes/train/.*h5", ("train means", "cache export", "rank-encoders"), _CACHE),
    ("features/shapes/train/toy-image", ("train", "resume", "train ours"), _CACHE),
    ("features/shapes/train/toy-text", ("train", "resume", "retrieve --scoring"), _CACHE),
    ("features/shapes/val/pairs", ("train", "resume"), _CACHE),
    (r"features/shapes/val/toy-text", ("train", "resume", "extract val means"), _CACHE),
    ("features/shapes/val", ("train", "resume"), _CACHE),
    ("features/shapes/test", ("retrieve", "retrieve flat", "index"), (*_CACHE, "report")),
    ("features/image-text-table", ("train table", "index table"), (*_CACHE, "search")),
    ("features/image-folder/train", ("probe", "probe knn", "fine-tune"), _CACHE),
    ("features/image-folder/test", ("zero-shot", "probe", "fine-tune"), _CACHE),
    ("features/stsb/val", ("similarity", "similarity --encoder"), _CACHE),
    ("features/stsb", ("similarity --encoder", "cache export"), _CACHE),
    ("runs/main/index/", ("search ivf",), ("report",)),
    ("runs/main/adapter", (*_ALL_OF_MAIN[:-1], "export", "search ivf"), ("report",)),
    ("runs/main/report", (*_ALL_OF_MAIN, "export", "search ivf"), ("runs show", "runs list")),
    ("runs/main/log", ("report",), ("retrieve", "runs show", "runs list")),
    ("runs/main/run.toml", ("export", "report", "rm"), (*_ALL_OF_MAIN, "runs show")),
    ("runs/main", ("report", "rm"), ("retrieve", "runs show", "runs list")),
    ("runs/table/index/.*image", ("search", "search --sheet"), ("report table",)),
    ("runs/table/index/.*text", ("search text",), ("report table",)),
    ("runs/table", ("search", "index table", "report table"), ("runs list", "rm")),
    ("runs/tuned/head", ("report",), ("retrieve tuned", "probe knn")),
    ("runs/tuned", ("retrieve tuned", "probe knn", "report"), ("runs list", "rm")),
    ("runs/stopped", ("resume",), ("runs list", "runs show stopped", "runs rm", "rm")),
    ("datasets/image-text-table/.*png", ("extract table", "search --sheet"), ("report table",)),
    ("datasets/image-text-table", ("extract table", "extract table texts"), ("search --sheet",)),
    ("datasets/image-folder", ("extract folder",), ("zero-shot",)),
    ("datasets/stsb", ("extract stsb",), ("similarity", "similarity --encoder")),
    ("datasets/flickr8k/.*jpg", ("extract flickr8k",), ("extract flickr8k texts",)),
    ("datasets/flickr8k", ("extract flickr8k", "extract flickr8k texts"), ()),
    ("datasets/flickr30k/.*jpg", ("extract flickr30k images",), ()),
    ("datasets/flickr30k", ("extract flickr30k", "extract flickr30k images"), ()),
    ("datasets/text-pair-table", ("extract pairs",), ()),
    ("datasets/cifar10", ("extract cifar",), ()),
    ("models/minilm", ("extract minilm",), ()),
    ("models/dinov2", ("extract dinov2",), ()),
    ("models/vits16", ("extract vits16",), ()),
    ("models/lite0", ("extract lite0",), ()),
    ("given/prompts", ("zero-shot --prompts",), ()),
    ("given/query", ("search text",), ()),
)


def verbs_of(path: Path, place: Path) -> tuple[list[str], list[str]]:
    """Return the names of the commands that read a file, and of those that may."""
    below = str(path.relative_to(place)).removeprefix("home/")
    for beginning, readers, others in _READERS:
        if re.match(beginning, below):
            return list(readers), [name for name in others if name in VERBS]
    raise ValueError(f"nothing reads {path}")


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        pattern: Regular expression of its path below PLACE.
        mutations: What is done to it, by name.
        is_source: People write it or it names what is made anew: other content may give other
            numbers.
        may_differ: Mutations after which other numbers are right.
    """

    pattern: str
    mutations: Mapping[str, Mutation]
    is_source: bool = False
    may_differ: Sequence[str] = ()

    def files(self, place: Path) -> list[Path]:
        """List the files of this kind."""
        return sorted(
            path
            for path in place.rglob("*")
            if path.is_file() and re.fullmatch(self.pattern, str(path.relative_to(place)))
        )


_STORE = r"home/features/[^/]+/[^/]+/[^/]+/"
_RUN = r"home/runs/[^/]+/"
_DATA = "home/datasets/"
_SHARD_CHUNKS = {**ANY, **_containers.ZARR_CHUNK}
KINDS: Mapping[str, Kind] = {
    "manifest": Kind(_STORE + r"manifest\.json", {**ANY, **_texts.SEALED}),
    "manifest copy": Kind(_STORE + r"manifest\.copy\.json", {**ANY, **_texts.JSON}),
    "receipt": Kind(
        # without one a shard counts as not written, which is what it is for
        _STORE + r"shard-\d+\.json",
        {**ANY, **_texts.SEALED},
        is_source=True,
    ),
    "verified memory": Kind(
        # resealed by somebody, it says what it likes: who can do that can reseal a manifest, too
        r"home/verified/.*\.json",
        {**ANY, **_texts.JSON},
    ),
    "known dataset": Kind(
        # without one the home has forgotten a name, as `data rm` would have it
        r"home/known-datasets/.*\.toml",
        {**ANY, **_texts.TOML},
        may_differ=["remove"],
    ),
    "pairs": Kind(r"home/features/[^/]+/[^/]+/pairs--.*\.json", {**ANY, **_texts.SEALED}),
    "arrays of pairs": Kind(
        r"home/features/[^/]+/[^/]+/pairs--.*\.safetensors", {**ANY, **_containers.SAFETENSORS}
    ),
    "zarr.json": Kind(
        _STORE + r"shard.*/zarr\.json", {**ANY, **_texts.JSON, **_containers.ZARR_JSON}
    ),
    "zarr.json of the store": Kind(_STORE + r"zarr\.json", {**ANY, **_texts.JSON}),
    "zarr values": Kind(_STORE + r"shard.*/values/c/.*", _SHARD_CHUNKS),
    "zarr ids and companions": Kind(_STORE + r"shard.*/(?!values)[a-z]+/c/.*", _SHARD_CHUNKS),
    "hdf5 shard": Kind(_STORE + r"shard-\d+\.h5", {**ANY, **_containers.HDF5}),
    "run.toml": Kind(_RUN + r"run\.toml", {**ANY, **_texts.TOML}),
    "adapter.toml": Kind(_RUN + r"adapter\.toml", {**ANY, **_texts.TOML}),
    "adapter weights": Kind(_RUN + r"adapter\.safetensors", {**ANY, **_containers.SAFETENSORS}),
    "head weights": Kind(_RUN + r"head\.safetensors", {**ANY, **_containers.SAFETENSORS}),
    "state": Kind(_RUN + r"state\.safetensors", {**ANY, **_containers.SAFETENSORS}),
    "log.jsonl": Kind(_RUN + r"log\.jsonl", {**ANY, **_texts.JSON_LINES}),
    "report.json": Kind(_RUN + r"report\.json", {**ANY, **_texts.JSON}),
    "evaluation": Kind(
        _RUN + r"(retrieval|zero|simil|fine|index).*\.json",
        {**ANY, **_texts.JSON},
        may_differ=["remove"],
    ),
    "index.json": Kind(_RUN + r"index/.*/index\.json", {**ANY, **_texts.SEALED}),
    "index.faiss": Kind(_RUN + r"index/.*/index\.faiss", {**ANY, **_containers.FAISS}),
    "index strings": Kind(_RUN + r"index/.*\.npy", {**ANY, **_containers.NPY}),
    "picture": Kind(_DATA + r".*\.(png|jpg)", {**ANY, **_containers.PICTURE}, is_source=True),
    "captions.jsonl": Kind(_DATA + r".*\.jsonl", {**ANY, **_texts.JSON_TABLE}, is_source=True),
    "captions": Kind(
        _DATA + r"(flickr8k|stsb)/.*\.(txt|csv)", {**ANY, **_texts.TABLE}, is_source=True
    ),
    "karpathy json": Kind(_DATA + r"flickr30k/.*\.json", {**ANY, **_texts.JSON}, is_source=True),
    "parquet": Kind(_DATA + r".*\.parquet", ANY, is_source=True),
    "archive": Kind(_DATA + r".*\.tar\.gz", {**ANY, **_containers.TAR}, is_source=True),
    "model config": Kind(r"models/.*config\.json", {**ANY, **_texts.JSON}, is_source=True),
    "tokenizer": Kind(r"models/minilm/tokenizer\.json", {**ANY, **_texts.JSON}, is_source=True),
    "model weights": Kind(
        r"models/.*\.safetensors", {**ANY, **_containers.SAFETENSORS}, is_source=True
    ),
    "weights file": Kind(r"models/lite0\.pth", ANY, is_source=True),
    "prompts": Kind(r"given/prompts\.toml", {**ANY, **_texts.TOML}, is_source=True),
    "query picture": Kind(r"given/.*\.png", {**ANY, **_containers.PICTURE}, is_source=True),
}
