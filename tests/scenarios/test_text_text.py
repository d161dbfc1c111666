"""An adapter between two text encoders: pairs, training, retrieval and embedding."""

import json

import numpy as np
import pytest
import torch

import lightalign
from lightalign.adapters.checkpoint import load_adapter
from lightalign.adapters.objective import PairBatch
from lightalign.adapters.objectives.clip import Clip
from lightalign.featcache.errors import ExportError, SpecError, StoreNotFoundError, UnknownNameError
from lightalign.featcache.sources.opening import open_source
from lightalign.featcache.types import TEXT_TEXT, Modality
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.exporting import export
from lightalign.pipelines.inputs.image_text import join_stores
from lightalign.pipelines.inputs.pairs import BatchRows
from lightalign.pipelines.inputs.store_selection import SideQuery, StoreQuery, newest_pair
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.runs.embed_stored import embed_pairs, embed_rows
from lightalign.pipelines.search import build_index, search
from lightalign.pipelines.search.build_index_spec import IndexSpec
from lightalign.pipelines.search.search_spec import SearchSpec
from lightalign.pipelines.training import train
from lightalign.pipelines.training.negative_queue import NegativeQueue
from lightalign.pipelines.training.options import resolve_preset
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer
from lightalign.pipelines.training.validation import mean_loss

from ..helpers import lightalign as lightalign_command
from ..helpers import slow
from ..pipelines.conftest import SCENES, extract_toy

CPU = torch.device("cpu")
QUICK = ("train.epochs=2", "train.batch_size=8", "towers.both.project.out=16")
TOKENS = SideQuery(encoder="toy-text", kind="tokens")
MEAN = SideQuery(encoder="toy-text", kind="mean")
BOTH = {
    "text_encoder": "toy-text",
    "text_features": "tokens",
    "second_text_encoder": "toy-text",
    "second_text_features": "mean",
}


@pytest.fixture(scope="module")
def text_home(tmp_path_factory):
    """Return a home with the texts alone of a small `shapes`, as tokens and as means."""
    home = tmp_path_factory.mktemp("text-home")
    extract_toy(home, "toy-text", features=("tokens", "mean"))
    return home


@pytest.fixture(scope="module")
def learnt(text_home):
    """Train once for whatever looks at a trained run."""
    overrides = ("train.epochs=10", "train.learning_rate=0.03", "towers.both.drop.p=0", *QUICK[1:])
    return quick_train(text_home, fusion="add", overrides=overrides)


@pytest.fixture
def home(text_home, tmp_path):
    """Return the same without any run."""
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "features").symlink_to(text_home / "features")
    return tmp_path / "h"


def quick_train(home, **changes):
    fields = {"home": home, "preset": "lightalign/fusion", "overrides": QUICK, "device": "cpu"}
    fields |= BOTH
    return train.run(TrainSpec(**{**fields, **changes}))


def joined(home, split="train", first=TOKENS, second=MEAN, **options):
    by_side = {TEXT_TEXT[0]: first, TEXT_TEXT[1]: second}
    pair = newest_pair(home, StoreQuery(split=split, by_side=by_side))
    return join_stores(pair, home=home, **options)


def image_of(text_id):
    return text_id.partition("#")[0]


@pytest.mark.parametrize(("captions", "others"), [("all", 4), ("one", 1)])
@pytest.mark.parametrize("chunk_size", [0, 3])
def test_a_text_is_paired_with_other_texts_of_its_image_and_never_with_itself(
    home, captions, others, chunk_size
):
    overrides = (*QUICK, f"train.captions={captions}", f"train.chunk_size={chunk_size}")
    trainer = Trainer(
        resolve(TrainSpec(preset="lightalign/fusion", home=home, overrides=overrides, **BOTH)),
        home=home,
        seed=0,
        device=CPU,
    )
    stores, seen = trainer.stores, []
    for rows in trainer.batches.order(1):
        first = [stores.first.ids[row] for row in rows.first]
        second = [stores.second.ids[row] for row in rows.second]
        assert not set(first) & set(second)
        expected = [[image_of(one) == image_of(other) for other in second] for one in first]
        mask = stores.positives(rows.first, rows.second)[:]
        assert mask.tolist() == expected
        assert mask.sum(dim=1).tolist() == [others] * len(first)
        assert trainer.batches.load(rows).positives[:].sum() == mask.sum()
        seen += [image_of(one) for one in first]
    assert len(seen) == len(set(seen)) == SCENES["train"]


