"""Cards by name, by file, and derived from models; their names are names of folders."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import timm
from timm.models import save_for_hf

from lightalign.featcache import notes
from lightalign.featcache.encoders.card import (
    EncoderCard,
    Layout,
    list_encoders,
    read_card,
    safe_name,
)
from lightalign.featcache.encoders.loading import build_encoder, open_encoder
from lightalign.featcache.encoders.references import (
    card_name,
    find_card,
    keep_card,
    lasting_reference,
)
from lightalign.featcache.errors import (
    SpecError,
    UnknownNameError,
    WeightsMismatchError,
    WeightsNotFoundError,
)
from lightalign.featcache.store.key import StoreDescription
from lightalign.featcache.types import Modality

from ...helpers import lightalign

CARD = """
modality = "image"
backend = "timm"
model = "test_efficientnet"
width = 256
layout = { grid = [5, 5] }
weights = { path = "model" }
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a card beside the folder of its weights."""
    model = timm.create_model("test_efficientnet", num_classes=5)
    save_for_hf(model, tmp_path / "model", safe_serialization=True)
    (tmp_path / "My ViT, 2.toml").write_text(CARD)
    return tmp_path / "My ViT, 2.toml"


def test_a_card_anywhere_names_weights_beside_it(own: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(own.parent)
    card = find_card("./My ViT, 2.toml")
    assert (card.name, card.title) == ("My-ViT-2", "My ViT, 2")
    assert card.weights.path == str(own.parent / "model")
    monkeypatch.chdir("/")
    assert build_encoder(card).name == "My-ViT-2"
    assert open_encoder(str(own)).identity() == build_encoder(card).identity()


def test_a_card_in_the_home_goes_by_its_name(own: Path, tmp_path: Path):
    (tmp_path / "encoders").mkdir()
    own.rename(tmp_path / "encoders" / "mine.toml")
    assert find_card("mine", home=tmp_path).weights.path == str(tmp_path / "encoders" / "model")
    assert "mine" in [card.name for card in list_encoders(tmp_path)]
    with pytest.raises(UnknownNameError, match="no encoder named 'mine'"):
        find_card("mine")


@pytest.mark.parametrize("place", ["encoders/vit-b16.toml", "vit-b16.toml"])
def test_no_card_takes_the_name_of_one_of_ours(place: str, tmp_path: Path):
    (tmp_path / "encoders").mkdir()
    (tmp_path / place).write_text(CARD)
    reference = "vit-b16" if "/" in place else str(tmp_path / place)
    with pytest.raises(SpecError, match="the name of a card that comes with lightalign"):
        find_card(reference, home=tmp_path)


def test_two_files_of_one_name_are_refused(tmp_path: Path):
    (tmp_path / "encoders").mkdir()
    for stem in ("a b", "a-b"):
        (tmp_path / "encoders" / f"{stem}.toml").write_text(CARD)
    with pytest.raises(SpecError, match="both called 'a-b': rename one"):
        find_card("a-b", home=tmp_path)
    assert find_card("toy-image", home=tmp_path) == read_card("toy-image")


def test_a_broken_card_of_the_home_stops_no_list(tmp_path: Path):
    (tmp_path / "encoders").mkdir()
    broken = {
        "no-toml": "= =",
        "no-card": "modality = 'smell'",
        "unknown-key": CARD + "colour = 1",
        "two words": CARD,
        "two-words": CARD,
        "vit-b16": CARD,
    }
    for stem, content in {**broken, "whole": CARD, "--": CARD}.items():
        (tmp_path / "encoders" / f"{stem}.toml").write_text(content)
    (tmp_path / "encoders" / "folder.toml").mkdir()
    lines: list[str] = []
    notes.tell(lines.append)
    listed = list_encoders(tmp_path)
    assert {card.name for card in listed} == {*(card.name for card in list_encoders()), "whole"}
    assert next(card for card in listed if card.name == "vit-b16") == read_card("vit-b16")
    assert all(line.startswith("a card is passed over: ") and "\n" not in line for line in lines)
    assert sum("--.toml: '--' cannot name an encoder" in line for line in lines) == 1
    for stem in ("no-toml", "no-card", "unknown-key", "two words", "vit-b16", "folder"):
        place = str(tmp_path / "encoders" / f"{stem}.toml")
        assert sum(place in line for line in lines) == 1
        with pytest.raises(SpecError, match=re.escape(place)):
            find_card(safe_name(stem), home=tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("width", "widht"), "unknown key 'widht'"),
        (('"image"', '"smell"'), r"modality must be one of \['image', 'text'\]"),
        (("width = 256", ""), "width"),
        (("width", "= ="), r"mine\.toml"),
    ],
)
def test_a_wrong_card_is_one_line(change: tuple[str, str], reason: str, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(CARD.replace(*change))
    with pytest.raises(SpecError, match=reason) as caught:
        find_card(str(path))
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_where_the_card_says_are_named(own: Path):
    (own.parent / "model").rename(own.parent / "moved")
    with pytest.raises(WeightsNotFoundError, match=r"model: No such.* by --weights") as caught:
        build_encoder(find_card(str(own)))
    assert "\n" not in str(caught.value)
    assert build_encoder(find_card(str(own)), weights=own.parent / "moved").width == 256


def test_a_card_without_any_place_of_weights_takes_those_that_are_given(own: Path):
    own.write_text(CARD.replace('weights = { path = "model" }', ""))
    with pytest.raises(WeightsNotFoundError, match=r"names no place of them; give --weights"):
        build_encoder(find_card(str(own)))
    assert build_encoder(find_card(str(own)), weights=own.parent / "model").width == 256


@pytest.mark.parametrize(
    ("model", "layout", "width"),
    [
        ("vit_tiny_patch16_224", Layout(prefix_tokens=1, grid=(14, 14)), 192),
        ("deit_tiny_distilled_patch16_224", Layout(prefix_tokens=2, grid=(14, 14)), 192),
        ("swin_tiny_patch4_window7_224", Layout(grid=(7, 7)), 768),
        ("resnet18", Layout(grid=(7, 7)), 512),
        ("vit_base_patch16_siglip_224.webli", Layout(grid=(14, 14)), 768),
        ("vit_small_patch14_reg4_dinov2.lvd142m", Layout(prefix_tokens=5, grid=(37, 37)), 384),
    ],
)
def test_a_card_of_a_timm_model_has_the_tokens_of_its_paper(model: str, layout: Layout, width: int):
    card = find_card(f"timm:{model}")
    assert (card.layout, card.width, card.backend) == (layout, width, "timm")
    assert card.name == f"timm-{model}"
    assert card.model.startswith(model)
    assert card.weights.hub == f"timm/{card.model}"


def test_a_derived_card_is_that_of_lightalign():
    ours, derived = read_card("vit-b16"), find_card(f"timm:{read_card('vit-b16').model}")
    for name in ("model", "width", "layout", "weights", "modality"):
        assert getattr(derived, name) == getattr(ours, name)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("timm:resnet81", r"no model named 'resnet81'; close: \['resnet"),
        ("timm:resnet18.nobody", r"no model named 'resnet18.nobody'; close: \['resnet18\."),
        ("timm:", "names no model"),
        ("hf:", "names no model"),
        ("timm:crossvit_tiny_240", "several sets of tokens"),
        ("./nowhere.toml", "there is no encoder card ./nowhere.toml"),
        ("hf:/nowhere/at/all", "no folder that is there"),
        ("resnet18:mine", "no encoder named 'resnet18:mine'"),
        ("", "no encoder named ''"),
    ],
)
def test_what_names_nothing_is_one_line(reference: str, reason: str):
    errors = (SpecError, UnknownNameError, WeightsMismatchError, WeightsNotFoundError)
    with pytest.raises(errors, match=reason) as caught:
        find_card(reference)
    assert "\n" not in str(caught.value)


def test_a_folder_alone_is_told_how_to_be_named(own: Path):
    with pytest.raises(SpecError, match=r"is a folder: .* --encoder timm:"):
        find_card(str(own.parent / "model"))


TRANSFORMERS = [
    "transformers vit",
    "transformers dinov2",
    "transformers beit",
    "transformers bert",
    "transformers roberta",
    "transformers distilbert with a head",
]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_card_of_a_transformers_folder_opens_it(name: str, tiny: Any):
    written, folder = tiny.built(name)
    card = find_card(f"hf:{folder}")
    assert (card.width, card.modality, card.backend) == (32, written.modality, "huggingface")
    assert card.layout.grid == written.layout.grid
    assert card.layout.prefix_tokens == written.layout.prefix_tokens
    if card.modality is Modality.TEXT:  # positions of the configuration in conftest.py
        assert card.layout.max_tokens == (12 if "roberta" in name else 16)
    assert build_encoder(card).width == 32


def test_a_pair_is_asked_for_its_half(tiny: Any):
    _, folder = tiny.built("transformers clip")
    with pytest.raises(SpecError, match=r"reads images and texts: .*#image'"):
        find_card(f"hf:{folder}")
    card = find_card(f"hf:{folder}#image")
    assert (card.name, card.layout.grid) == ("hf-transformers-clip-image", (2, 2))
    text = find_card(f"hf:{folder}#text")
    assert (text.modality, text.width, text.layout.max_tokens) == (Modality.TEXT, 32, 8)


def test_the_card_of_a_sentence_encoder_says_its_pooling(tiny: Any, tmp_path: Path):
    _, folder = tiny.copied("transformers bert", tmp_path)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    card = find_card(f"hf:{folder}")
    assert "--features mean" in card.note
    assert card.layout.max_tokens == 9


def test_a_model_that_reads_sounds_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2", "vocab_size": 3}))
    card = find_card(f"hf:{tmp_path}")  # its vocabulary is of letters that it writes
    with pytest.raises((WeightsMismatchError, WeightsNotFoundError)) as caught:
        build_encoder(card)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("vit-b16", "vit-b16"),
        ("timm:vit_tiny_patch16_224.augreg_in21k", "timm-vit_tiny_patch16_224.augreg_in21k"),
        ("hf:BAAI/bge-small-en-v1.5", "hf-BAAI-bge-small-en-v1.5"),
        ("hf:openai/clip-vit-base-patch16#text", "hf-openai-clip-vit-base-patch16-text"),
        ("/a/b/mein Größtes -- ViT!.toml", "mein-Größtes-ViT"),
        ("../x/.hidden.toml", "hidden"),
        ("timm:../../no-such-place", "timm-..-..-no-such-place"),
    ],
)
def test_names_are_names_of_folders(reference: str, name: str):
    assert card_name(reference) == name
    assert card_name(name) == name
    description = StoreDescription(
        dataset="d", split="s", source="x", encoder=name, identity={}, modality="image",
        width=1, tokens_per_item=1, num_items=1, rows_per_shard=1,
    )  # fmt: skip
    assert description.folder(Path("h")).parent == Path("h/features/d/s")
    assert "--" not in name


def test_long_names_are_cut_and_stay_apart():
    first, second = safe_name("ü" * 300 + "a"), safe_name("ü" * 300 + "b")
    assert first != second
    assert len(first.encode()) <= 120


def test_a_name_without_letters_is_refused():
    with pytest.raises(SpecError, match="cannot name an encoder"):
        safe_name("--..--")


def image_card(name: str, **changes: Any) -> EncoderCard:
    entries = {
        "title": "t", "modality": Modality.IMAGE, "backend": "timm", "model": "resnet18",
        "width": 8, "layout": Layout(grid=(2, 2)), "licence": "l", "source": "s",
    }  # fmt: skip
    return EncoderCard(name=name, **{**entries, **changes})


def test_a_card_that_was_used_goes_by_its_name_later(tmp_path: Path):
    card = image_card("timm-x")
    keep_card("timm:x", card, tmp_path)
    assert find_card("timm-x", home=tmp_path) == card
    keep_card("timm:x", image_card("timm-x", width=9), tmp_path)  # the model has changed since
    assert find_card("timm-x", home=tmp_path).width == 9


def test_a_card_of_another_encoder_is_not_replaced(tmp_path: Path):
    keep_card(str(tmp_path / "a" / "mine.toml"), image_card("mine"), tmp_path)
    keep_card(str(tmp_path / "b" / "mine.toml"), image_card("mine"), tmp_path)  # the same
    with pytest.raises(SpecError, match=r"a card of another encoder than .*b/mine\.toml") as caught:
        keep_card(str(tmp_path / "b" / "mine.toml"), image_card("mine", width=9), tmp_path)
    assert "\n" not in str(caught.value)
    assert find_card("mine", home=tmp_path).width == 8


def test_a_reference_holds_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert lasting_reference("hf:model#text") == f"hf:{tmp_path}/model#text"
    assert lasting_reference("./x.toml") == f"{tmp_path}/x.toml"
    assert lasting_reference("timm:resnet18") == "timm:resnet18"


def test_a_broken_card_of_the_home_is_named_on_standard_error(tmp_path: Path):
    (tmp_path / "encoders").mkdir()
    path = tmp_path / "encoders" / "mine.toml"
    path.write_text("= =")
    listed = lightalign("list", "encoders", "--json", home=tmp_path)
    assert (listed.returncode, len(json.loads(listed.stdout)["encoders"])) == (
        0,
        len(list_encoders()),
    )
    assert f"a card is passed over: {path} is not valid TOML" in listed.stderr
    shown = lightalign("encoders", "show", "mine", home=tmp_path)
    assert (shown.returncode, shown.stderr.count("\n")) == (2, 1)
