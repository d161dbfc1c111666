"""Captions of a scene of coloured shapes: five different and complete sentences."""

from functools import lru_cache
from string import Formatter

from .scenes import Decisions, Mention, Scene, SceneText, name_scene

NUM_CAPTIONS = 5
_LETTERS = "abc"  # of the shapes in the order of the layout
_SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}

# Per layout of two: the first seen from the second, the second seen from the first, and the same
# with the other shape as a pronoun or already named.
_RELATIONS = {
    "left": ("to the left of", "to the right of", "to its left", "to its right"),
    "above": ("above", "below", "above it", "below it"),
    "above-left": (
        "above and to the left of",
        "below and to the right of",
        "above it to the left",
        "below it to the right",
    ),
    "above-right": (
        "above and to the right of",
        "below and to the left of",
        "above it to the right",
        "below it to the left",
    ),
    "inside": ("inside", "around", "inside it", "around it"),
    "in-front": (
        "in front of and partly covering",
        "behind and partly covered by",
        "partly covering it",
        "partly hidden behind it",
    ),
}
_PAIR_TEMPLATES = (
    "{a} is {a_to_b} {b} on {ground}.",
    "On {ground}, {b} is {b_to_a} {a}.",
    "There is {a} with {b} {b_from_a}; the background is {colour}.",
    "A {colour} picture of {b} and, {a_from_b}, {a}.",
    "Two shapes on {ground}: {b}, with {a} {a_from_b}.",
)
_TRIPLE_TEMPLATES = {
    "row": (
        "From left to right: {a}, {b} and {c} on {ground}.",
        "On {ground} from right to left, {c}, {b} and {a}.",
        "{b} is between {a} on its left and {c} on its right; the background is {colour}.",
        "Three shapes side by side on {ground}, {a} leftmost, {b} in the middle, {c} rightmost.",
        "A {colour} picture where {c} is to the right of {b}, which is to the right of {a}.",
    ),
    "column": (
        "From top to bottom: {a}, {b} and {c} on {ground}.",
        "On {ground} from bottom to top, {c}, {b} and {a}.",
        "{b} is between {a} above it and {c} below it; the background is {colour}.",
        "Three shapes stacked on {ground}, {a} topmost, {b} in the middle, {c} lowest.",
        "A {colour} picture where {c} is below {b}, which is below {a}.",
    ),
    "pyramid": (
        "{a} is above {b} on the left and {c} on the right, on {ground}.",
        "On {ground}, {b} is to the left of {c}, and both are below {a}.",
        "{c} is to the right of {b}, with {a} above the two; the background is {colour}.",
        "Three shapes on {ground}: {a} at the top, {b} bottom left and {c} bottom right.",
        "A {colour} picture with {b} and {c} side by side, in this order, under {a}.",
    ),
}


def captions(scene: Scene) -> tuple[str, ...]:
    """Return five captions; each names every shape with size and colour, and the background."""
    return tuple(caption.text for caption in captions_with_mentions(scene))


@lru_cache(maxsize=1)  # items of one scene are asked for one after another
def captions_with_mentions(scene: Scene) -> tuple[SceneText, ...]:
    """Return the captions with the words of each that name a shape."""
    decide = Decisions(f"words {name_scene(scene)}")
    templates = _TRIPLE_TEMPLATES.get(scene.layout, _PAIR_TEMPLATES)
    return tuple(_fill(template, scene, decide) for template in templates)


def _fill(template: str, scene: Scene, decide: Decisions) -> SceneText:
    words = {"colour": scene.background, "ground": f"a {scene.background} background"}
    # One word a size and caption: "a big square and a huge circle" would claim a difference.
    sizes = {size: decide.pick(synonyms) for size, synonyms in _SIZE_WORDS.items()}
    for letter, shape in zip(_LETTERS, scene.shapes, strict=False):
        words[letter] = f"a {sizes[shape.size]} {shape.colour} {shape.kind}"
    keys = ("a_to_b", "b_to_a", "a_from_b", "b_from_a")
    words |= zip(keys, _RELATIONS.get(scene.layout, ()), strict=False)
    caption, mentions = "", []
    for between, name, _, _ in Formatter().parse(template):
        caption += between
        phrase = words[name] if name else ""
        if name and name in _LETTERS:
            end = len(caption) + len(phrase)
            mentions.append(Mention(_LETTERS.index(name), len(caption), end))
        caption += phrase
    return SceneText(caption[0].upper() + caption[1:], tuple(mentions))