def test_each_epoch_draws_other_texts_of_an_image(home):
    stores = joined(home)
    random = np.random.default_rng(0)
    drawn = {tuple(stores.firsts(stores.images, random)) for _ in range(5)}
    assert len(drawn) == 5


def test_training_lowers_the_loss_and_says_what_both_sides_are(learnt):
    records = [
        json.loads(line) for line in (learnt.folder / run_folder.LOG).read_text().splitlines()
    ]
    assert records[-1]["loss"] < records[0]["loss"] - 0.3
    assert set(records[0]["validation"]) == {
        *("loss", "recall_sum", "first_text_to_second_text", "second_text_to_first_text")
    }
    assert "first_text_to_second_text" in records[0]["parts"]
    spec = run_folder.read_spec(learnt.folder)
    stores = spec["stores"]["train"]
    assert (stores["first_text"]["kind"], stores["second_text"]["kind"]) == ("tokens", "mean")
    assert set(spec["encoders"]) == {"first_text", "second_text"}
    adapter, _, table = load_adapter(learnt.folder)
    assert table["widths"] == {"first_text": 16, "second_text": 16}
    vectors = {name for name, _ in adapter.named_parameters() if "vectors" in name}
    assert {name.rpartition(".")[2] for name in vectors} == {"first_text", "second_text"}
    assert not torch.equal(*(adapter.get_parameter(name) for name in sorted(vectors)))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_a_stop_changes_none(home, monkeypatch):
    whole, other = (quick_train(home, seed=seed, name=f"s{seed}") for seed in (1, 2))
    weights = [(run.folder / run_folder.WEIGHTS).read_bytes() for run in (whole, other)]
    assert weights[0] != weights[1]
    epoch = Trainer.train_epoch

    def stop_in_the_second(self, *given):
        if self.counts.epoch == 1:
            raise KeyboardInterrupt
        epoch(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            quick_train(home, seed=1, name="stopped")
    resumed = train.resume(home, "stopped", device="cpu")
    assert (resumed.folder / run_folder.WEIGHTS).read_bytes() == weights[0]


def test_one_encoder_can_be_on_both_sides(home):
    same = {**BOTH, "second_text_features": "tokens"}
    trained = quick_train(home, **same, overrides=("train.epochs=1", *QUICK[1:]))
    stores = join_stores(resolve(TrainSpec(home=home, **same)).stores, home=home)
    assert stores.second is stores.first
    found = retrieve.run(retrieve.RetrieveSpec(home=home, device="cpu")).report
    assert found["run"] == trained.folder.name
    assert found["stores"]["first_text"] == found["stores"]["second_text"]
    assert found["encoders"] == {"first_text": "toy-text", "second_text": "toy-text"}


def test_retrieval_is_that_of_numpy_without_the_text_itself(text_home, learnt):
    """Count the wrong ones among all other texts in float64, ties against the right answer."""
    run = str(learnt.folder)
    report = retrieve.run(retrieve.RetrieveSpec(home=text_home, run=run, k=3, device="cpu")).report
    adapter, _, _ = load_adapter(learnt.folder)
    stores = joined(text_home, "test")
    found = embed_pairs(adapter, stores, device=CPU)
    ids = [image_of(text) for text in found.second_ids]
    assert found.first_ids == found.second_ids
    for name, queries, gallery in (
        ("first_text_to_second_text", found.first, found.second),
        ("second_text_to_first_text", found.second, found.first),
    ):
        scores = queries.astype(np.float64) @ gallery.astype(np.float64).T
        ranks = []
        for query, line in enumerate(scores):
            others = [row for row in range(len(ids)) if row != query]
            best = max(line[row] for row in others if ids[row] == ids[query])
            ranks.append(1 + sum(line[r] >= best for r in others if ids[r] != ids[query]))
        measured = report["metrics"][name]
        assert (measured["num_queries"], measured["num_gallery"]) == (40, 39)
        expected = [100 * np.mean(np.array(ranks) <= k) for k in (1, 2, 3)]
        np.testing.assert_allclose(measured["curve"]["recall"], expected)
        assert measured["recall"]["1"]["chance"] == pytest.approx(100 * 4 / 39)


def test_the_validation_loss_is_of_first_texts_with_their_others(text_home, learnt):
    """The first of five texts of each image against the other four, by cross-entropies in NumPy."""
    adapter, _, _ = load_adapter(learnt.folder)
    found = embed_pairs(adapter, joined(text_home, "val"), device=CPU)
    first = np.arange(0, 40, 5)
    others = np.setdiff1d(np.arange(40), first)
    assert found.anchors.tolist() == first.tolist()
    logits = 2.0 * found.first[first].astype(np.float64) @ found.second[others].T
    right = first[:, None] // 5 == others[None, :] // 5
    rows = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    columns = logits - np.log(np.exp(logits).sum(axis=0, keepdims=True))
    expected = -(rows[right].mean() + columns[right].mean()) / 2
    loss = mean_loss(Clip(scale_init=2.0), found, batch_size=8, device=CPU)
    assert loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "changed",
    [
        ("train.queue=16", "train.captions=one"),
        ("train.mixup.alpha=1.0",),
        ("objective.part=distil", "objective.teacher=both", "train.chunk_size=3"),
    ],
)
def test_queues_mixtures_and_teachers_work_between_texts(home, changed):
    same = {**BOTH, "text_features": "mean"}  # mixtures are of one token each
    trained = quick_train(home, **same, overrides=(*QUICK, *changed))
    records = [
        json.loads(line) for line in (trained.folder / run_folder.LOG).read_text().splitlines()
    ]
    assert len(records) == 2
    assert all(np.isfinite(record["loss"]) for record in records)


