"""Microsoft Research Paraphrase Corpus: 5,801 pairs of sentences, the same in meaning or not.

Source: Dolan and Brockett, Automatically Constructing a Corpus of Sentential Paraphrases, 2005.
"""

from pathlib import Path

from ..readers.graded_files import GradedFamily, glue_like, read_graded
from ..readers.graded_source import GradedSource, Scale

_FAMILY = GradedFamily(
    name="mrpc",
    layouts=(
        {"train": "msr_paraphrase_train.txt", "test": "msr_paraphrase_test.txt"},
        *glue_like("mrpc"),
    ),
    grade_names=("quality", "label"),
    scale=Scale(0.0, 1.0, binary=True),
    get_it="Get it from https://www.microsoft.com/en-us/download/details.aspx?id=52398.",
)


class MrpcSource(GradedSource):
    """Read MRPC as published (`msr_paraphrase_train.txt`), or as GLUE has it (`train.tsv`).

    Where both are there the published files are taken: GLUE's `dev.tsv` is cut out of their
    training part. GLUE's test part has no labels and is passed over.

    Args:
        root: Folder of the dataset, or one of its files.

    Raises:
        DatasetNotFoundError: None of the files is there.
        DatasetFormatError: A file cannot be understood.
    """

    title = "MRPC: pairs of news sentences, paraphrases or not"

    def __init__(self, root: Path) -> None:
        rows, notes = read_graded(root, _FAMILY)
        super().__init__(root, rows, scale=_FAMILY.scale, notes=notes)
