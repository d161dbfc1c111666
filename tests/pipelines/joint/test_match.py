import json
import math
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

import lightalign
from lightalign.featcache.errors import SpecError, UnreadableItemError
from lightalign.pipelines.joint import match
from lightalign.pipelines.joint.match_spec import MatchSpec
from lightalign.pipelines.runs.joint_run import PairReader
from lightalign.pipelines.runs.required_head import require_head

from ...helpers import lightalign as command
from ..joint_runs import TINY, quick_joint

TEXTS = ("A red circle.", "A picture of a small blue square beside a large green star.", "nothing")


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "a photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def one_line(done):
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1), done.stderr
    return lines[0]


def matched(home, photo, texts=TEXTS):
    spec = MatchSpec(home=home, run="joint", image=photo, texts=texts, device="cpu")
    return match.run(spec)


def test_the_probability_is_the_softmax_of_the_logits_and_the_border_is_one_half(
    matching_home, photo
):
    for found in matched(matching_home, photo).matches:
        exact = 1 / (1 + math.exp(-found.logit_difference))
        assert found.probability == pytest.approx(exact, abs=1e-12)
        assert found.matches == (found.probability > 0.5)


def test_a_text_has_one_score_whatever_else_is_asked_for(matching_home, photo):
    together = matched(matching_home, photo).matches
    assert [found.text for found in together] == list(TEXTS)
    assert len({found.logit_difference for found in together}) == len(TEXTS)
    for found in together:
        (alone,) = matched(matching_home, photo, (found.text,)).matches
        assert alone == found


def test_python_says_what_the_command_says(matching_home, photo):
    done = command("match", "joint", str(photo), *TEXTS, "--json", "-q", home=matching_home)
    told = json.loads(done.stdout)["matches"]
    opened = lightalign.load_joint("joint", home=matching_home, device="cpu")
    assert [vars(found) for found in opened.match(photo, list(TEXTS))] == told
    decoded = opened.match(Image.open(photo), list(TEXTS))
    assert [vars(found) for found in decoded] == told
    assert [vars(found) for found in opened.match(photo.read_bytes(), TEXTS)] == told


def test_the_table_has_a_line_a_text_in_their_order(matching_home, photo):
    shown = command("match", "joint", str(photo), *TEXTS, home=matching_home).stdout.splitlines()
    found = matched(matching_home, photo).matches
    for line, expected in zip(shown[1:4], found, strict=True):
        assert line.split()[:3] == [
            "yes" if expected.matches else "no",
            f"{expected.probability:.3f}",
            f"{expected.logit_difference:+.2f}",
        ]
        assert line.rstrip().endswith(expected.text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["joint", "nowhere.png", "a"], "there is no image 'nowhere.png'"),
        (["joint", ".", "a"], "is a folder: name one image file"),
        (["joint", "x" * 5000, "a"], "there is no image"),
        (["joint", "PHOTO", "a", " "], "text 2 of 2 is empty"),
        (["dual", "PHOTO", "a"], "run dual embeds each side alone"),
        (["nope", "PHOTO", "a"], "no run 'nope'"),
        (["joint", "PHOTO", "a", "--weights", "other=x"], "weights are named for 'other'"),
    ],
)
def test_bad_input_is_one_line(matching_home, photo, words, message):
    named = [str(photo) if word == "PHOTO" else word for word in words]
    assert message in one_line(command("match", *named, "-q", home=matching_home))


def test_a_file_that_is_no_image_is_refused(matching_home, tmp_path):
    (tmp_path / "photo.png").write_text("no picture")
    with pytest.raises(UnreadableItemError, match="no image in a known format"):
        matched(matching_home, tmp_path / "photo.png")


@pytest.mark.parametrize(
    ("image", "texts", "message"),
    [
        ("PHOTO", "a text", "takes a list of texts, found 'a text'"),
        ("PHOTO", [], "there is no text"),
        ("PHOTO", ["a", ""], "text 2 of 2 is empty"),
        ("nowhere.png", ["a"], "there is no image"),
    ],
)
def test_wrong_arguments_in_python_are_refused(matching_home, photo, image, texts, message):
    opened = lightalign.load_joint("joint", home=matching_home, device="cpu")
    with pytest.raises(SpecError, match=message):
        opened.match(photo if image == "PHOTO" else image, texts)


def test_a_run_without_the_head_says_by_which_command_one_is_trained(matching, photo):
    """The head is taken out of the run by hand: of `shapes`, nothing else can be trained."""
    reader = PairReader(matching / "runs" / "joint", device="cpu")
    del reader.joint.adapter.heads["itm"]
    reader.joint.adapter.heads["answers"] = torch.nn.Linear(1, 1)
    with pytest.raises(SpecError, match="has no head 'itm', its heads are answers") as refused:
        require_head(reader.joint.adapter, "itm", folder=reader.folder, home=matching)
    advice = shlex.split(str(refused.value).partition("`")[2].rstrip("`"))
    assert advice[:2] == ["lightalign", "train-joint"]
    quick = [f"--set={name}" for name in ("train.steps=1", "train.batch_size=8")]
    done = command(*advice[1:], *quick, "--device", "cpu", "--name", "new", "-q", home=matching)
    assert done.returncode == 0, done.stderr
    assert command("match", "new", str(photo), "a", "-q", home=matching).returncode == 0


def test_a_control_that_is_blind_to_a_side_matches_nothing(questions, photo):
    overrides = (*TINY, "task.blind=image")
    folder = quick_joint(questions, name="blind-control", overrides=overrides).folder
    with pytest.raises(SpecError, match="does not look at the image"):
        lightalign.load_joint(str(folder), home=questions).match(photo, ["a text"])