def test_a_remembered_text_is_no_negative_of_itself_nor_of_its_image(home):
    stores = joined(home)
    queue = NegativeQueue(99, stores.belonging, width=2, device=CPU)
    own, stranger = stores.texts_of[0][0], stores.texts_of[1][0]
    rows = BatchRows(np.array([stranger]), stores.second_row[list(stores.texts_of[0])])
    queue.add(rows, PairBatch(torch.ones(1, 2), torch.ones(5, 2), torch.ones(1, 5) > 0))
    found = queue.recall(BatchRows(np.array([own, stranger]), stores.second_row[[own, stranger]]))
    assert found.first_to_second.tolist() == [[False] * 5, [True] * 5]
    assert found.second_to_first.tolist() == [[True], [False]]


@pytest.mark.parametrize("preset", [*slow("asif"), "csa"])
def test_other_training_free_methods_find_texts_of_the_same_image(home, preset):
    sizes = {"asif": ("towers.both.project.anchors=200",), "csa": ("towers.both.project.out=8",)}
    quick_train(home, preset=preset, overrides=(*sizes[preset], "train.validation=none"))
    report = retrieve.run(retrieve.RetrieveSpec(home=home, device="cpu")).report
    found = report["metrics"]["first_text_to_second_text"]
    assert found["recall"]["5"]["value"] > found["recall"]["5"]["chance"]


def test_a_training_free_method_sees_all_pairs_of_other_texts(home):
    overrides = ("towers.both.project.out=16", "train.validation=none")
    trained = quick_train(home, preset="procrustes", overrides=overrides)
    assert trained.report["best"]["pairs"] == SCENES["train"] * 5 * 4
    report = retrieve.run(retrieve.RetrieveSpec(home=home, device="cpu")).report
    first = report["metrics"]["first_text_to_second_text"]
    assert first["recall"]["1"]["value"] > 2 * first["recall"]["1"]["chance"]


