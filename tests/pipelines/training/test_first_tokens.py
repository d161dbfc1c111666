"""Nothing is trained on or scored by a first token that is the same for all texts."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from lightalign.featcache.encoders.backends.toy import ToyEncoder
from lightalign.featcache.errors import SpecError
from lightalign.pipelines.common.progress import SILENT, Progress
from lightalign.pipelines.inputs.pooled_features import are_alike
from lightalign.pipelines.planning import dry_run
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.similarity import similarity
from lightalign.pipelines.similarity.similarity_spec import SimilaritySpec
from lightalign.pipelines.training import first_tokens, train
from lightalign.pipelines.training.batches import Batches
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.tasks import _open_pairs

from ..conftest import extract_graded, extract_toy

SMALL = {"train": 12, "val": 4, "test": 4, "size": 32}


class Notes(Progress):
    """Keep the notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def causal_home(tmp_path_factory):
    """Return a home whose texts have a first token that knows nothing of those after it."""
    home = tmp_path_factory.mktemp("causal-home")
    words = ToyEncoder._word_rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            ToyEncoder, "_word_rows", lambda self, text: np.insert(words(self, text), 0, 7)
        )
        for encoder, features in (("toy-image", ("tokens",)), ("toy-text", ("tokens", "cls"))):
            extract_toy(
                home, encoder, source=SMALL, split="train", features=features, rows_per_shard=None
            )
        extract_graded(home)
        extract_toy(home, "toy-text", data="stsb", source={}, features=("cls",))
    return home


def train_on(home, pool, progress=SILENT, **changes):
    """Train on first tokens."""
    return train.run(spec_on(home, pool, **changes), progress)


def spec_on(home, pool, *, before=None, image_pool=None, epochs=1, **changes) -> TrainSpec:
    """Return a training whose towers pool otherwise than a preset's."""
    image_pool = image_pool or {"part": "mean-pool"}
    before = before or {"part": "identity"}
    towers = {
        "image": {"before": before, "pool": image_pool, "project": {"part": "linear", "out": 8}},
        "text": {"pool": pool, "project": {"part": "linear", "out": 8}},
    }
    overrides = [f"towers={to_inline(towers)}", f"train.epochs={epochs}", "train.validation=none"]
    fields = {"text_features": "tokens", "device": "cpu", **changes}
    return TrainSpec(home=home, preset="linear", overrides=(*overrides,), **fields)


def to_inline(value) -> str:
    """Return a table as TOML on one line."""
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{" + ", ".join(f"{key} = {to_inline(value[key])}" for key in value) + "}"


@pytest.mark.parametrize(
    ("pool", "advice"),
    [
        ({"part": "cls-pool"}, "towers.text.pool.part=mean-pool"),
        ({"part": "concat-pool", "summaries": ["cls"]}, "'towers.text.pool.summaries=[\"mean\"]'"),
    ],
)
def test_a_tower_of_the_first_token_alone_is_refused_with_what_to_do(pool, advice, causal_home):
    reason = (
        "towers.text.pool reads the first token alone, but the first token of toy-text is the same "
        f"for all texts: add --set {advice}, or train on its 'last', 'mean'"
    )
    with pytest.raises(SpecError, match=re.escape(reason)):
        train_on(causal_home, pool)
    assert not run_folder.run_folders(causal_home)


def test_the_first_cell_of_an_image_is_no_class_token(causal_home):
    reason = "toy-image has no class token: it is the upper left cell.* 'mean' or 'pooled' features"
    with pytest.raises(SpecError, match=f"towers.image.pool reads .*{reason}"):
        train_on(causal_home, {"part": "mean-pool"}, image_pool={"part": "cls-pool"})


@pytest.mark.parametrize("before", [{"part": "norm"}, {"part": "linear", "out": 8}])
def test_what_maps_each_cell_alone_makes_no_class_token_of_it(before, causal_home):
    with pytest.raises(SpecError, match=r"towers\.image\.pool reads the first .* left cell"):
        train_on(causal_home, {"part": "mean-pool"}, before=before, image_pool={"part": "cls-pool"})


def test_a_register_is_no_class_token(causal_home, monkeypatch):
    card = {"layout": {"prefix_tokens": 4}}  # the store of toy-image says it has no class token
    monkeypatch.setattr(first_tokens, "card_of", lambda *_: card)
    with pytest.raises(SpecError, match="toy-image has no class token: it is a register; add"):
        train_on(causal_home, {"part": "mean-pool"}, image_pool={"part": "cls-pool"})


def test_the_first_word_of_a_text_is_no_class_token(tmp_path, monkeypatch):
    layout = ToyEncoder.layout
    monkeypatch.setattr(
        ToyEncoder, "layout", lambda self, *_: replace(layout(self), first_is_class=False)
    )
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path, encoder, source=SMALL, split="train", rows_per_shard=None)
    with pytest.raises(SpecError, match="toy-text has no class token: it is the first word of a"):
        train_on(tmp_path, {"part": "cls-pool"})


