"""Exports of a run: what is refused, what is written, and that it needs no lightalign."""

import json
import shutil
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import torch

from lightalign.adapters.adapter import build_adapter
from lightalign.adapters.preset import read_preset
from lightalign.featcache.config import to_toml
from lightalign.featcache.documents import read_toml
from lightalign.featcache.encoders.loading import open_encoder
from lightalign.featcache.encoders.pooling import FeaturePooling, LayerLayout
from lightalign.featcache.errors import ExportError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import IMAGE_TEXT, Modality
from lightalign.pipelines.exporting.onnx_files import write_onnx
from lightalign.pipelines.exporting.stock_modules import Dense, StockTower, express
from lightalign.pipelines.exporting.towers import (
    AdapterTower,
    cosine_difference,
    encoder_table,
    padding_takes_part,
)
from lightalign.pipelines.extraction.exact import exact_commands
from lightalign.pipelines.runs.run_encoders import EncoderView
from lightalign.pipelines.runs.run_folder import read_spec
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign

WIDTHS = {Modality.IMAGE: 6, Modality.TEXT: 8}


@pytest.fixture(scope="module")
def run(toy_home) -> Path:
    sets = ("train.epochs=1", "train.batch_size=8", "towers.both.project.out=16")
    spec = TrainSpec(
        home=toy_home, preset="linear", data="shapes", overrides=sets, device="cpu", name="export"
    )
    return train.run(spec).folder


def refused(*arguments: str, home: Path) -> str:
    """Run the command, which must fail as known errors do, and return its one line."""
    done = lightalign("export", *arguments, home=home)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("lightalign: ")]
    return line


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_adapter_tower_runs_in_onnxruntime_alone_on_padded_rows(toy_home, run, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    place = tmp_path / "towers"
    options = ("--to", "onnx", "--output", str(place), "--tower", "text", "--adapter-only")
    done = lightalign("export", str(run), *options, "--json", home=toy_home)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in place.iterdir()) == ["lightalign.json", "text-adapter.onnx"]
    about = json.loads((place / "lightalign.json").read_text())["towers"]["text"]
    assert about["encoder"]["name"] == "toy-text"
    assert about["adapter"]["inputs"]["values"]["shape"] == ["batch", "tokens", 16]
    assert not about["padding_takes_part"]
    values = np.random.default_rng(0).standard_normal((3, 7, 16), dtype=np.float32)
    mask = np.arange(7) < np.array([[7], [1], [4]])
    values[~mask] = np.nan  # padding may hold anything
    session = onnxruntime.InferenceSession(place / "text-adapter.onnx")
    (found,) = session.run(None, {"values": values, "mask": mask})
    with np.errstate(invalid="ignore"):
        expected = _linear_by_hand(run, values, mask)
    assert np.abs(found - expected).max() < 1e-6


def test_an_onnx_file_names_no_folder_of_the_machine_that_wrote_it(tmp_path):
    pytest.importorskip("onnxscript")
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    write_onnx(tmp_path / "tower.onnx", module, [torch.zeros(2, 4)], {"values": {0: "batch"}})
    content = (tmp_path / "tower.onnx").read_bytes()
    assert content
    assert b".py" not in content


