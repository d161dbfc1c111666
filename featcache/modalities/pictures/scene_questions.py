"""Questions about a scene of coloured shapes, each with the one answer that is right.

Six a scene, one of each type. A shape is named by words that fit no other shape of the scene. What
is asked for is drawn so that the question tells little of the answer: half of the shapes that
`is there` asks for are there, and of two shapes either may be asked for as seen from the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from .scenes import COLOURS, RADIUS, SHAPES, Decisions, Mention, Scene, SceneText, name_scene

# What each shape of a layout is called by its place.
_PLACES = {
    "left": ("left", "right"),
    "above": ("upper", "lower"),
    "above-left": ("upper left", "lower right"),
    "above-right": ("upper right", "lower left"),
    "inside": ("inner", "outer"),
    "in-front": ("front", "back"),
    "row": ("left", "middle", "right"),
    "column": ("top", "middle", "bottom"),
    "pyramid": ("top", "bottom left", "bottom right"),
}
# Where one shape of a layout is as seen from a later one, and the later one as seen from it.
_WAYS = {
    "left": ("left", "right"),
    "above": ("above", "below"),
    "above-left": ("above left", "below right"),
    "above-right": ("above right", "below left"),
    "inside": ("inside", "around"),
    "in-front": ("in front", "behind"),
    "row": ("left", "right"),
    "column": ("above", "below"),
}
_WAYS_OF_PYRAMID = {(0, 1): "above-right", (0, 2): "above-left", (1, 2): "left"}
_PLURALS = {kind: f"{kind}es" if kind == "cross" else f"{kind}s" for kind in SHAPES}
_MOST_SHAPES = 3

_YES_NO, _NUMBER, _OTHER = "yes/no", "number", "other"  # types of answers, as VQA has them
ANSWER_LIST = (
    *COLOURS,
    *SHAPES,
    *RADIUS,
    *map(str, range(_MOST_SHAPES + 1)),
    "yes",
    "no",
    *dict.fromkeys(way for ways in _WAYS.values() for way in ways),
)


@dataclass(frozen=True)
class SceneQuestion(SceneText):
    """Question about a scene with its answer.

    Attributes:
        answer: One of `ANSWER_LIST`.
        question_type: First words of it, such as `what colour`.
        answer_type: `yes/no`, `number` or `other`.
    """

    answer: str
    question_type: str
    answer_type: str


@lru_cache(maxsize=1)  # items of one scene are asked for one after another
def questions(scene: Scene) -> tuple[SceneQuestion, ...]:
    """Return a question of each type.

    Shapes that are named with `the` are mentions. What `is there` and `how many` ask for is none:
    that it is mentioned would tell the answer.
    """
    name = name_scene(scene)
    return tuple(
        ask(scene, Decisions(f"ask {number} {name}")) for number, ask in enumerate(_QUESTIONS)
    )


def _ask_colour(scene: Scene, decide: Decisions) -> SceneQuestion:
    target = decide.pick(range(len(scene.shapes)))
    words = decide.pick([*_descriptions(scene, target, hidden="colour"), _by_place(scene, target)])
    return _about("What colour is ", "?", words, target, scene.shapes[target].colour, "what colour")


def _ask_kind(scene: Scene, decide: Decisions) -> SceneQuestion:
    target = decide.pick(range(len(scene.shapes)))
    words = decide.pick([*_descriptions(scene, target, hidden="kind"), _by_place(scene, target)])
    return _about("What shape is ", "?", words, target, scene.shapes[target].kind, "what shape")


def _ask_size(scene: Scene, decide: Decisions) -> SceneQuestion:
    # not by its place: inner shapes are small, outer ones large
    target = decide.pick(range(len(scene.shapes)))
    words = decide.pick(_descriptions(scene, target, hidden="size"))
    return _about("What size is ", "?", words, target, scene.shapes[target].size, "what size")


def _ask_number(scene: Scene, decide: Decisions) -> SceneQuestion:
    shape = decide.pick(scene.shapes)
    # half of the time those of any colour and kind, which are seldom there
    colour, kind = (
        decide.pick((of_shape, decide.pick(tuple(every))))
        for of_shape, every in ((shape.colour, COLOURS), (shape.kind, SHAPES))
    )
    size = decide.pick(tuple(RADIUS))
    what, count = decide.pick(
        (
            ("shapes", len(scene.shapes)),
            (f"{size} shapes", sum(other.size == size for other in scene.shapes)),
            (f"{colour} shapes", sum(other.colour == colour for other in scene.shapes)),
            (_PLURALS[kind], sum(other.kind == kind for other in scene.shapes)),
        )
    )
    return SceneQuestion(f"How many {what} are there?", (), str(count), "how many", _NUMBER)


def _ask_existence(scene: Scene, decide: Decisions) -> SceneQuestion:
    shape = decide.pick(scene.shapes)
    there = {(other.colour, other.kind) for other in scene.shapes}
    answer = decide.pick(("yes", "no"))
    colour, kind = shape.colour, shape.kind
    if answer == "no":
        changed = decide.pick(
            (
                [(other, kind) for other in COLOURS if (other, kind) not in there],
                [(colour, other) for other in SHAPES if (colour, other) not in there],
            )
        )
        colour, kind = decide.pick(changed)
    article = "an" if colour[0] in "aeiou" else "a"
    text = f"Is there {article} {colour} {kind}?"
    return SceneQuestion(text, (), answer, "is there", _YES_NO)


def _ask_place(scene: Scene, decide: Decisions) -> SceneQuestion:
    count = len(scene.shapes)
    pairs = [(first, later) for first in range(count) for later in range(first + 1, count)]
    first, later = decide.pick(pairs)
    layout = _WAYS_OF_PYRAMID[first, later] if scene.layout == "pyramid" else scene.layout
    seen, other, answer = decide.pick(
        ((first, later, _WAYS[layout][0]), (later, first, _WAYS[layout][1]))
    )
    text, mentions = "Where is ", []
    for place, after in ((seen, ", seen from "), (other, "?")):
        words = f"the {scene.shapes[place].colour} {scene.shapes[place].kind}"
        mentions.append(Mention(place, len(text), len(text) + len(words)))
        text += words + after
    return SceneQuestion(text, tuple(mentions), answer, "where is", _OTHER)


_QUESTIONS: tuple[Callable[[Scene, Decisions], SceneQuestion], ...] = (
    _ask_colour,
    _ask_kind,
    _ask_size,
    _ask_number,
    _ask_existence,
    _ask_place,
)
NUM_QUESTIONS = len(_QUESTIONS)


def _about(
    before: str, after: str, words: str, target: int, answer: str, question_type: str
) -> SceneQuestion:
    """Return a question that names one shape."""
    mention = Mention(target, len(before), len(before) + len(words))
    return SceneQuestion(f"{before}{words}{after}", (mention,), answer, question_type, _OTHER)


def _descriptions(scene: Scene, target: int, *, hidden: str) -> list[str]:
    """Return words for a shape that fit no other and do not say one of its three features."""
    names = [name for name in ("size", "colour", "kind") if name != hidden]
    told = []
    for chosen in (names[:1], names[1:], names):
        features = [[getattr(shape, name) for name in chosen] for shape in scene.shapes]
        if features.count(features[target]) == 1:
            noun = [] if "kind" in chosen else ["one" if hidden == "kind" else "shape"]
            told.append(" ".join(["the", *features[target], *noun]))
    return told


def _by_place(scene: Scene, target: int) -> str:
    return f"the {_PLACES[scene.layout][target]} one"
