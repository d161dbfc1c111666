"""Microsoft Research Paraphrase Corpus: 5,801 pairs of sentences, the same in meaning or not.

Source: Dolan and Brockett, Automatically Constructing a Corpus of Sentential Paraphrases, 2005.
"""

from ..readers.graded_files import PublishedPairs, glue_like
from ..readers.graded_source import Scale


class MrpcSource(PublishedPairs):
    """Read MRPC as published (`msr_paraphrase_train.txt`), or as GLUE has it (`train.tsv`).

    Where both are there the published files are taken: GLUE's `dev.tsv` is cut out of their
    training part. GLUE's test part has no labels and is passed over.
    """

    title = "MRPC: pairs of news sentences, paraphrases or not"
    published_as = "mrpc"
    layouts = (
        {"train": "msr_paraphrase_train.txt", "test": "msr_paraphrase_test.txt"},
        *glue_like("mrpc"),
    )
    grade_names = ("quality", "label")
    scale = Scale(0.0, 1.0, binary=True)
    get_it = "Get it from https://www.microsoft.com/en-us/download/details.aspx?id=52398."
