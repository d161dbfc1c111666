"""The command `plan`: what it answers and what it refuses."""

import json

import pytest

from lightalign.featcache.encoders.card import CARDS
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.pipelines.common.byte_sizes import parse_bytes
from lightalign.pipelines.planning import plan
from lightalign.pipelines.planning.spec import MemoryPlan, PeakMemory, PlanSpec
from lightalign.pipelines.rendering.training import plan_parts

from ...helpers import lightalign, slow


@pytest.mark.parametrize(
    ("text", "count"),
    [("6GB", 6e9), ("6 GB", 6e9), ("1.5g", 1.5e9), ("512MiB", 2**29), ("10", 10), ("2kB", 2000)],
)
def test_sizes_are_read(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GB", "six GB", "-1GB", "6PB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(SpecError, match="is no size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"preset": "cca"}, SpecError, "closed form"),
        ({"image_encoder": "minilm"}, SpecError, "reads texts, not images"),
        ({"text_encoder": "nothing"}, UnknownNameError, "no encoder"),
        ({"text_tokens": 0}, SpecError, "text_tokens must be from 1"),
        ({"budget": "much"}, SpecError, "is no size"),
        ({"dtype": "flot16"}, UnknownNameError, "no dtype named 'flot16'"),
        ({"overrides": ("trian.epochs=1",)}, SpecError, "a preset has no 'trian'"),
        ({"overrides": ("towers=3",)}, SpecError, "must be a table"),
    ],
)
def test_what_cannot_be_planned_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        plan.run(PlanSpec(**{"device": "cpu", **changes}))


def test_the_encoders_of_the_named_home_are_known(tmp_path):
    (tmp_path / "h" / "encoders").mkdir(parents=True)
    card = CARDS / "toy-text.toml"
    (tmp_path / "h" / "encoders" / "own.toml").write_bytes(card.read_bytes())
    asked = ("plan", "--image-encoder", "own", "--home", str(tmp_path / "h"))
    ended = lightalign(*asked, home=tmp_path / "other")
    assert "encoder 'own' reads texts, not images" in ended.stderr


def test_the_command_prints_parts_and_what_fits(tmp_path):
    asked = ("--image-tokens", "49", "--batch-size", "64", "--budget", "1GB", "--device", "cpu")
    done = lightalign("plan", *asked, "--json", home=tmp_path)
    found = json.loads(done.stdout)
    assert found["fits"] is True
    assert found["spec"]["batch_size"] == 64
    assert set(found["predicted"]) >= {"weights", "gradients", "optimiser", "activations", "loss"}


SHOWN = ("batch_size", "chunk_size", "image", "text", "texts_of_an_image")


def test_people_are_told_the_peak_and_what_fits():
    planned = MemoryPlan(
        spec={**vars(PlanSpec(preset="linear", budget="2GB")), **dict.fromkeys(SHOWN, 8)},
        parameters=1000,
        predicted=PeakMemory(
            weights=10**9, gradients=0, optimiser=0, features=0, activations=0, loss=10**9 // 2
        ),
        fits=True,
        largest_chunk=64,
        measured=10**9,
        memory="process",
    )
    shown = [part for part in plan_parts(planned) if isinstance(part, str)]
    assert shown[1:] == [
        "predicted peak 1.50 GB of process memory",
        "measured peak  1.00 GB; predicted over it 1.50",
        "fits 2GB; the largest chunk that does is 64",
    ]


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        *slow(((), "preset lightalign/base: ")),
        *slow((("--fusion", "concat"), "preset lightalign/fusion, fusion concat: ")),
        (("--preset", "linear"), "preset linear: "),
    ],
)
def test_the_preset_that_was_planned_is_named(asked, named, tmp_path):
    ended = lightalign("plan", *asked, home=tmp_path)
    assert ended.stdout.startswith(named)
    written = json.loads(lightalign("plan", *asked, "--json", home=tmp_path).stdout)["spec"]
    assert written["preset"] == named.split()[1].rstrip(",:")
