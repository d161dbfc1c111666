"""Prompts that put a question to a language model: TOML, below `data/question_prompts`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, TypeAlias

from ...featcache.config import build, fingerprint
from ...featcache.documents import read_toml
from ...featcache.errors import SpecError
from ...featcache.home import expanded
from ...featcache.registry import close_names, unknown_name

Messages: TypeAlias = list[dict[str, str]]  # `role` and `content` of each, as of a chat
PROMPTS = Path(__file__).parents[2] / "data" / "question_prompts"
_FIELD = re.compile(r"\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, kw_only=True)
class QuestionPrompt:
    r"""Template of the messages that a language model answers.

    A name in braces is a field; nothing else may stand in braces.

    Attributes:
        name: Name of the prompt, the file's stem.
        title: One line for lists.
        system: Instruction, or nothing.
        caption: What stands for the field `caption` of `user` where there is one, with the field
            `caption`, such as `Caption: {caption}\n`; without a caption nothing does.
        candidate: How one answer is written, with the fields `answer` and `probability`, which has
            two decimals.
        between: What stands between two of these.
        user: The question, with the fields `caption`, `question` and `candidates`; the second is
            needed.
    """

    _FIELDS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "system": (),
        "caption": ("caption",),
        "candidate": ("answer", "probability"),
        "between": (),
        "user": ("caption", "question", "candidates"),
    }

    name: str
    title: str = ""
    system: str = ""
    caption: str = "Caption: {caption}\n"
    candidate: str = "{answer} ({probability})"
    between: str = ", "
    user: str

    def __post_init__(self) -> None:
        for part, known in self._FIELDS.items():
            for match in _FIELD.finditer(getattr(self, part)):
                if match[1] not in known:
                    raise SpecError(self._unknown(part, match, known))
        if "{question}" not in self.user:
            raise SpecError(f"prompt {self.name!r}: user lacks the field {{question}}")

    def _unknown(self, part: str, match: re.Match[str], known: Sequence[str]) -> str:
        where = f"prompt {self.name!r}: {part}"
        names = ", ".join(f"{{{name}}}" for name in known) or "none"
        if match[1] is None:
            return f"{where} has a brace that belongs to no field; its fields: {names}"
        close = close_names(match[1], known)
        meant = f"did you mean {{{close[0]}}}? " if close else ""
        return f"{where} has no field {match[0]!r:.60}; {meant}its fields: {names}"

    def messages(
        self, question: str, candidates: Sequence[tuple[str, float]], caption: str | None = None
    ) -> Messages:
        """Return the messages that put a question.

        Line breaks in what is put in are spaces, and what looks like a field in it stays.

        Args:
            question: The question.
            candidates: Answers with their probabilities in [0, 1], the first one first.
            caption: What is said of the image, or None.
        """
        listed = [
            _filled(self.candidate, {"answer": answer, "probability": f"{probability:.2f}"})
            for answer, probability in candidates
        ]
        user = _put(
            self.user,
            {
                "caption": "" if caption is None else _filled(self.caption, {"caption": caption}),
                "question": _one_line(question),
                "candidates": self.between.join(listed),
            },
        )
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": user}]

    @property
    def sha256(self) -> str:
        """Return the hash of all that stands in messages."""
        return fingerprint(
            {
                field.name: getattr(self, field.name)
                for field in fields(self)
                if field.name not in ("name", "title")
            }
        )


def _filled(template: str, values: Mapping[str, str]) -> str:
    return _put(template, {name: _one_line(value) for name, value in values.items()})


def _put(template: str, values: Mapping[str, str]) -> str:
    # in one pass, so that a question that holds {candidates} stays what it is
    return _FIELD.sub(lambda match: values[match[1]], template)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def question_prompt_names() -> list[str]:
    """List the names of all prompts that come with lightalign, sorted."""
    return sorted(path.stem for path in PROMPTS.glob("*.toml"))


def read_question_prompt(name: str) -> QuestionPrompt:
    """Read the prompt called `name`, or that of a file if it ends in `.toml`.

    Raises:
        UnknownNameError: No prompt has this name.
        SpecError: The file is not there or no TOML, or has an unknown key or field.
    """
    if name.endswith(".toml"):
        path = expanded(Path(name))
        if not path.is_file():
            raise SpecError(f"--llm-prompt {name}: there is no such file")
    elif name in question_prompt_names():
        path = PROMPTS / f"{name}.toml"
    else:
        raise unknown_name("prompt", name, question_prompt_names())
    table = {**read_toml(path), "name": path.stem}
    return build(QuestionPrompt, table, where=f"prompt {path.stem}")
