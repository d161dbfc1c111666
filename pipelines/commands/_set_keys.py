"""Keys that `--set` knows, by command: its help lists them, and a wrong one is answered by them.

A part of a key in upper case stands for any name. What holds the keys is imported once a help text
or a wrong key needs them.
"""

import inspect
import json
import re
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ...featcache.settings import Field, Setting, fields_of, keys_of

Keys: TypeAlias = list[tuple[str, Field]]
_TYPES = {str: "str", int: "int", float: "float", bool: "bool"}


def training_keys() -> Keys:
    """Return the keys of a preset."""
    from ..training.distil_options import DISTIL, DistilOptions
    from ..training.options import PRESET_KEYS, TrainOptions
    from ..training.unpaired_options import UNPAIRED, UnpairedOptions

    parts = {
        "towers.SIDE.STEP.OPTION": "Option of a step; see `lightalign presets show PRESET`.",
        "objective.part": "Objective; the options of another are left out.",
        "objective.OPTION": "Option of the objective.",
        "objective.structure.OPTION": "Option of the regulariser of STRUCTURE, beside any.",
        "fit.OPTION": "Part or option of a training in closed form.",
        "start.OPTION": "Part or option of a closed form before the first step.",
        "unpaired.teacher.OPTION": "Part or option of the closed form that unpaired items have.",
        "finish.OPTION": "Part or option of a step behind both towers, filled after the last step.",
    }
    keys = [(key, _field(key, help)) for key, help in parts.items()]
    keys += [(key, _field(key)) for key in ("title", "source", "check.NAME", "task.OPTION")]
    tables = (
        ("train", TrainOptions),
        (UNPAIRED, UnpairedOptions),
        (DISTIL, DistilOptions),
    )
    keys = [key for name, options in tables for key in keys_of(options, f"{name}.")] + keys
    assert {key.partition(".")[0] for key, _ in keys} == PRESET_KEYS
    return keys


def joint_keys() -> Keys:
    """Return the keys of a joint preset."""
    from ..training.joint_plan import PRESET_KEYS
    from ..training.options import TrainOptions

    parts = {
        "towers.SIDE.STEP.OPTION": "Option of a step of one side; see `lightalign presets show`.",
        "joint.STEP.OPTION": "Option of a step that reads both sides.",
        "heads.NAME.OPTION": "Part or option of a head.",
        "objective.NAME.OPTION": "Weight or option of an objective.",
        "rates.PART": "Factor on the learning rate of towers, joint, heads or a step of joint.",
        "task.OPTION": "Option of the task, such as hard_negatives, vocabulary or most_validated.",
    }
    keys = [(key, _field(key, help)) for key, help in parts.items()]
    keys += [(key, _field(key)) for key in ("kind", "title", "source", "check.NAME")]
    keys = [*keys_of(TrainOptions, "train."), *keys]
    assert {key.partition(".")[0] for key, _ in keys} == PRESET_KEYS
    return keys


def plan_keys() -> Keys:
    """Return the keys of a preset of either kind."""
    return list(dict([*joint_keys(), *training_keys()]).items())


def probe_keys() -> Keys:
    """Return the keys of the options of the probe protocols."""
    from ..classification.probe_spec import ProbeOptions

    return list(keys_of(ProbeOptions))


def fine_tune_keys() -> Keys:
    """Return the keys of both protocols of fine-tuning; some are of both."""
    from ..classification.fine_tune_spec import FineTuneSpec

    defaults = {field.name: field.default for field in fields_of(FineTuneSpec)}
    return [
        (key, _with_note(replace(field, default=getattr(defaults[options], key)), protocol))
        for protocol, options in {"full": "options", "lightcrl": "sgd"}.items()
        for key, field in keys_of(type(defaults[options]))
    ]


def explain_keys() -> Keys:
    """Return the keys of an extraction, beside its encoder, its dataset and the home."""
    from ..extraction.spec import ExtractSpec

    keys = [pair for pair in keys_of(ExtractSpec) if pair[0] not in {"home", "encoders", "data"}]
    return [*keys, *source_keys()]


def extract_keys() -> Keys:
    """Return the keys of an extraction; what has a flag, too, is not listed."""
    return [
        (key, field if _is_table_only(field) else replace(field, setting=None))
        for key, field in [*explain_keys(), ("encoders", _field("encoders"))]
    ]


def source_keys() -> Keys:
    """Return the options of the dataset families, each as the last that has it describes it."""
    from ...featcache.sources.opening import SOURCES

    families: dict[str, list[str]] = {}
    options: dict[str, tuple[Field, str]] = {}
    for name in SOURCES.names():
        for field in fields_of(cls := SOURCES.load(name).Options):
            families.setdefault(field.name, []).append(name)
            options[field.name] = field, _described(cls, field.name)
    keys = []
    for name, (field, described) in options.items():
        setting = Setting(f"{described} ({', '.join(families[name])}).", table_only=True)
        keys.append((f"source.{name}", replace(field, setting=setting)))
    return keys


def _field(name: str, help: str = "") -> Field:
    """Return the field of a key of no type of its own; without help it is not listed."""
    return Field(name=name, hint=Any, setting=Setting(help) if help else None, default=None)


def _with_note(field: Field, protocol: str) -> Field:
    assert field.setting is not None, "keys have settings"
    help = f"{field.setting.help.removesuffix('.')} ({protocol})."
    return replace(field, setting=replace(field.setting, help=help))


def _is_table_only(field: Field) -> bool:
    return field.setting is not None and field.setting.table_only


def _described(cls: type, option: str) -> str:
    """Return the first sentence about an option in the docstring of its dataclass."""
    sentence = rf"^    {option}: (.+?)(?:[.;]\s|\.?\Z)"
    for documented in cls.__mro__:
        match = re.search(sentence, inspect.cleandoc(documented.__doc__ or ""), re.S | re.M)
        if match:
            return " ".join(match[1].split())
    return option  # Python may leave docstrings out


def listed(keys: Iterable[tuple[str, Field]]) -> Sequence[tuple[str, str]]:
    """Return each key with its type, and its help with its default, as a help text has them."""
    rows = []
    for key, field in keys:
        if field.setting is None:
            continue
        kind = "|".join(field.setting.choices) or _type_words(field.hint)
        default = "" if field.default in (None, ()) else f"  [default: {_default(field.default)}]"
        rows.append((f"{key} <{kind}>" if kind else key, f"{field.setting.help}{default}"))
    return rows


def _type_words(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin in {typing.Union, types.UnionType}:
        kinds = (kind for kind in typing.get_args(hint) if kind is not types.NoneType)
        return " | ".join(map(_type_words, kinds))
    if origin is not None:
        return f"list[{_type_words(typing.get_args(hint)[0])}]"
    return _TYPES.get(hint, "" if hint is Any else "str")


def _default(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