@pytest.mark.slow
@pytest.mark.parametrize("packed", ["tokens", "mean"])
def test_each_shard_of_a_compressed_store_is_unpacked_about_once_an_epoch(
    tmp_path, monkeypatch, packed
):
    for kind in ("tokens", "mean"):
        compression = "zstd" if kind == packed else "none"
        extract_toy(tmp_path, "toy-text", split="train", features=(kind,), compression=compression)
    monkeypatch.setattr("lightalign.featcache.reading.reader._BUFFER_BYTES", 1)
    overrides = (*QUICK, "train.residency=disk", "train.validation=none")
    plan = resolve(
        TrainSpec(preset="lightalign/fusion", home=tmp_path, overrides=overrides, **BOTH), SILENT
    )
    trainer = Trainer(plan, home=tmp_path, seed=0, device=CPU)
    steps = list(trainer.batches.order(1))
    for step in steps:
        trainer.batches.load(step)
    reader = trainer.stores.first if packed == "tokens" else trainer.stores.second
    drawn = {image_of(trainer.stores.first.ids[row]) for step in steps for row in step.first}
    assert len(drawn) == SCENES["train"]
    # the texts of an image may lie in two shards, and a step may end in the midst of one
    assert reader.store.num_shards <= reader.num_loads
    assert reader.num_loads <= 2 * reader.store.num_shards + 2 * len(steps)


def test_a_run_embeds_texts_through_either_side_as_from_its_stores(text_home, learnt):
    bundle = lightalign.load(learnt.folder, device="cpu")
    assert bundle.encoders == {"first_text": "toy-text", "second_text": "toy-text"}
    items = open_source("shapes", home=text_home, options=SCENES).items("test", Modality.TEXT)
    stores = joined(text_home, "test")
    rows = np.arange(len(items))
    found = {}
    for side, reader in zip(TEXT_TEXT, (stores.first, stores.second), strict=True):
        found[side] = bundle.embed_texts([item.text for item in items], side=side.value)
        expected = embed_rows(bundle.adapter, reader, rows, side=side, device=CPU)
        assert np.abs(found[side] - expected).max() < 1e-6
    assert np.abs(found[TEXT_TEXT[0]] - found[TEXT_TEXT[1]]).max() > 0.01


def test_the_side_of_a_text_is_asked_for_and_there_are_no_images(learnt):
    bundle = lightalign.load(learnt.folder, device="cpu")
    with pytest.raises(SpecError, match="say through which, by side='first_text' or"):
        bundle.embed_texts(["a red square"])
    with pytest.raises(UnknownNameError, match="no side named 'text'"):
        bundle.embed_texts(["a red square"], side="text")
    with pytest.raises(SpecError, match="aligns two text encoders: it embeds no images"):
        bundle.embed_images([b""])


def test_the_tanh_of_additive_attention_is_there_between_texts_only(home):
    plan = resolve(TrainSpec(home=home, preset="lightcrl/additive", **BOTH))
    assert plan.table["towers"]["both"]["fuse"]["tanh"] is True
    assert plan.table["towers"]["both"]["fuse"]["masked"] is False
    changed = ("towers.both.fuse.tanh=false",)
    plan = resolve(TrainSpec(home=home, preset="lightcrl/additive", overrides=changed, **BOTH))
    assert plan.table["towers"]["both"]["fuse"]["tanh"] is False
    table, _ = resolve_preset("lightcrl/additive", None, ())
    assert table["towers"]["both"]["fuse"]["tanh"] is False
    assert "text_text" not in table


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"image_encoder": "toy-image"}, SpecError, "images would be a third beside two text enc"),
        ({"image_features": "mean"}, SpecError, "images would be a third beside two text encod"),
        ({"text_encoder": None}, SpecError, "both are named, .* found None and toy-text"),
        ({"second_text_encoder": None}, SpecError, "both are named, .* found toy-text and None"),
        ({"second_text_encoder": "toy-image"}, SpecError, "'toy-image' reads images, not texts"),
        ({"text_encoder": "minilm"}, StoreNotFoundError, "first texts by tokens minilm, second"),
        (
            {"preset": "peme/bridge", "overrides": ()},
            SpecError,
            r"'both' alone or \['first_text', 'second_text'\]",
        ),
    ],
)
def test_sides_that_do_not_go_together_are_refused(home, changes, error, message):
    with pytest.raises(error, match=message):
        quick_train(home, **changes)
    assert not list(run_folder.runs_folder(home).glob("*"))


