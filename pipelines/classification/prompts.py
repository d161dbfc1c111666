"""Turn names of classes into texts: templates and spoken names are TOML, below `data/prompts`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...featcache.config import build
from ...featcache.documents import read_toml
from ...featcache.errors import SpecError
from ...featcache.home import expanded
from ...featcache.registry import unknown_name

PROMPTS = Path(__file__).parents[2] / "data" / "prompts"
_NAMES = PROMPTS / "names"
_PLACES = re.compile(r"\{[^{}]*\}?|\}")
# "a unicycle" and "a ukulele", but "an unidentified bird", "an uninhabited island"
_SOUNDS_LIKE_A = re.compile(r"uni(?![dnm])|uk[eu]|use|eu|one\b|ewe", re.IGNORECASE)
_SOUNDS_LIKE_AN = re.compile(r"[aeiou]|hour|honou?r|honest|heir", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Templates that turn the name of a class into texts.

    Attributes:
        name: Name of the prompts, the file's stem.
        title: One line for lists.
        templates: Texts with `{}` for the name of the class, or `{a}` for it with its article.
        names: What people call a class, by its name in the dataset; goes before the names that
            come with lightalign.
    """

    name: str
    title: str = ""
    templates: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.templates or len(set(self.templates)) < len(self.templates):
            raise SpecError(f"prompts {self.name!r} need one template or more, each once")
        for template in self.templates:
            places = _PLACES.findall(template)
            if not places or not set(places) <= {"{}", "{a}"}:
                raise SpecError(
                    f"prompts {self.name!r}: a template has {{}} for the class or {{a}} for it "
                    f"with its article, and no other braces; found {template!r}"
                )

    def texts(self, spoken: str) -> list[str]:
        """Return the text of each template for a class that people call `spoken`."""
        return [
            template.replace("{a}", with_article(spoken)).replace("{}", spoken)
            for template in self.templates
        ]


def prompt_names() -> list[str]:
    """List the names of all prompts that come with lightalign, sorted."""
    return sorted(path.stem for path in PROMPTS.glob("*.toml"))


def read_prompts(name: str) -> Prompts:
    """Read the prompts called `name`, or those of a file if it ends in `.toml`.

    Raises:
        UnknownNameError: No prompts have this name.
        SpecError: The file is not there or no TOML, or a template is wrong.
    """
    if name.endswith(".toml"):
        path = expanded(Path(name))
        if not path.is_file():
            raise SpecError(f"--prompts {name}: there is no such file")
        return _read(path)
    if name not in prompt_names():
        raise unknown_name("prompts", name, prompt_names())
    return _read(PROMPTS / f"{name}.toml")


def _read(path: Path) -> Prompts:
    return build(Prompts, {**read_toml(path), "name": path.stem}, where=f"prompts {path.stem}")


def spoken_names(prompts: Prompts, dataset: str, names: Sequence[str]) -> list[str]:
    """Return what people call each class of a dataset.

    From the prompts' own names, else from those that come with lightalign for the dataset, else
    the name itself with a space for each underscore.

    Raises:
        SpecError: Two classes are called the same: neither could be told from the other.
    """
    table = {**_spoken_of(dataset), **prompts.names}
    spoken = [table.get(name, " ".join(name.replace("_", " ").split())) for name in names]
    first: dict[str, str] = {}
    for name, spoken_name in zip(names, spoken, strict=True):
        if first.setdefault(spoken_name, name) != name:
            raise SpecError(
                f"classes {first[spoken_name]!r} and {name!r} of {dataset} are both called "
                f"{spoken_name!r}: give one of them another name in [names] of a TOML file for "
                "--prompts"
            )
    return spoken


def _spoken_of(dataset: str) -> dict[str, str]:
    path = _NAMES / f"{dataset}.toml"
    if not path.is_file():
        return {}
    names: dict[str, str] = read_toml(path)["names"]
    return names


def with_article(noun: str) -> str:
    """Return a noun with `a` or `an`, by its first letters.

    `an` stands before a vowel and the silent h of hour, honour, honest and heir, `a` before the few
    beginnings that sound like "you" or "one", such as unicycle, ukulele and euro. What is rarer
    comes out wrong, such as "an utensil" and "a MRI scan".
    """
    is_an = _SOUNDS_LIKE_AN.match(noun) and not _SOUNDS_LIKE_A.match(noun)
    return f"an {noun}" if is_an else f"a {noun}"