def _linear_by_hand(run: Path, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    from safetensors.numpy import load_file

    weights = load_file(run / "adapter.safetensors")
    (weight,) = [weights[name] for name in weights if "text/project" in name and "weight" in name]
    (bias,) = [weights[name] for name in weights if "text/project" in name and "bias" in name]
    means = np.stack([row[real].mean(axis=0) for row, real in zip(values, mask, strict=True)])
    embeddings = means.astype(np.float64) @ weight.T + bias
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def test_what_cannot_be_is_refused_in_one_line(toy_home, run, tmp_path):
    onnx = ("--to", "onnx", "--output", str(tmp_path / "new"))
    assert "no run 'nothing'" in refused("nothing", *onnx, home=toy_home)
    gone = refused(str(run), "--to", "tflite", "--output", str(tmp_path / "new"), home=toy_home)
    assert "no export target named 'tflite'" in gone
    assert "sentence-transformers" in gone
    assert "no tower named 'audio'" in refused(str(run), *onnx, "--tower", "audio", home=toy_home)
    assert "not of the form ENCODER=PATH" in refused(
        str(run), *onnx, "--weights", "minilm", home=toy_home
    )
    assert "weights are named for 'minilm'" in refused(
        str(run), *onnx, "--weights", "minilm=/x", home=toy_home
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    full = ("--to", "onnx", "--output", str(tmp_path / "full"))
    assert "is there already" in refused(str(run), *full, home=toy_home)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["full"]
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_a_missing_extra_is_named(toy_home, run, tmp_path, monkeypatch):
    find = util.find_spec
    monkeypatch.setattr(
        util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    line = refused(str(run), "--to", "onnx", "--output", str(tmp_path / "new"), home=toy_home)
    assert 'needs onnxscript: `pip install "lightalign[export]"`' in line


def test_a_tower_that_cannot_be_expressed_leaves_nothing_behind(toy_home, run, tmp_path):
    pytest.importorskip("onnx")
    stock = ("--to", "sentence-transformers", "--output", str(tmp_path / "into" / "new"))
    line = refused(str(run), *stock, home=toy_home)
    assert "encoder 'toy-text' has no model" in line
    assert not (tmp_path / "into").exists()


def test_a_turned_space_has_other_cosines():
    """A quarter turn keeps all angles within one modality, and none to the other one."""
    rows = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    turned = rows @ np.array([[0.0, 1.0], [-1.0, 0.0]], dtype=np.float32)
    assert np.allclose(turned @ turned.T, rows @ rows.T)
    assert cosine_difference(turned, rows) >= 1.0
    assert cosine_difference(rows, rows) == 0.0
    assert cosine_difference(rows * np.nan, rows) == np.inf


@pytest.mark.parametrize(
    ("preset", "takes_part"), [("lightcrl/addition", True), ("lightcrl/addition-corrected", False)]
)
def test_published_presets_let_padding_take_part(preset, takes_part):
    adapter = build_adapter(read_preset(preset)["towers"], widths=WIDTHS, seed=0).eval()
    assert padding_takes_part(AdapterTower(adapter, Modality.TEXT)) is takes_part


def adapter_of(**slots):
    """Return an adapter whose towers are alike."""
    widths = dict.fromkeys(IMAGE_TEXT, 8)
    return build_adapter({"image": slots, "text": slots}, widths=widths, seed=0).eval()


def reading_of(kind="tokens", layer=-1, prefix=0):
    layout = LayerLayout(width=8, prefix_tokens=prefix)
    return EncoderView(open_encoder("toy-text"), layer, layout, FeaturePooling(kind), "float32")


def run_stock(tower: StockTower, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Do in NumPy what the stock modules are documented to do."""
    from scipy.special import erf

    def go(parts, x):
        for part in parts:
            if isinstance(part, Dense):
                x = x @ part.weight.detach().numpy().T.astype(np.float64)
                x = x if part.bias is None else x + part.bias.detach().numpy()
                x = x * (1 + erf(x / np.sqrt(2))) / 2 if part.gelu else x
            else:
                x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
                x = x * part.norm.weight.detach().numpy() + part.norm.bias.detach().numpy()
        return x

    rows = []
    for row, real in zip(go(tower.before, values.astype(np.float64)), mask, strict=True):
        pools = {"mean": row[real].mean(0), "max": row[real].max(0), "cls": row[0]}
        rows.append(np.concatenate([pools[name] for name in tower.pool]))
    found = go(tower.after, np.stack(rows))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


MEAN, CLS = {"part": "mean-pool"}, {"part": "cls-pool"}
LINEAR = {"part": "linear", "out": 5}
MLP = {"part": "mlp", "out": 5, "hidden": 7}


@pytest.mark.parametrize(
    ("slots", "before", "after"),
    [
        ({"drop": {"part": "dropout"}, "project": LINEAR, "pool": MEAN}, 0, 1),
        ({"pool": MEAN, "project": MLP}, 0, 3),
        ({"project": MLP, "pool": CLS}, 0, 3),
        ({"project": {**MLP, "norm": False}, "pool": MEAN}, 2, 0),
        ({"add": {"part": "add-fusion"}, "mul": {"part": "mul-fusion"}, "pool": MEAN}, 0, 2),
        ({"project": LINEAR, "pool": {"part": "concat-pool", "summaries": ["max", "cls"]}}, 1, 0),
        ({"pool": MEAN, "norm": {"part": "norm"}, "again": MEAN}, 0, 1),
    ],
)
def test_stock_modules_give_what_the_tower_gives(slots, before, after):
    adapter = adapter_of(**slots)
    tower = express(adapter, Modality.TEXT, reading_of())
    assert (len(tower.before), len(tower.after)) == (before, after)
    values = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(4) < torch.tensor([[4], [1], [3]])
    with torch.no_grad():
        expected = adapter.embed(Tokens(values, mask), Modality.TEXT).numpy()
    assert np.abs(run_stock(tower, values.numpy(), mask.numpy()) - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("preset", "reason"),
    [
        ("lightalign/fusion", "'both/fuse' (cross-attn-fusion).*adds an attention over the tokens"),
        ("lightcrl/addition", "'both/mix' (transformer).*attend to one another"),
        ("convirt", "'both/pool' (mean-pool).*the stock norm is of the pooled vector only"),
        ("sail/star", "'text/star' (star-mlp).*multiplies two maps"),
        ("csa", "'text/project' (weighted-unit).*weighs the features"),
    ],
)
def test_what_stock_modules_cannot_express_is_named(preset, reason):
    adapter = build_adapter(read_preset(preset)["towers"], widths=WIDTHS, seed=0)
    pattern = reason.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ExportError, match=f"step {pattern}"):
        express(adapter, Modality.TEXT, reading_of())


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        ({"layer": -2}, "gives its last layer only"),
        ({"kind": "grid:2x2"}, "knows no grid"),
        ({"kind": "mean", "prefix": 1}, "takes the tokens before the patches in"),
    ],
)
def test_features_that_stock_modules_do_not_give_are_named(reading, reason):
    with pytest.raises(ExportError, match=reason):
        express(adapter_of(project=LINEAR, pool=MEAN), Modality.TEXT, reading_of(**reading))


def test_a_pool_that_averages_padding_is_no_stock_pool():
    adapter = adapter_of(pool={"part": "mean-pool", "masked": False})
    with pytest.raises(ExportError, match="averages padding"):
        express(adapter, Modality.TEXT, reading_of())


def _without(run: Path, place: Path, key: str | None) -> Path:
    """Copy a run as an earlier version would have left it: without checksums, and without a key."""
    copy = shutil.copytree(run, place)
    table = read_toml(copy / "run.toml")
    del table["checksum"]
    if key is None:
        del table["stores"]["train"]["text"]
    else:
        del table["stores"]["train"]["text"][key]
    (copy / "run.toml").write_text(to_toml(table))
    report = json.loads((copy / "report.json").read_text())
    (copy / "report.json").write_text(
        json.dumps({name: report[name] for name in report if name not in ("files", "checksum")})
    )
    return copy


@pytest.mark.parametrize("key", ["layer", "dtype", "width", "encoder_key", "key", None])
def test_a_run_of_an_earlier_version_is_exported_or_refused_in_one_line(
    toy_home, run, tmp_path, key
):
    copy = _without(run, tmp_path / "earlier", key)
    described = encoder_table(copy, Modality.TEXT)
    assert described["encoder"]["name"] == "toy-text"
    assert set(described["features"]) <= {"layer", "kind", "dtype", "width"} - {key}
    table = read_spec(copy)
    command = exact_commands(table, ["text"], home=toy_home, weights={})
    assert command.startswith("lightalign extract --encoder toy-text --data shapes")
    line = refused(
        *(str(copy), "--to", "sentence-transformers", "--output", str(tmp_path / "out")),
        home=toy_home,
    )
    if key in ("width", "key"):  # nothing that the text encoder is opened by
        assert line.endswith("'toy-text' has no model that could be exported")
    else:
        name = key or "layer"
        assert f"run.toml does not say {name} of the text features" in line
    assert not (tmp_path / "out").exists()
