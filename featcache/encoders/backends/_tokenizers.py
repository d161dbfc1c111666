"""The tokenizer of a directory: the Rust one where there is one, else the one in Python."""

import hashlib
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from tokenizers import Tokenizer, normalizers

from ... import config
from ...errors import SpecError, WeightsMismatchError, WeightsNotFoundError
from ...modalities.base import TOKENIZER_VOCABULARIES
from .. import weights as weight_files
from ..card import EncoderCard
from ._checks import LIBRARY_ERRORS, unreadable
from ._transformers import quiet

# Entries of tokenizer_config.json that decide no id of ours.
_INERT = {
    *("_commit_hash", "auto_map", "backend", "is_local", "local_files_only", "name_or_path"),
    *("processor_class", "special_tokens_map_file", "tokenizer_file", "trust_remote_code"),
    *("max_length", "model_max_length", "padding_side", "truncation_side"),  # set by us, or keyed
    *("chat_template", "clean_up_tokenization_spaces"),  # of conversations, and of decoding
}


class RustTokenizer:
    """Cut texts into tokens by the Rust tokenizer: its wrapper is not safe to share by threads.

    Attributes:
        padding: Id that the tokenizer pads with, or None.
        mask: Id of the token that stands for a hidden one, or None.
        cuts_left: Whether a text that is too long loses its beginning, not its end.
    """

    companion_names: tuple[str, ...] = ("token_ids", "special_tokens", "character_spans")

    def __init__(self, tokenizer: Tokenizer, wrapper: Any) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._named_ids = set(wrapper.all_special_ids)
        self.padding: int | None = wrapper.pad_token_id
        self.mask = _mask(wrapper)
        self.cuts_left: bool = wrapper.truncation_side == "left"

    def hash(self) -> str:
        """Return the SHA-256 of all that decides the tokens, but for the length."""
        tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.no_truncation()
        return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()

    def cut(self, max_tokens: int) -> None:
        """Truncate every text to a number of tokens, special tokens included."""
        direction = "left" if self.cuts_left else "right"
        self._tokenizer.enable_truncation(max_tokens, direction=direction)

    def lower_case(self) -> None:
        """Have every text made lower case first."""
        current = self._tokenizer.normalizer
        if '"lowercase":true' in _compact(current) or '"type":"Lowercase"' in _compact(current):
            return
        steps = [normalizers.Lowercase(), *([] if current is None else [current])]
        self._tokenizer.normalizer = normalizers.Sequence(steps)

    def ids(self, text: str) -> list[int]:
        """Return the id of each token of `text`.

        Raises:
            TypeError: The text is not valid Unicode.
        """
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def companions(self, text: str) -> dict[str, np.ndarray]:
        """Return the arrays of `companion_names`, one line a token of `text`."""
        encoding = self._tokenizer.encode(text)
        return {
            "token_ids": np.array(encoding.ids, dtype=np.int32),
            "special_tokens": np.array(encoding.special_tokens_mask, dtype=np.uint8),
            "character_spans": np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2),
        }

    def special_ids(self) -> set[int]:
        """Return the ids that stand for no part of a text."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {index for index, token in added.items() if token.special}

    def named_ids(self) -> set[int]:
        """Return the ids that transformers has a name for, such as that of an unknown word."""
        return self._named_ids

    def num_ids(self) -> int:
        """Return one more than the largest id."""
        return 1 + max(self._tokenizer.get_vocab().values(), default=-1)

    def ordinary_ids(self) -> list[int]:
        """Return the ids of tokens that stand for a part of a text, ascending."""
        return _without(self._tokenizer.get_vocab(), self.special_ids() | self.named_ids())

    def files(self, padding: int) -> dict[str, str]:
        """Return the files that an export needs, by name."""
        tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.enable_padding(pad_id=padding, pad_token=tokenizer.id_to_token(padding) or "")
        return {"tokenizer.json": tokenizer.to_str(pretty=True)}


class PythonTokenizer:
    """Call a tokenizer that transformers has in Python only, such as those of bytes or proteins.

    Its methods are those of `RustTokenizer`.
    """

    companion_names: tuple[str, ...] = ("token_ids", "special_tokens")

    def __init__(self, tokenizer: Any, folder: Path) -> None:
        self._tokenizer = tokenizer
        self._folder = folder
        self._max_tokens: int | None = None
        self._lower_case = False
        self._lock = threading.Lock()
        self.padding: int | None = tokenizer.pad_token_id
        self.mask = _mask(tokenizer)
        self.cuts_left: bool = tokenizer.truncation_side == "left"

    def hash(self) -> str:
        settings = {
            key: value if isinstance(value, bool | int | str) else str(value)
            for key, value in self._tokenizer.init_kwargs.items()
            if key not in _INERT and not key.endswith("_file")
        }
        # paths of files differ by machine: of those the content is hashed, below
        special = self._tokenizer.special_tokens_map.items()
        files = [self._folder / name for name in self._tokenizer.vocab_files_names.values()]
        return config.fingerprint(
            {
                "class": type(self._tokenizer).__name__,
                "settings": settings,
                "special": {str(key): str(value) for key, value in special},
                "vocabulary": dict(self._tokenizer.get_vocab()),
                "lower_case": self._lower_case,
                "files": {
                    path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                    if path.is_file()
                    else None
                    for path in files
                },
            }
        )

    def cut(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens

    def lower_case(self) -> None:
        self._lower_case = True

    def ids(self, text: str) -> list[int]:
        return list(self._tokenize(text)["input_ids"])

    def companions(self, text: str) -> dict[str, np.ndarray]:
        tokens = self._tokenize(text)
        return {
            "token_ids": np.array(tokens["input_ids"], dtype=np.int32),
            "special_tokens": np.array(tokens["special_tokens_mask"], dtype=np.uint8),
        }

    def _tokenize(self, text: str) -> Any:
        text.encode()  # raises UnicodeEncodeError of half a surrogate pair
        with self._lock:
            return self._tokenizer(
                text.lower() if self._lower_case else text,
                truncation=self._max_tokens is not None,
                max_length=self._max_tokens,
                return_special_tokens_mask=True,
                return_attention_mask=False,
                verbose=False,
            )

    def special_ids(self) -> set[int]:
        return set(self._tokenizer.all_special_ids)

    named_ids = special_ids

    def num_ids(self) -> int:
        return len(self._tokenizer)

    def ordinary_ids(self) -> list[int]:
        return _without(self._tokenizer.get_vocab(), self.special_ids())

    def files(self, padding: int) -> dict[str, str]:
        raise SpecError(
            f"{type(self._tokenizer).__name__} is a tokenizer in Python, without a tokenizer.json: "
            "it cannot be exported"
        )


def read_tokenizer(card: EncoderCard, folder: Path) -> RustTokenizer | PythonTokenizer:
    """Return the tokenizer of `folder`, neither padding nor cutting.

    Raises:
        WeightsNotFoundError: There is none.
        WeightsMismatchError: It cannot be read.
    """
    if not _has_tokenizer(card, folder):
        # transformers would build an empty vocabulary without a word
        raise WeightsNotFoundError(
            f"encoder {card.name!r}: {folder} has no tokenizer (one of "
            f"{', '.join(TOKENIZER_VOCABULARIES)}); save it beside the model"
        )
    with quiet():
        try:
            wrapper: Any = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except LIBRARY_ERRORS as error:
            hint = " (SentencePiece files need `pip install sentencepiece protobuf`)"
            sentencepiece = any(folder.glob("*.model"))
            what = f"the tokenizer in {folder}{hint if sentencepiece else ''}"
            raise unreadable(card, what, error) from error
    backend = getattr(wrapper, "backend_tokenizer", None)
    if isinstance(backend, Tokenizer):
        return RustTokenizer(backend, wrapper)
    if not hasattr(wrapper, "vocab_files_names") or not callable(wrapper):
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {type(wrapper).__name__} in {folder} is no tokenizer of texts"
        )
    return PythonTokenizer(wrapper, folder)


def _mask(tokenizer: Any) -> int | None:
    """Return the id of the token that hides another, or None."""
    mask: int | None = tokenizer.mask_token_id
    # of one that is not in the vocabulary transformers returns that of unknown words
    return None if mask == tokenizer.unk_token_id else mask


def _without(vocabulary: Mapping[str, int], special: Collection[int]) -> list[int]:
    return sorted(set(vocabulary.values()) - set(special))


def _has_tokenizer(card: EncoderCard, folder: Path) -> bool:
    if any((folder / name).is_file() for name in TOKENIZER_VOCABULARIES):
        return True
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return False
    name = str(weight_files.read_config(card, path).get("tokenizer_class"))
    tokenizer_class = getattr(transformers, name, None)  # of bytes or letters: needs no vocabulary
    return tokenizer_class is not None and not getattr(tokenizer_class, "vocab_files_names", True)


def _compact(normalizer: Any) -> str:
    if normalizer is None:
        return ""
    state = normalizer.__getstate__()
    text = state.decode() if isinstance(state, bytes) else str(state)
    return text.replace(" ", "")
