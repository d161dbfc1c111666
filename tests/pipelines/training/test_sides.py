"""The two sides of a training are named by options of their own, or by any side's name."""

import pytest

from lightalign.featcache.errors import SpecError
from lightalign.featcache.types import IMAGE_TEXT, TEXT_TEXT
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec

TOY = ("image=toy-image", "text=toy-text")


@pytest.mark.parametrize(
    ("usual", "named", "sides"),
    [
        ({"image_encoder": "toy-image", "text_encoder": "toy-text"}, {"encoder": TOY}, IMAGE_TEXT),
        ({"image_encoder": "toy-image"}, {"encoder": "image=toy-image"}, IMAGE_TEXT),
        ({"text_features": "tokens"}, {"features": "text=tokens"}, IMAGE_TEXT),
        (
            {"text_encoder": "toy-text", "image_layers": (-1,)},
            {"text_encoder": "toy-text", "layers": "image=-1"},
            IMAGE_TEXT,
        ),
        (
            {"text_encoder": "toy-text", "second_text_encoder": "toy-text"},
            {"encoder": ("second_text=toy-text", "first_text=toy-text")},
            TEXT_TEXT,
        ),
        (
            {"text_encoder": "toy-text", "second_text_encoder": "toy-text"},
            {
                "text_encoder": "toy-text",
                "second_text_encoder": "toy-text",
                "layers": "first_text=-1",
            },
            TEXT_TEXT,
        ),
    ],
)
def test_a_side_is_named_by_its_own_options_or_by_its_name(toy_home, usual, named, sides):
    plans = [
        resolve(TrainSpec(home=toy_home, preset="linear", **names), SILENT)
        for names in (usual, named)
    ]
    assert plans[0].stores == plans[1].stores
    assert plans[0].table == plans[1].table
    assert plans[1].stores.sides == sides


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder": "toy-image"},
            "--encoder takes SIDE=VALUE, such as tone=spectrum: 'toy-image'",
        ),
        ({"features": "image="}, "--features takes SIDE=VALUE, such as tone=mean: 'image='"),
        ({"layers": "image=4"}, "--layers takes SIDE=VALUE, such as tone=-4: 'image=4'"),
        ({"layers": "image=-0"}, "--layers takes SIDE=VALUE"),
        ({"layers": "image=last"}, "--layers takes SIDE=VALUE"),
        ({"encoder": "tone=x"}, r"no side 'tone' of an adapter: its modality is none of \['image'"),
        ({"encoder": ("image=x", "first_text=x")}, "an adapter aligns two sides"),
        ({"encoder": "text=x", "second_text_encoder": "x"}, "an adapter aligns two sides"),
        ({"encoder": "image=toy-text"}, "encoder 'toy-text' reads texts, not images"),
        (
            {"encoder": ("image=a", "image=b"), "features": ("image=mean",) * 3},
            "--image-encoder names 2 and --image-features 3",
        ),
    ],
)
def test_sides_that_are_named_wrongly_are_refused(toy_home, changes, message):
    with pytest.raises(SpecError, match=message):
        resolve(TrainSpec(home=toy_home, preset="linear", **changes), SILENT)
