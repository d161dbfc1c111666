"""STS benchmark: 8,628 pairs of sentences, graded from 0 to 5.

Source: Cer et al., SemEval-2017 Task 1: Semantic Textual Similarity, 2017.
"""

from pathlib import Path

from ..readers.graded_files import GradedFamily, glue_like, read_graded
from ..readers.graded_source import GradedSource, Scale

_FAMILY = GradedFamily(
    name="stsb",
    layouts=(
        *glue_like("stsb"),
        {"train": "sts-train.csv", "val": "sts-dev.csv", "test": "sts-test.csv"},
    ),
    grade_names=("score",),
    scale=Scale(0.0, 5.0, binary=False),
    get_it="Get it from http://ixa2.si.ehu.eus/stswiki/index.php/STSbenchmark.",
    bare={"sts-*.csv": ("genre", "file", "year", "id", "score", "sentence1", "sentence2")},
)


class StsbSource(GradedSource):
    """Read the STS benchmark as published (`sts-train.csv`), or as GLUE has it (`train.tsv`).

    Both are separated by tabs, without quoting. GLUE's test part has no grades and is passed over.

    Args:
        root: Folder of the dataset, or one of its files.

    Raises:
        DatasetNotFoundError: None of the files is there.
        DatasetFormatError: A file cannot be understood.
    """

    title = "STS benchmark: pairs of sentences, graded 0 to 5"

    def __init__(self, root: Path) -> None:
        rows, notes = read_graded(root, _FAMILY)
        super().__init__(root, rows, scale=_FAMILY.scale, notes=notes)
