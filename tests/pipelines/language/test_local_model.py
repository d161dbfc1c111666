"""A causal model on this machine: what it is asked, what it replies, and folders that are none."""

import json
import shutil

import pytest
import torch

from lightalign.featcache.errors import WeightsMismatchError, WeightsNotFoundError
from lightalign.pipelines.language.base import NoReplyError
from lightalign.pipelines.language.local_model import LocalModel

from .tiny_models import write_language_model

ASKED = [
    {"role": "system", "content": "be short"},
    {"role": "user", "content": "Question: what colour?\nAnswer:"},
]
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}" + CHAT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_language_model(tmp_path_factory.mktemp("language-model"))


def opened(folder, **changes):
    fields = {"device": torch.device("cpu"), "max_tokens": 8, "timeout": 30.0}
    return LocalModel(str(folder), **{**fields, **changes})


def test_a_model_without_a_chat_is_asked_by_the_text_and_replies_up_to_its_end(folder):
    model = opened(folder)
    assert model._text(ASKED) == "be short\n\nQuestion: what colour?\nAnswer:"
    assert model.reply(ASKED) == "red"
    assert model.reply(ASKED) == "red"


def test_a_model_with_a_chat_is_asked_as_its_template_says(tmp_path):
    model = opened(write_language_model(tmp_path, chat_template=CHAT))
    assert model._text(ASKED).startswith("system: be short\nuser: Question: what colour?\n")
    assert model.reply(ASKED) == "blue"


def test_a_chat_without_instructions_has_them_before_the_question(tmp_path):
    model = opened(write_language_model(tmp_path, chat_template=NO_SYSTEM))
    assert model._text(ASKED).startswith("user: be short\n\nQuestion: what colour?\n")
    assert model.reply(ASKED) == "blue"


def test_no_more_tokens_are_written_than_asked_for(folder):
    endless = [{"role": "user", "content": "endless:"}]
    assert opened(folder, max_tokens=3).reply(endless) == " ".join(["endless:"] * 3)


def test_a_reply_that_takes_too_long_is_none(folder):
    endless = [{"role": "user", "content": "endless:"}]
    with pytest.raises(NoReplyError, match="time-out"):
        opened(folder, max_tokens=200, timeout=1e-6).reply(endless)


def test_a_prompt_that_the_model_cannot_hold_is_a_reason(folder):
    with pytest.raises(NoReplyError, match="prompt too long"):
        opened(folder).reply([{"role": "user", "content": "red " * 249}])


def test_nothing_said_and_nothing_asked_are_reasons(folder):
    with pytest.raises(NoReplyError, match="empty"):
        opened(folder).reply([{"role": "user", "content": "red"}])
    with pytest.raises(NoReplyError, match="prompt not readable"):
        opened(folder).reply([{"role": "user", "content": ""}])


def test_the_identity_is_of_the_files_and_not_of_the_place(folder, tmp_path):
    plain = opened(folder).identity
    assert str(folder.parent) not in json.dumps(plain)
    shutil.copytree(folder, tmp_path / folder.name)
    assert opened(tmp_path / folder.name).identity == plain
    (tmp_path / folder.name / "generation_config.json").write_text("{}")
    assert opened(tmp_path / folder.name).identity != plain


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: shutil.rmtree(f), WeightsNotFoundError, "--llm: "),
        (lambda f: (f / "config.json").unlink(), WeightsNotFoundError, "holds no config.json"),
        (lambda f: (f / "config.json").write_text("{"), WeightsMismatchError, "cannot read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), WeightsMismatchError, "cannot"),
        (lambda f: (f / "model.safetensors").unlink(), WeightsMismatchError, "cannot read"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), WeightsMismatchError, "cannot read"),
        (
            lambda f: (f / "adapter_config.json").write_text("{}"),
            WeightsMismatchError,
            "is of an adapter",
        ),
    ],
)
def test_a_folder_that_is_no_model_is_one_line(folder, tmp_path, change, error, message):
    shutil.copytree(folder, tmp_path / "model")
    change(tmp_path / "model")
    with pytest.raises(error, match=message) as caught:
        opened(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_weights_that_lack_a_part_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.ln_f.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsMismatchError, match="lack 1 of the model's"):
        opened(tmp_path / "model")
