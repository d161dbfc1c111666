"""A joint run as evaluations open it, and contents that are read as its stores were."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from lightalign.adapters.joint_checkpoint import load_joint_adapter, save_joint_adapter
from lightalign.featcache.errors import SpecError, StoreCorruptError
from lightalign.featcache.types import IMAGE_TEXT, Modality
from lightalign.pipelines.inputs.image_text import PairedStores
from lightalign.pipelines.inputs.store_selection import newest_pair
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.runs.joint_run import JointRun, LoadedJoint, PairReader

from ...helpers import both_sides, changed_report
from ..joint_runs import BOTH, quick_joint
from ..training.test_train import CPU, quick_train


@pytest.fixture(scope="module")
def trained(toy_questions, tmp_path_factory):
    """Return a home with a joint run, and the folder of the pictures."""
    home = tmp_path_factory.mktemp("joint-run")
    (home / "features").symlink_to(toy_questions / "features")
    quick_joint(home, name="joint", **BOTH)
    return home, toy_questions.parent / "pictures"


def asked(pictures):
    """Return the picture and the text of each question of the table, in its order."""
    rows = map(json.loads, (pictures / "questions.jsonl").read_text().splitlines())
    return [(pictures / row["image"], row["question"]) for row in rows if row["split"] == "val"]


def test_a_joint_run_has_its_adapter_at_rest_and_its_answers(trained):
    home, _ = trained
    joint = JointRun(home, None, device="cpu").joint
    assert not joint.adapter.training
    assert joint.vocabulary.answers == ("red", "yes", "green", "no", "blue")
    assert joint.vocabulary.normalise is True


def test_a_run_for_matching_alone_has_no_list(questions):
    joint = LoadedJoint.open(quick_joint(questions, name="itm").folder, CPU)
    assert joint.vocabulary is None
    assert list(joint.adapter.heads) == ["itm"]


def test_a_dual_run_is_no_joint_one(home):
    quick_train(home, name="dual", preset="linear")
    with pytest.raises(SpecError, match="run dual embeds each side alone and reads no pair"):
        JointRun(home, "dual", device="cpu")


@pytest.mark.parametrize("listed", [["red"], ["red", "yes", "green", "no", "blue", "six"]])
def test_a_list_of_another_length_than_the_head_is_one_line(questions, listed):
    folder = quick_joint(questions, name="joint", **BOTH).folder
    adapter, objectives, table = load_joint_adapter(folder)
    table = {**table, "answers": {**table["answers"], "listed": listed}}
    save_joint_adapter(folder, adapter, objectives, table=table)
    with changed_report(folder) as report:
        del report["files"]
    message = rf"lists {len(listed)} answers, and the head has 5 outputs: .*runs rm joint"
    with pytest.raises(StoreCorruptError, match=message) as refused:
        LoadedJoint.open(folder, CPU)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("head", ["itm", "answers"])
def test_contents_are_read_as_their_stored_features_are(trained, head):
    """Pictures and questions of `val` by the encoders; the same rows of the stores, each alone."""
    home, pictures = trained
    pairs = asked(pictures)
    reader = PairReader(run_folder.runs_folder(home) / "joint", device="cpu")
    images = reader.encode([path for path, _ in pairs], [str(p) for p, _ in pairs], Modality.IMAGE)
    texts = reader.encode([text for _, text in pairs], [t for _, t in pairs], Modality.TEXT)
    told = np.concatenate(
        [
            reader.logits(dict(zip(IMAGE_TEXT, pair, strict=True)), head)
            for pair in zip(images, texts, strict=True)
        ]
    )
    stores = PairedStores(newest_pair(home, both_sides(split="val")), home=home)
    links, _ = stores.links(stores.images)
    adapter = LoadedJoint.open(reader.folder, CPU).adapter
    with torch.inference_mode():
        tokens = {
            Modality.IMAGE: stores.first.padded(links[:, 0]),
            Modality.TEXT: stores.second.padded(links[:, 1]),
        }
        expected = adapter.logits(adapter(tokens))[head].numpy()
    np.testing.assert_allclose(told, expected, rtol=1e-5, atol=1e-6)


def test_pictures_are_read_as_files_and_bytes_of_them_are(trained):
    home, pictures = trained
    path, _ = asked(pictures)[0]
    reader = PairReader(run_folder.runs_folder(home) / "joint", device="cpu")
    with Image.open(path) as picture:
        rows = reader.encode([path, path.read_bytes(), picture], ["a", "b", "c"], Modality.IMAGE)
    assert all(torch.equal(row.values, rows[0].values) for row in rows)
