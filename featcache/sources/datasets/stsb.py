"""STS benchmark: 8,628 pairs of sentences, graded from 0 to 5.

Source: Cer et al., SemEval-2017 Task 1: Semantic Textual Similarity, 2017.
"""

from ..readers.graded_files import PublishedPairs, glue_like
from ..readers.graded_source import Scale


class StsbSource(PublishedPairs):
    """Read the STS benchmark as published (`sts-train.csv`), or as GLUE has it (`train.tsv`).

    Both are separated by tabs, without quoting. GLUE's test part has no grades and is passed over.
    """

    title = "STS benchmark: pairs of sentences, graded 0 to 5"
    published_as = "stsb"
    layouts = (
        *glue_like("stsb"),
        {"train": "sts-train.csv", "val": "sts-dev.csv", "test": "sts-test.csv"},
    )
    grade_names = ("score",)
    scale = Scale(0.0, 5.0, binary=False)
    get_it = "Get it from http://ixa2.si.ehu.eus/stswiki/index.php/STSbenchmark."
    bare = (("sts-*.csv", ("genre", "file", "year", "id", "score", "sentence1", "sentence2")),)
