"""Ask a language model many questions: each once, several at a time, and never again."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from ...featcache.config import fingerprint
from ..common import stopping
from ..common.prefetch import prefetch
from ..common.progress import SILENT, Progress
from .base import LanguageModel, NoReplyError
from .kept_replies import KeptReplies
from .question_prompt import Messages

GIVES_UP = 10  # failures in a row, after which nobody is there
_NOT_ASKED = "not asked any more"
_HINTS = {  # what a status usually comes of
    "HTTP 400": "does the server take max_tokens, temperature and seed for this model?",
    "HTTP 401": "is the key right?",
    "HTTP 403": "is the key right?",
    "HTTP 404": "are --llm-url, up to /v1, and --llm-model right?",
    "HTTP 429": "lower --llm-parallel, or raise --llm-timeout",
    "time-out": "raise --llm-timeout, or lower --llm-parallel",
    "cannot be reached": "is the server up, and --llm-url right?",
    "empty": "raise --llm-tokens",
}


@dataclass(frozen=True)
class Replies:
    """Replies of a language model to some questions.

    Attributes:
        texts: The reply to each, or None where there is none.
        failures: How many have none, by the reason, the most frequent first.
        num_kept: How many were there from an earlier run.
    """

    texts: list[str | None]
    failures: Mapping[str, int]
    num_kept: int = 0

    def warning(self, model: str) -> str | None:
        """Return one line that says how many questions have no reply, or None where all have."""
        if not self.failures:
            return None
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.failures.items())
        hint = _HINTS.get(next(iter(self.failures)))
        return (
            f"{model} gave no answer to {sum(self.failures.values()):,} of {len(self.texts):,} "
            f"questions ({reasons}): the plain answer counts there"
            + (f"; {hint}" if hint is not None else "")
        )


def hash_of(model: LanguageModel, messages: Messages) -> str:
    """Return the hash of all that decides a reply: messages, model and its options."""
    return fingerprint({"model": dict(model.identity), "messages": messages})


def ask_all(
    model: LanguageModel,
    prompts: Sequence[Messages],
    kept: KeptReplies | None = None,
    progress: Progress = SILENT,
) -> Replies:
    """Ask a model all prompts, but for those whose reply is kept; equal ones are asked once.

    A failure is counted and not kept, so that the next run asks again. After ten in a row nobody is
    asked any more.

    Args:
        model: The model, within its `with`.
        prompts: Messages of each question.
        kept: Replies that are there, which new ones are added to.
        progress: Receives the progress.
    """
    hashes = [hash_of(model, messages) for messages in prompts]
    messages_of = dict(zip(hashes, prompts, strict=True))
    replies: dict[str, str] = {}
    for each in messages_of:
        reply = kept.get(each) if kept is not None else None
        if reply is not None:
            replies[each] = reply
    num_kept = sum(each in replies for each in hashes)
    waiting = [each for each in messages_of if each not in replies]
    reasons = dict.fromkeys(waiting, _NOT_ASKED)
    progress.start(f"ask {model.name}", len(messages_of), unit="prompts", done=len(replies))
    outcomes = prefetch(
        _asker(model, messages_of), waiting, ahead=max(1, model.parallel), workers=model.parallel
    )
    in_a_row = 0
    keeps = stopping.kept() if kept is None else stopping.REPLIES
    with closing(outcomes), stopping.keeping(keeps):
        for each, outcome in zip(waiting, outcomes, strict=False):
            if isinstance(outcome, NoReplyError):
                reasons[each] = outcome.reason
                in_a_row += 1
            else:
                replies[each], in_a_row = outcome, 0
                if kept is not None:
                    kept.add(each, outcome)
            progress.advance(1)
            if in_a_row == GIVES_UP:
                break
    progress.finish()
    texts = [replies.get(each) for each in hashes]
    failures = Counter(reasons[each] for each in hashes if each not in replies)
    return Replies(texts, dict(failures.most_common()), num_kept)


def _asker(
    model: LanguageModel, messages_of: Mapping[str, Messages]
) -> Callable[[str], str | NoReplyError]:
    def ask(each: str) -> str | NoReplyError:
        try:
            return model.reply(messages_of[each])
        except NoReplyError as error:
            return error

    return ask


def joined(several: Iterable[Replies]) -> Replies:
    """Return the replies to several lists of questions as those to one."""
    texts: list[str | None] = []
    failures: Counter[str] = Counter()
    num_kept = 0
    for replies in several:
        texts += replies.texts
        failures.update(replies.failures)
        num_kept += replies.num_kept
    return Replies(texts, dict(failures.most_common()), num_kept)
