"""Quora Question Pairs: 404,276 pairs of questions, the same in meaning or not.

Source: Iyer, Dandekar and Csernai, First Quora Dataset Release: Question Pairs, 2017; split in
GLUE, Wang et al. 2018.
"""

from pathlib import Path

from ..readers.graded_files import GradedFamily, glue_like, read_graded
from ..readers.graded_source import GradedSource, Scale

_FAMILY = GradedFamily(
    name="qqp",
    layouts=(*glue_like("qqp"), {"all": "qqp_*k.tsv"}),
    grade_names=("is_duplicate", "label"),
    scale=Scale(0.0, 1.0, binary=True),
    get_it="Get it from https://gluebenchmark.com/tasks.",
    broken_share=1e-3,  # some questions of GLUE's files hold a line end, which breaks their pair
)


class QqpSource(GradedSource):
    """Read QQP as GLUE has it (`train.tsv`, `dev.tsv`), or a part of it (`qqp_5k.tsv`).

    GLUE's test part has no labels and is passed over. Kaggle's `train.csv` is read as a
    `text-pair-table`.

    Args:
        root: Folder of the dataset, or one of its files.

    Raises:
        DatasetNotFoundError: None of the files is there.
        DatasetFormatError: A file cannot be understood.
    """

    title = "QQP: pairs of Quora questions, duplicates or not"

    def __init__(self, root: Path) -> None:
        rows, notes = read_graded(root, _FAMILY)
        super().__init__(root, rows, scale=_FAMILY.scale, notes=notes)
