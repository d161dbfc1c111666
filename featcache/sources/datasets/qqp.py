"""Quora Question Pairs: 404,276 pairs of questions, the same in meaning or not.

Source: Iyer, Dandekar and Csernai, First Quora Dataset Release: Question Pairs, 2017; split in
GLUE, Wang et al. 2018.
"""

from ..readers.graded_files import PublishedPairs, glue_like
from ..readers.graded_source import Scale


class QqpSource(PublishedPairs):
    """Read QQP as GLUE has it (`train.tsv`, `dev.tsv`), or a part of it (`qqp_5k.tsv`).

    GLUE's test part has no labels and is passed over. Kaggle's `train.csv` is read as a
    `text-pair-table`.
    """

    title = "QQP: pairs of Quora questions, duplicates or not"
    published_as = "qqp"
    layouts = (*glue_like("qqp"), {"all": "qqp_*k.tsv"})
    grade_names = ("is_duplicate", "label")
    scale = Scale(0.0, 1.0, binary=True)
    get_it = "Get it from https://gluebenchmark.com/tasks."
    # some questions of GLUE's files hold a line end, which breaks their pair
    broken_share = 1e-3
