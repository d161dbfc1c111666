"""A bank of training items is found before anything is embedded, or it is an error."""

import pytest

from lightalign.featcache.errors import StoreNotFoundError
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.runs import embed_stored
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import changed_report


def test_a_missing_bank_is_an_error_before_anything_is_embedded(home, monkeypatch):
    sets = ("train.epochs=1", "train.batch_size=8", "train.validation=none")
    spec = TrainSpec(preset="linear", home=home, overrides=sets, device="cpu")
    folder = train.run(spec).folder
    with changed_report(folder) as report:
        report["spec"]["stores"]["train"]["text"]["key"] = "0" * 64
    monkeypatch.setattr(embed_stored, "embed_pairs", lambda *_, **__: pytest.fail("embedded"))
    with pytest.raises(StoreNotFoundError, match=r"qb-norm needs the texts that .* was trained on"):
        retrieve.run(retrieve.RetrieveSpec(home=home, scoring="qb-norm", device="cpu"))