SIDES = ("--text-encoder", "toy-text", "--second-text-encoder", "toy-text")


@pytest.mark.slow
def test_the_command_line_trains_and_evaluates_between_two_text_encoders(home):
    kinds = ["--text-features", "tokens", "--second-text-features", "mean"]
    sets = [word for option in QUICK for word in ("--set", option)]
    preset = ["--preset", "lightalign/fusion"]
    done = lightalign_command("train-adapter", *preset, *SIDES, *kinds, *sets, home=home)
    assert done.returncode == 0, done.stderr
    assert "first texts by toy-text, second texts by toy-text" in done.stderr
    assert "validation R@1 second text to first text" in done.stderr
    shown = lightalign_command("retrieve", "--k", "5", home=home)
    assert "first text to second text" in shown.stdout


def test_options_that_contradict_one_another_are_one_line(home):
    wrong = lightalign_command("train-adapter", *SIDES, "--image-encoder", "toy-image", home=home)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("lightalign: an adapter aligns two sides")
    assert wrong.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("second", ["toy-text", "minilm"])
def test_lightcrl_addition_aligns_real_text_encoders_end_to_end(tmp_path, second):
    """Packaged MiniLM on one side; drawn captions that it was never trained on."""
    sizes = ["--set", "source.train=200", "--set", "source.val=40", "--set", "source.test=60"]
    encoders = dict.fromkeys(["minilm", second])
    for encoder in encoders:
        done = lightalign_command(
            "extract", "--encoder", encoder, "--data", "shapes", *sizes, home=tmp_path
        )
        assert done.returncode == 0, done.stderr
    done = lightalign_command(
        *("train-adapter", "--preset", "lightcrl/addition", "--set", "train.epochs=8"),
        *("--text-encoder", "minilm", "--second-text-encoder", second),
        home=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(lightalign_command("retrieve", "--json", home=tmp_path).stdout)
    for name in ("first_text_to_second_text", "second_text_to_first_text"):
        found = report["metrics"][name]
        assert (found["num_queries"], found["num_gallery"]) == (300, 299)
        assert found["recall"]["1"]["value"] > 10 * found["recall"]["1"]["chance"]
    bundle = lightalign.load(home=tmp_path, device="cpu")
    texts = ["a small red circle left of a large blue square", "a green triangle above a circle"]
    first, other = (bundle.embed_texts(texts, side=side.value) for side in TEXT_TEXT)
    assert (np.argmax(first @ other.T, axis=1) == [0, 1]).all()


def test_an_export_says_that_it_takes_images_and_texts_only(learnt, tmp_path):
    output = tmp_path / "out"
    spec = export.ExportSpec(home=tmp_path, run=str(learnt.folder), to="onnx", output=output)
    with pytest.raises(ExportError, match="aligns two text encoders"):
        export.run(spec)
    assert not output.exists()


def test_a_search_asks_through_the_side_that_is_not_searched(text_home, learnt):
    run = str(learnt.folder)
    build_index.run(IndexSpec(home=text_home, run=run, side="second_text", source=SCENES))
    asked = SearchSpec(home=text_home, run=run, query="a red square", side="second_text", k=3)
    found = search.run(asked)
    bundle = lightalign.load(run, home=text_home, device="cpu")
    items = open_source("shapes", home=text_home, options=SCENES).items("test", Modality.TEXT)
    gallery = bundle.embed_texts([item.text for item in items], side="second_text")
    cosines = gallery @ bundle.embed_texts(["a red square"], side="first_text")[0]
    assert [hit.score for hit in found.hits] == pytest.approx(np.sort(cosines)[:-4:-1], abs=1e-5)
    text_of = {item.id: item.text for item in items}
    assert [hit.text for hit in found.hits] == [text_of[hit.id] for hit in found.hits]
    with pytest.raises(SpecError, match="it reads no images"):
        search.run(SearchSpec(home=text_home, run=run, query="a.png", query_is="image"))
