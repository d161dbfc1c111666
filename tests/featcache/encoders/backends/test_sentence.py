"""What is stored of a sentence-transformers directory is what its library encodes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from lightalign.featcache.encoders.loading import build_encoder
from lightalign.featcache.encoders.pooling import POOLED, FeaturePooling
from lightalign.featcache.encoders.references import find_card
from lightalign.featcache.errors import SpecError, WeightsMismatchError
from lightalign.featcache.types import Item

from ...conftest import TEXT_CARD, save_text

TEXTS = ["a dog runs", "The MAN with the red hat runs a green dog", " a  Dog ", "zebra"]
MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")

CARD = replace(TEXT_CARD, layout=replace(TEXT_CARD.layout, max_tokens=16))  # as many as BERT has


def save_sentence(tiny, to, *, mode="mean", rest=(), include_prompt=True, lower=False, **options):
    """Return a directory around the tiny BERT, and what the library encodes by it."""
    from sentence_transformers import SentenceTransformer

    _, source = tiny.copied("transformers bert", to)
    if lower:  # a vocabulary of small letters behind a tokenizer that keeps capitals
        path = source / "tokenizer.json"
        table = json.loads(path.read_text())
        path.write_text(json.dumps({**table, "normalizer": None}))
    torch.manual_seed(0)
    limit = options.pop("max_seq_length", None)
    first = modules.Transformer(str(source), max_seq_length=limit)
    pooling = modules.Pooling(32, mode, include_prompt=include_prompt)
    SentenceTransformer(modules=[first, pooling, *rest], device="cpu", **options).save(
        str(to / "sentence"), create_model_card=False
    )
    folder = to / "sentence"
    if lower:
        path = folder / "sentence_bert_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "do_lower_case": True}))
    saved = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return folder, saved.encode(TEXTS, show_progress_bar=False, convert_to_tensor=True)


def stored(encoder, kind: str) -> torch.Tensor:
    prepared = [encoder.prepare(Item(id=f"t{i}", text=text)) for i, text in enumerate(TEXTS)]
    layer = FeaturePooling(kind).layer_read(-1)
    (tokens,) = encoder.encode_layers(prepared, [layer])
    return FeaturePooling(kind).reduce(tokens, encoder.layout(layer)).values[:, 0]


def check(folder, expected, kind="pooled"):
    encoder = build_encoder(CARD, weights=folder)
    torch.testing.assert_close(stored(encoder, kind), expected, rtol=0, atol=1e-5)
    return encoder


@pytest.mark.parametrize("mode", [*MODES, ("cls", "mean", "max")])
def test_pooled_is_what_the_library_encodes_by_every_mode(mode, tiny, tmp_path):
    folder, expected = save_sentence(tiny, tmp_path, mode=mode)
    encoder = check(folder, expected)
    assert encoder.layout(POOLED).width == expected.shape[1]


@pytest.mark.parametrize(
    ("mode", "kind"), [("mean", "mean"), ("cls", "cls"), ("lasttoken", "last")]
)
def test_mean_cls_and_last_are_what_the_library_encodes_by_that_mode(mode, kind, tiny, tmp_path):
    folder, expected = save_sentence(tiny, tmp_path, mode=mode)
    check(folder, expected, kind)


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize(
    ("mode", "kind"), [("mean", "mean"), ("cls", "cls"), ("weightedmean", None)]
)
def test_the_default_prompt_stands_before_every_text(mode, kind, include_prompt, tiny, tmp_path):
    options = {"prompts": {"query": "the red ", "other": "a"}, "default_prompt_name": "query"}
    folder, expected = save_sentence(
        tiny, tmp_path, mode=mode, include_prompt=include_prompt, **options
    )
    encoder = check(folder, expected)
    if kind is not None:
        check(folder, expected, kind)
    plain = tiny.opened("transformers bert")
    assert encoder.identity()["prompt"] == "the red "
    assert encoder.identity() != plain.identity()
    assert (stored(plain, "mean") - stored(encoder, "mean")).abs().max() > 0.01


PROMPTS = {"query": "the red ", "passage": "a man "}


def test_a_card_chooses_a_prompt_by_name(tiny, tmp_path):
    from sentence_transformers import SentenceTransformer

    options = {"prompts": PROMPTS, "default_prompt_name": "passage"}
    folder, by_library = save_sentence(tiny, tmp_path, **options)
    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    by_default = check(folder, by_library)
    for name, prompt in PROMPTS.items():
        encoder = build_encoder(replace(CARD, prompt=name), weights=folder)
        expected = library.encode(TEXTS, prompt_name=name, convert_to_tensor=True)
        torch.testing.assert_close(stored(encoder, "pooled"), expected, rtol=0, atol=1e-5)
        assert encoder.identity()["prompt"] == prompt
        assert (encoder.identity() == by_default.identity()) == (name == "passage")


@pytest.mark.parametrize(
    ("prompts", "match"),
    [
        (PROMPTS, r"no prompt 'title', the prompt of the card; it has \['passage', 'query'\]"),
        ({}, "no prompt 'title', the prompt of the card; it has none"),
        (["title"], "prompts in .*config_sentence_transformers.json"),
        (None, r"is no directory of sentence-transformers"),
    ],
)
def test_a_prompt_that_is_not_there_is_one_line(prompts, match, tiny, tmp_path):
    _, folder = tiny.copied("transformers bert", tmp_path)
    if prompts is not None:
        (folder / "modules.json").write_text('[{"path": "", "type": "a.Transformer"}]')
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    with pytest.raises(WeightsMismatchError, match=match) as caught:
        build_encoder(replace(CARD, prompt="title"), weights=folder)
    assert "\n" not in str(caught.value)


def test_only_cards_of_texts_of_transformers_name_prompts():
    with pytest.raises(SpecError, match="prompt = 'query' is for texts of backend huggingface"):
        replace(CARD, backend="toy", prompt="query")


def test_the_model_may_lie_in_a_folder_of_its_own(tiny, tmp_path):
    """As older versions saved it; all else is as where it lies in the directory itself."""
    from sentence_transformers import SentenceTransformer

    options = {"prompts": PROMPTS, "default_prompt_name": "query", "max_seq_length": 7}
    folder, expected = save_sentence(tiny, tmp_path, **options)
    identity = check(folder, expected).identity()
    in_place = find_card(f"hf:{folder}")
    (folder / "0_Transformer").mkdir()
    for path in folder.iterdir():
        beside = path.name in ("modules.json", "config_sentence_transformers.json")
        if path.is_file() and not beside:
            path.rename(folder / "0_Transformer" / path.name)
    table = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(
        json.dumps([{**table[0], "path": "0_Transformer"}, *table[1:]])
    )
    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    torch.testing.assert_close(library.encode(TEXTS, convert_to_tensor=True), expected)
    assert check(folder, expected).identity() == identity
    assert find_card(f"hf:{folder}") == in_place
    assert "`--features mean`" in in_place.note
    assert "'passage', 'query'" in in_place.note
    assert in_place.layout.max_tokens == 7


def test_a_prompt_that_is_not_the_default_changes_nothing(tiny, tmp_path):
    folder, expected = save_sentence(tiny, tmp_path, prompts={"query": "the red "})
    encoder = check(folder, expected)
    assert "prompt" not in encoder.identity()


def test_tokens_of_a_prompt_that_is_left_out_are_not_stored(tiny, tmp_path):
    """[CLS] the red | a dog runs [SEP]: three tokens of the prompt, four of the text."""
    options = {"prompts": {"query": "the red "}, "default_prompt_name": "query"}
    folder, _ = save_sentence(tiny, tmp_path, include_prompt=False, **options)
    encoder = build_encoder(TEXT_CARD, weights=folder)
    prepared = encoder.prepare(Item(id="t", text="a dog runs"))
    tokens = encoder.encode([prepared])
    assert tokens.mask.tolist() == [[True] * 4]
    companions = encoder.companions("a dog runs")
    assert {name: len(array) for name, array in companions.items()} == dict.fromkeys(
        ["token_ids", "special_tokens", "character_spans"], 4
    )
    assert companions["character_spans"].tolist() == [[0, 1], [2, 5], [6, 10], [0, 0]]


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken", ("mean", "weightedmean", "max")])
def test_a_prompt_longer_than_the_texts_is_left_out_of_their_vectors(mode, tiny, tmp_path):
    """Nine tokens of the prompt beside one to ten of a text, at most 16 in all."""
    options = {"prompts": {"q": "the red dog runs the man with a "}, "default_prompt_name": "q"}
    folder, expected = save_sentence(tiny, tmp_path, mode=mode, include_prompt=False, **options)
    encoder = check(folder, expected)
    kind = {"mean": "mean", "cls": "cls", "lasttoken": "last"}.get(mode)
    if kind is not None:
        torch.testing.assert_close(stored(encoder, kind), expected, rtol=0, atol=1e-5)


def test_a_prompt_that_leaves_one_token_is_left_out(tiny, tmp_path):
    """[CLS] the red dog | a [SEP] of six."""
    options = {"prompts": {"q": "the red dog "}, "default_prompt_name": "q", "max_seq_length": 6}
    folder, expected = save_sentence(tiny, tmp_path, include_prompt=False, **options)
    check(folder, expected)


@pytest.mark.parametrize("include_prompt", [True, False])
def test_a_prompt_that_fills_the_length_is_refused(include_prompt, tiny, tmp_path):
    """[CLS] the red dog runs [SEP] are six: all texts would be one."""
    options = {"prompts": {"q": "the red dog runs a"}, "default_prompt_name": "q"}
    folder, _ = save_sentence(
        tiny, tmp_path, include_prompt=include_prompt, max_seq_length=6, **options
    )
    with pytest.raises(WeightsMismatchError, match="leaves none of 6 tokens for a text"):
        build_encoder(CARD, weights=folder)


def edit(path, **entries):
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def save_causal(to, **options):
    """Return a directory around a tiny Qwen3 that pools its last token and pads on the left."""
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = transformers.Qwen3Config(
        head_dim=8, **sizes, num_attention_heads=4, num_key_value_heads=2, vocab_size=20
    )
    source = save_text(to / "source", transformers.Qwen3Model(config))
    edit(source / "tokenizer.json", post_processor=None)
    edit(source / "tokenizer_config.json", padding_side="left")
    parts = [
        modules.Transformer(str(source), max_seq_length=16),
        modules.Pooling(32, "lasttoken", include_prompt=False),
    ]
    SentenceTransformer(modules=parts, device="cpu", **options).save(
        str(to / "sentence"), create_model_card=False
    )
    return to / "sentence"


def encoded(folder):
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return library.encode(TEXTS, convert_to_tensor=True, batch_size=len(TEXTS))


@pytest.mark.parametrize("prompt", ["the red dog runs the ", "the zebra"])
def test_the_last_token_of_texts_padded_on_the_left_is_what_the_library_encodes(prompt, tmp_path):
    """`zebra` is [UNK], which the library takes for a special token at the end of a prompt."""
    folder = save_causal(tmp_path, prompts={"q": prompt}, default_prompt_name="q")
    check(folder, encoded(folder))
    check(folder, encoded(folder), "last")


def test_texts_lose_their_beginning_where_the_tokenizer_cuts_there(tiny, tmp_path):
    folder, by_end = save_sentence(tiny, tmp_path, max_seq_length=5)
    identity = check(folder, by_end).identity()
    edit(folder / "tokenizer_config.json", truncation_side="left")
    encoder = check(folder, encoded(folder))
    assert (encoded(folder) - by_end).abs().max() > 0.01
    assert encoder.identity() == {**identity, "cut": "left"}


def test_texts_are_cut_at_the_length_of_the_directory(tiny, tmp_path):
    folder, expected = save_sentence(tiny, tmp_path, max_seq_length=5)
    encoder = check(folder, expected)
    assert encoder.identity()["max_tokens"] == 5
    assert len(encoder.prepare(Item(id="t", text="a dog " * 9))) == 5


def test_the_card_cuts_where_it_is_shorter_than_the_directory(tiny, tmp_path):
    folder, _ = save_sentence(tiny, tmp_path, max_seq_length=9)
    card = replace(TEXT_CARD, layout=replace(TEXT_CARD.layout, max_tokens=6))
    assert build_encoder(card, weights=folder).identity()["max_tokens"] == 6


def test_texts_are_made_lower_case_where_the_directory_asks_for_it(tiny, tmp_path):
    folder, expected = save_sentence(tiny, tmp_path, lower=True)
    encoder = check(folder, expected)
    path = folder / "sentence_bert_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "do_lower_case": False}))
    changed = build_encoder(CARD, weights=folder)
    assert changed.identity() != encoder.identity()
    assert (stored(changed, "mean") - stored(encoder, "mean")).abs().max() > 0.01


@pytest.mark.parametrize("name", ["normalised", "dense", "dense, norm", "residual"])
def test_modules_behind_the_pooling_take_part(name, tiny, tmp_path):
    torch.manual_seed(1)
    rest = {
        "normalised": [modules.Normalize()],
        "dense": [modules.Dense(32, 8), modules.Normalize()],
        "dense, norm": [modules.Dense(32, 8, activation_function=torch.nn.GELU()),
                        modules.LayerNorm(8), modules.Dropout(0.5)],
        "residual": [modules.Dense(32, 8, bias=False, use_residual=True)],
    }[name]  # fmt: skip
    folder, expected = save_sentence(tiny, tmp_path, rest=rest)
    encoder = check(folder, expected)
    assert encoder.identity_at(POOLED) != encoder.identity()


def test_a_dense_module_of_other_weights_has_another_key(tiny, tmp_path):
    keys = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        (tmp_path / str(seed)).mkdir()
        dense = modules.Dense(32, 8)
        folder, _ = save_sentence(tiny, tmp_path / str(seed), rest=[dense])
        encoder = build_encoder(TEXT_CARD, weights=folder)
        keys.append((encoder.identity(), encoder.identity_at(POOLED)))
    assert keys[0][0] == keys[1][0]
    assert keys[0][1] != keys[1][1]


def test_older_directories_say_the_pooling_by_flags(tiny, tmp_path):
    folder, expected = save_sentence(tiny, tmp_path, mode=("cls", "mean"))
    flags = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, **flags})
    )
    check(folder, expected)


# Broken directories


@pytest.mark.parametrize("name", ["1_Pooling/config.json", "2_Dense/config.json"])
def test_a_module_without_its_configuration_is_refused_by_its_name(name, tiny, tmp_path):
    folder, _ = save_sentence(tiny, tmp_path, rest=[modules.Dense(32, 8), modules.Normalize()])
    (folder / name).unlink()
    with pytest.raises(WeightsMismatchError, match=f"{name} is not there") as caught:
        build_encoder(CARD, weights=folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsMismatchError, match=f"{name} is not there"):
        find_card(f"hf:{folder}")


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"processing_kwargs": {"text": {"max_length": 4}}}, "processing_kwargs.text.max_length"),
        ({"tokenizer_args": {"truncation_side": "left"}}, "tokenizer_args.truncation_side"),
        ({"config_kwargs": {"num_hidden_layers": 1}}, "config_kwargs.num_hidden_layers"),
        ({"tokenizer_name_or_path": "bert"}, "tokenizer_name_or_path"),
        ({"modality_config": {"message": {}}}, "modality_config without text"),
        ({"modality_config": {"text": {"method": "get_text_features"}}}, "modality_config.text"),
    ],
)
def test_settings_that_would_give_other_features_are_refused(entries, match, tiny, tmp_path):
    folder, _ = save_sentence(tiny, tmp_path)
    edit(folder / "sentence_bert_config.json", **entries)
    with pytest.raises(WeightsMismatchError, match=f"have {match}, which is not known here"):
        build_encoder(CARD, weights=folder)


def test_settings_that_change_no_number_are_read(tiny, tmp_path):
    folder, expected = save_sentence(tiny, tmp_path)
    options = {"processor_kwargs": {"padding_side": "left"}, "model_kwargs": {"dtype": "float32"}}
    edit(folder / "sentence_bert_config.json", **options)
    check(folder, expected)


def broken(tiny, tmp_path, name, content, match, error=WeightsMismatchError, layer=-1):
    folder, _ = save_sentence(tiny, tmp_path, rest=[modules.Dense(32, 8)])
    (folder / name).write_text(json.dumps(content) if not isinstance(content, str) else content)
    with pytest.raises(error, match=match) as caught:
        build_encoder(TEXT_CARD, weights=folder).layout(layer)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("modules.json", "{", r"modules\.json is not valid JSON"),
        ("modules.json", {"a": 1}, r"modules\.json"),
        ("modules.json", [], "begins with module 'none'"),
        (
            "modules.json",
            [{"path": "", "type": "a.StaticEmbedding"}],
            "'StaticEmbedding'",
        ),
        ("modules.json", [{"path": "../x", "type": "a.Transformer"}], "outside of its"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "default prompt"),
        ("config_sentence_transformers.json", "[1]", "config_sentence_transformers"),
        ("sentence_bert_config.json", {"max_seq_length": -3}, "at -3 tokens, fewer than one"),
        (
            "config_sentence_transformers.json",
            {"prompts": {"q": "the red hat " * 9}, "default_prompt_name": "q"},
            "leaves none of 12 tokens for a text",
        ),
    ],
)
def test_a_broken_directory_is_one_line(name, content, match, tiny, tmp_path):
    broken(tiny, tmp_path, name, content, match)


@pytest.mark.parametrize(
    ("name", "content", "match", "error"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "'median' is none of", SpecError),
        ("1_Pooling/config.json", {"pooling_mode": []}, "names no mode", SpecError),
        (
            "2_Dense/config.json",
            {"module_input_name": "token_embeddings"},
            "reads 'token_",
            SpecError,
        ),
        ("2_Dense/config.json", {"in_features": 32}, "cannot read module Dense", None),
        (
            "2_Dense/config.json",
            {"in_features": 32, "out_features": 8, "activation_function": "os.system"},
            "activation 'os.system' is not one of",
            None,
        ),
        ("2_Dense/model.safetensors", "nothing", "cannot read module Dense", None),
    ],
)
def test_a_broken_module_is_one_line(name, content, match, error, tiny, tmp_path):
    broken(tiny, tmp_path, name, content, match, error or WeightsMismatchError, layer=POOLED)


def test_a_directory_without_pooling_pools_nothing(tiny, tmp_path):
    folder, _ = save_sentence(tiny, tmp_path)
    path = folder / "modules.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:1]))
    encoder = build_encoder(TEXT_CARD, weights=folder)
    assert np.isfinite(encoder.encode([[1, 2]]).values.numpy()).all()


@pytest.mark.parametrize(
    ("pooling", "behind", "kind"),
    [
        ({"pooling_mode_mean_tokens": True}, ["Normalize"], "mean"),
        ({"pooling_mode": ["cls"]}, [], "cls"),
        ({"pooling_mode": ["mean"]}, ["Dense", "Normalize"], "pooled"),
        ({"pooling_mode": ["cls", "mean"]}, [], "pooled"),
        ({"pooling_mode": "max"}, [], "pooled"),
        ({"pooling_mode": "unheard"}, [], None),
        ({"pooling_mode": "mean"}, ["WordWeights"], None),
    ],
)
def test_the_note_of_a_derived_card_names_the_published_vector(
    pooling, behind, kind, tiny, tmp_path
):
    _, folder = tiny.copied("transformers bert", tmp_path)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    kinds |= {f"{place}_{name}": name for place, name in enumerate(behind, start=2)}
    for name in kinds:
        (folder / name).mkdir(exist_ok=True)
        if not (folder / name / "config.json").is_file():
            (folder / name / "config.json").write_text("{}")
    entries = [{"path": path, "type": f"a.{name}"} for path, name in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(entries))
    note = find_card(f"hf:{folder}").note
    assert (f"`--features {kind}`" in note) if kind else not note


class _Code:
    def __reduce__(self):
        return print, ("code of a weights file ran",)


@pytest.mark.parametrize("content", [{"linear.weight": _Code()}, None])
def test_weights_of_a_module_that_hold_code_or_nothing_are_one_line(
    content, tiny, tmp_path, capsys
):
    folder, _ = save_sentence(tiny, tmp_path, rest=[modules.Dense(32, 8)])
    (folder / "2_Dense" / "model.safetensors").unlink()
    path = folder / "2_Dense" / "pytorch_model.bin"
    torch.save(content, path) if content is not None else path.touch()
    encoder = build_encoder(CARD, weights=folder)
    with pytest.raises(WeightsMismatchError, match="cannot read module Dense") as caught:
        encoder.layout(POOLED)
    message = str(caught.value)
    assert message.isprintable()
    assert ("which only code inside it could read" in message) == (content is not None)
    assert "code of" not in capsys.readouterr().out


def test_the_note_of_a_derived_card_knows_of_norms_before_the_pooling(tmp_path, tiny):
    """The mean of tokens of one length is not the mean of tokens."""
    from sentence_transformers import SentenceTransformer

    _, source = tiny.copied("transformers bert", tmp_path)
    parts = [
        modules.Transformer(str(source)),
        modules.Normalize("token_embeddings"),
        modules.Pooling(32, "mean"),
    ]
    folder = tmp_path / "sentence"
    SentenceTransformer(modules=parts, device="cpu").save(str(folder), create_model_card=False)
    check(folder, encoded(folder))
    assert "`--features pooled`" in find_card(f"hf:{folder}").note
