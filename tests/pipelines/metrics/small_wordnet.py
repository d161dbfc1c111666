"""A WordNet of a dozen nouns in the form of its database files, written here.

entity
  object
    furniture
      seat
        chair.1
        stool, which is a toy, too
          barstool
      table
  person
    chair.2, whose first word is chairperson
  toy
    doll
    stool
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

LICENCE = b"  1 WordNet 3.0 Copyright 2006 by the authors of these tests.  \n"
# of each sense its words, and the first words of what it is a kind of
SENSES: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "entity": (["entity"], []),
    "object": (["object", "physical_object"], ["entity"]),
    "furniture": (["furniture"], ["object"]),
    "seat": (["seat"], ["furniture"]),
    "chair": (["chair"], ["seat"]),
    "stool": (["stool"], ["seat", "toy"]),
    "barstool": (["barstool", "bar_stool"], ["stool"]),
    "table": (["table"], ["furniture"]),
    "person": (["person"], ["entity"]),
    "chairperson": (["Chairperson", "chair"], ["person"]),
    "toy": (["toy"], ["entity"]),
    "doll": (["doll"], ["toy"]),
}
IRREGULAR = b"people person\ngeese goose\n"


def small_wordnet(
    senses: Mapping[str, tuple[Sequence[str], Sequence[str]]] = SENSES,
) -> dict[str, bytes]:
    """Return the content of `index.noun`, `data.noun` and `noun.exc`."""
    # places have eight digits, so that a line is as long with any of them
    places = dict.fromkeys(senses, 0)
    for _ in range(2):
        data = bytearray(LICENCE)
        for key, (words, kinds) in senses.items():
            places[key] = len(data)
            listed = " ".join(f"{word} 0" for word in words)
            pointers = "".join(f"@ {places[kind]:08d} n 0000 " for kind in kinds)
            data += (
                f"{places[key]:08d} 03 n {len(words):02x} {listed} {len(kinds):03d} {pointers}"
                f"| what {key} means  \n"
            ).encode()
    of_word: dict[str, list[int]] = {}
    for key, (words, _) in senses.items():
        for word in words:
            of_word.setdefault(word.lower(), []).append(places[key])
    index = bytearray(LICENCE)
    for word in sorted(of_word):
        offsets = of_word[word]
        listed = " ".join(f"{offset:08d}" for offset in offsets)
        index += f"{word} n {len(offsets)} 2 @ ~ {len(offsets)} 0 {listed}  \n".encode()
    return {"index.noun": bytes(index), "data.noun": bytes(data), "noun.exc": IRREGULAR}


def write_small_wordnet(folder: Path) -> Path:
    """Write the files into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in small_wordnet().items():
        (folder / name).write_bytes(content)
    return folder
