"""What we store of every architecture family of transformers is what the library computes."""

from collections import Counter

import pytest

from lightalign.featcache.types import IMAGE_TEXT, Modality

from .transformers_families import (
    NOT_BUILT,
    check_family,
    sweep,
    text_families,
    vision_families,
)

IMAGES = {
    "vit": "tokens cls mean grid:2x1 pooled",
    "vit_mae": "tokens cls mean grid:2x1",
    "beit": "tokens cls mean grid:2x1 pooled",
    "deit": "tokens cls mean grid:2x1 pooled",
    "dinov3_vit": "tokens cls mean grid:2x1 pooled",
    "convnext": "tokens mean grid:2x1 pooled",
    "swin": "tokens mean grid:2x1 pooled",
    "chinese_clip": "tokens cls mean grid:2x1 pooled",
    "clip": "tokens cls mean grid:2x1 pooled",
    "siglip": "tokens mean grid:2x1 pooled",
    "vision-text-dual-encoder": "tokens cls mean grid:2x1 pooled",
}
TEXTS = {
    "bert": "tokens cls mean last pooled",
    "xlm-roberta": "tokens cls mean last pooled",
    "modernbert": "tokens cls mean last",
    "clip": "tokens mean last pooled",
    "siglip": "tokens cls mean last pooled",
    "owlvit": "tokens mean last pooled",
    "t5": "tokens cls mean last",
    "t5gemma": "tokens cls mean last",
    "bart": "tokens cls mean last",
    "gpt2": "tokens mean last",
    "qwen3": "tokens mean last",
    "gemma2": "tokens mean last",
    "mamba": "tokens mean last",
}
REFUSED = {
    "siglip2": "needs pixel_attention_mask and spatial_shapes beside pixel_values",
    "data2vec-vision": r"missing ['pooler.layernorm.bias'",
    "yolos": "ends in the queries of a detector",
    "videomae": "reads videos, not single images",
    "imagegpt": "is not a plain encoder",
    "cohere2_vision": "is not a plain encoder",
}


@pytest.mark.filterwarnings("ignore")  # of the library, about models so small
@pytest.mark.parametrize("family", IMAGES)
def test_images_are_stored_as_the_library_computes_them(family, tmp_path):
    outcome = check_family(family, Modality.IMAGE, tmp_path)
    assert (outcome.verdict, outcome.detail) == ("equal", IMAGES[family])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", TEXTS)
def test_texts_are_stored_as_the_library_computes_them(family, tmp_path):
    outcome = check_family(family, Modality.TEXT, tmp_path)
    assert (outcome.verdict, outcome.detail) == ("equal", TEXTS[family])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", REFUSED)
def test_what_is_no_encoder_of_images_is_refused_with_the_reason(family, tmp_path):
    outcome = check_family(family, Modality.IMAGE, tmp_path)
    assert outcome.verdict == "refused"
    assert REFUSED[family] in outcome.detail


def test_only_families_of_the_library_are_named_as_not_built():
    assert set(NOT_BUILT) <= {*vision_families(), *text_families()}
    assert all(NOT_BUILT.values())


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("modality", IMAGE_TEXT)
def test_no_family_is_stored_wrongly_or_ends_in_a_traceback(modality):
    outcomes = list(sweep([modality.value]))
    bad = [outcome for outcome in outcomes if outcome.verdict in ("wrong", "traceback")]
    assert not bad
    counts = Counter(found.verdict for found in outcomes)
    assert counts["equal"] + counts["refused"] >= 60
    assert counts["equal"] >= 50