def test_a_run_that_was_begun_on_the_first_token_goes_on(causal_home, tmp_path, monkeypatch):
    (tmp_path / "features").symlink_to(causal_home / "features")
    order = Batches.order

    def cut(self, number):
        if number == 1:
            raise KeyboardInterrupt
        return order(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(_open_pairs, "check_first_tokens", lambda *_, **__: [])  # as of before it was
        patch.setattr(Batches, "order", cut)
        with pytest.raises(KeyboardInterrupt):
            train_on(tmp_path, {"part": "cls-pool"}, epochs=2, name="begun")
    notes = Notes()
    train.resume(tmp_path, "begun", device="cpu", progress=notes)
    assert any(
        "goes on as it was begun, though a new run would not: towers" in line
        for line in notes.lines
    )


def test_the_first_cell_beside_other_summaries_is_a_warning(causal_home, tmp_path):
    (tmp_path / "features").symlink_to(causal_home / "features")
    notes = Notes()
    pool = {"part": "concat-pool", "summaries": ["mean", "cls"]}
    train_on(tmp_path, {"part": "mean-pool"}, notes, image_pool=pool)
    assert (
        "warning: 'cls' in towers.image.pool.summaries reads the first token, but toy-image has no "
        "class token: it is the upper left cell of an image"
    ) in notes.lines


def test_a_first_token_that_knows_of_the_others_is_taken(causal_home, tmp_path):
    (tmp_path / "features").symlink_to(causal_home / "features")
    before = {"part": "transformer", "heads": 1, "layers": 1}
    pool = {"part": "cls-pool"}
    train_on(tmp_path, {"part": "mean-pool"}, before=before, image_pool=pool)
    assert run_folder.run_folders(tmp_path)


@pytest.mark.parametrize(
    ("image_pool", "what"),
    [
        ({"part": "cls-pool"}, "towers.image.pool"),
        (
            {"part": "concat-pool", "summaries": ["mean", "cls"]},
            "'cls' in towers.image.pool.summaries",
        ),
    ],
)
def test_a_first_cell_that_knows_of_the_others_is_one_note(image_pool, what, causal_home, tmp_path):
    (tmp_path / "features").symlink_to(causal_home / "features")
    before = {"part": "transformer", "heads": 1, "layers": 1}
    trained, rehearsed = Notes(), Notes()
    pools = {"before": before, "image_pool": image_pool}
    train_on(tmp_path, {"part": "mean-pool"}, trained, **pools)
    dry_run.run(spec_on(tmp_path, {"part": "mean-pool"}, **pools), rehearsed)
    note = (
        f"{what} reads the first token, which is no class token, as toy-image has none: it begins "
        "as the upper left cell of an image, and the steps before let it know of the others"
    )
    for notes in (trained, rehearsed):
        assert [line for line in notes.lines if "class token" in line] == [note]


@pytest.mark.parametrize(
    "changes",
    [
        {"pool": {"part": "cls-pool"}},
        {"pool": {"part": "concat-pool", "summaries": ["cls"]}},
        {"pool": {"part": "mean-pool"}, "image_pool": {"part": "cls-pool"}},
        {"pool": {"part": "mean-pool"}, "text_features": "cls"},
    ],
)
def test_a_dry_run_refuses_what_the_training_refuses_by_the_same_line(changes, causal_home):
    with pytest.raises(SpecError) as trained:
        train_on(causal_home, **changes)
    with pytest.raises(SpecError) as rehearsed:
        dry_run.run(spec_on(causal_home, **changes))
    assert str(rehearsed.value) == str(trained.value)


def test_a_dry_run_warns_of_first_tokens_as_the_training_does(causal_home, tmp_path):
    (tmp_path / "features").symlink_to(causal_home / "features")
    trained, rehearsed = Notes(), Notes()
    pool = {"part": "concat-pool", "summaries": ["mean", "cls"]}
    train_on(tmp_path, pool, trained, image_pool=pool)
    dry_run.run(spec_on(tmp_path, pool, image_pool=pool), rehearsed)
    expected = [line for line in trained.lines if "summaries" in line]
    assert len(expected) == 2
    assert [line for line in rehearsed.lines if "summaries" in line] == expected


def test_one_of_several_summaries_is_a_warning(causal_home, tmp_path):
    (tmp_path / "features").symlink_to(causal_home / "features")
    notes = Notes()
    train_on(tmp_path, {"part": "concat-pool", "summaries": ["mean", "cls"]}, notes)
    assert (
        "warning: the first token of toy-text is the same for all texts: 'cls' in "
        "towers.text.pool.summaries tells nothing of any"
    ) in notes.lines


def test_stored_first_tokens_that_are_all_the_same_are_refused(causal_home):
    reason = "'cls' features of toy-text are one vector for all texts.*'last', 'mean' or 'pooled'"
    with pytest.raises(SpecError, match=reason):
        train_on(causal_home, {"part": "mean-pool"}, text_features="cls")


def test_first_tokens_that_are_all_the_same_are_not_scored(causal_home):
    spec = SimilaritySpec(home=causal_home, data="stsb", encoders=("toy-text",), device="cpu")
    report = similarity.run(spec).report
    assert "raw toy-text cls" not in json.dumps(report["metrics"])
    assert any(
        "no cls of toy-text: its first token is the same" in one for one in report["warnings"]
    )


@pytest.mark.parametrize(
    ("vectors", "alike"),
    [
        ([[1.0, 2.0]], False),
        ([[1.0, 2.0], [1.0, 2.001]], True),  # 0.001 apart of a length of 2.2
        ([[1.0, 2.0], [1.0, 2.0], [1.0, 2.01]], False),
    ],
)
def test_vectors_are_alike_but_for_rounding(vectors, alike):
    assert are_alike(np.array(vectors)) == alike
