"""Phrases that name the shapes of a scene: one a shape, such as `a small red circle`."""

from .scenes import Mention, Scene, SceneText


def phrases(scene: Scene) -> tuple[SceneText, ...]:
    """Return a phrase for each shape, which names no other shape of the scene."""
    texts = [f"a {shape.size} {shape.colour} {shape.kind}" for shape in scene.shapes]
    return tuple(
        SceneText(text, (Mention(place, 0, len(text)),)) for place, text in enumerate(texts)
    )
