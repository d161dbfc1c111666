"""Small datasets of questions about pictures, of which the toys can tell what is asked."""

import json
from pathlib import Path

from PIL import Image

COLOURS = {"red": (230, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230)}
NUM_TRAIN, NUM_VAL = 12, 6  # pictures, of each of which there are two questions


def write_questions(folder: Path, *, annotators: int = 1) -> Path:
    """Write pictures of one colour with two questions each, and return their table.

    Of ten annotators seven agree, and three say `grey`.
    """
    folder.mkdir(parents=True)
    rows = []
    for number in range(NUM_TRAIN + NUM_VAL):
        colour = list(COLOURS)[number % 3]
        Image.new("RGB", (32, 32), COLOURS[colour]).save(folder / f"{number:02}.png")
        asked = {"what colour is it": colour, "is it red": "yes" if colour == "red" else "no"}
        rows += [
            {
                "image": f"{number:02}.png",
                "question": question,
                "answers": [answer] if annotators == 1 else [answer] * 7 + ["grey"] * 3,
                "split": "train" if number < NUM_TRAIN else "val",
            }
            for question, answer in asked.items()
        ]
    table = folder / "questions.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    return table
