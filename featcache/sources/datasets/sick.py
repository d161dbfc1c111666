"""SICK: 9,840 pairs of sentences, their relatedness graded from 1 to 5.

Source: Marelli et al., A SICK cure for the evaluation of compositional distributional semantic
models, LREC 2014.
"""

from ..readers.graded_files import PublishedPairs, glue_like
from ..readers.graded_source import Scale


class SickSource(PublishedPairs):
    """Read SICK as SemEval 2014 has it (`SICK_train.txt`), or as the one file `SICK.txt`.

    The trial part is `val`. Entailment is not read.
    """

    title = "SICK: pairs of sentences, relatedness graded 1 to 5"
    published_as = "sick"
    layouts = (
        {
            "train": "SICK_train.txt",
            "val": "SICK_trial.txt",
            "test": "SICK_test_annotated.txt",
        },
        {"all": "SICK.txt"},
        *glue_like("sick"),
    )
    grade_names = ("relatedness_score", "relatedness")
    scale = Scale(1.0, 5.0, binary=False)
    get_it = "Get it from https://zenodo.org/records/2787612."
    split_column = "semeval_set"
