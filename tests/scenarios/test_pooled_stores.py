"""The baseline of a pair such as CLIP is made from its pooled stores."""

import json

import numpy as np
import pytest
import torch
import transformers

from lightalign.featcache.errors import SpecError
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.sources.opening import open_source
from lightalign.featcache.store import catalog
from lightalign.featcache.types import Modality
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.evaluation.retrieve_spec import RetrieveSpec
from lightalign.pipelines.exporting import export
from lightalign.pipelines.exporting.export_spec import ExportSpec
from lightalign.pipelines.extraction import extract
from lightalign.pipelines.extraction.spec import ExtractSpec
from lightalign.pipelines.loaded_run import load
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ..featcache.conftest import PROCESSOR, randomise_norms, write_tokenizer

SCENES = {"train": 6, "val": 4, "test": 5, "size": 48}
CARDS = {Modality.IMAGE: "clip-vit-b32", Modality.TEXT: "clip-text-b32"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a home with the pooled stores of a CLIP of one layer, and the directory of that."""
    home = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    layer = {"num_hidden_layers": 1, "intermediate_size": 32, "projection_dim": 512}
    vision = {**layer, "hidden_size": 768, "num_attention_heads": 2, "patch_size": 32}
    text = {**layer, "hidden_size": 512, "num_attention_heads": 2, "vocab_size": 16}
    text |= {"bos_token_id": 11, "eos_token_id": 12, "pad_token_id": 13}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=512)
    model = transformers.CLIPModel(config).eval()
    randomise_norms(model)
    folder = home / "clip"
    model.save_pretrained(folder)
    write_tokenizer(folder)
    processor = {**PROCESSOR, "size": {"height": 224, "width": 224}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    for card in CARDS.values():
        extract.run(
            ExtractSpec(
                encoders=(card,), data="shapes", home=home, weights=folder, source=SCENES,
                features=("pooled",), dtype="float32", precision="float32", batch_size=4,
            )
        )  # fmt: skip
    return home, folder, model


def stored(home, modality, split="test"):
    (entry,) = [
        entry
        for entry in catalog.list_stores(home)
        if (entry.description.split, entry.description.modality) == (split, modality.value)
    ]
    assert entry.description.kind == "pooled"
    reader = FeatureReader(entry.folder)
    features = reader.gather(np.arange(len(reader)))
    assert features.lengths.tolist() == [1] * len(reader)
    return features


@pytest.mark.slow
def test_pooled_stores_of_a_pair_are_the_librarys_embeddings_and_logits(home):
    home, folder, model = home
    source = open_source("shapes", home=home, options=SCENES)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    images = [item.read_bytes() for item in source.items("test", Modality.IMAGE)]
    texts = [item.text for item in source.items("test", Modality.TEXT)]
    from lightalign.featcache.modalities.image import decode_image

    pictures = [decode_image(data, item_id="i") for data in images]
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=77, return_tensors="pt")
    with torch.no_grad():
        output = model(
            pixel_values=processor(pictures, return_tensors="pt")["pixel_values"],
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
        )
    units = []
    for modality, expected in zip(CARDS, (output.image_embeds, output.text_embeds), strict=True):
        values = torch.from_numpy(stored(home, modality).values)
        units.append(torch.nn.functional.normalize(values, dim=1))
        torch.testing.assert_close(units[-1], expected, rtol=0, atol=1e-5)
    logits = model.logit_scale.exp() * units[0] @ units[1].T
    torch.testing.assert_close(logits, output.logits_per_image, rtol=0, atol=1e-4)


def test_the_baseline_of_the_pair_is_a_run_like_any_other(home):
    """Retrieval by the run is retrieval by the cosines of the stored embeddings themselves."""
    home, _, _ = home
    spec = TrainSpec(home=home, preset="as-is", data="shapes", source=SCENES, device="cpu")
    trained = train.run(spec)
    report = retrieve.run(
        RetrieveSpec(home=home, run=str(trained.folder), split="test", device="cpu")
    ).report
    units = []
    for modality in CARDS:
        values = stored(home, modality).values.astype(np.float64)
        units.append(values / np.linalg.norm(values, axis=1, keepdims=True))
    cosines = units[0] @ units[1].T
    own = np.arange(cosines.shape[1]) // 5 == np.arange(len(cosines))[:, None]  # five a scene
    best = np.where(own, cosines, -2).max(axis=1, keepdims=True)
    ahead = (~own & (cosines >= best - 1e-6)).sum(axis=1)  # ties count against it
    for k in (1, 5):
        recall = report["metrics"]["image_to_text"]["recall"][str(k)]
        assert recall["value"] == pytest.approx(100 * (ahead < k).mean())


def test_the_run_embeds_new_items_as_the_pair_does(home):
    home, folder, _ = home
    run = sorted((home / "runs").iterdir())[-1].name
    bundle = load(run, home=home, weights=dict.fromkeys(CARDS.values(), folder), device="cpu")
    source = open_source("shapes", home=home, options=SCENES)
    for modality, embed in zip(CARDS, (bundle.embed_images, bundle.embed_texts), strict=True):
        items = source.items("test", modality)
        contents = [item.text or item.read_bytes() for item in items]
        values = stored(home, modality).values
        expected = values / np.linalg.norm(values, axis=1, keepdims=True)
        np.testing.assert_allclose(embed(contents), expected, atol=1e-5)


@pytest.mark.slow
def test_the_run_is_exported_with_its_encoders(home, tmp_path):
    """The export is compared with the run before it is written."""
    home, folder, _ = home
    weights = dict.fromkeys(CARDS.values(), folder)
    spec = ExportSpec(home=home, run=None, to="onnx", output=tmp_path / "onnx", weights=weights)
    export.run(spec)
    written = {path.name for path in (tmp_path / "onnx").iterdir()}
    assert {"image.onnx", "text.onnx", "tokenizer.json"} <= written


def test_as_is_refuses_sides_of_other_widths(home):
    home, _, _ = home
    spec = TrainSpec(
        home=home, preset="as-is", data="shapes", source=SCENES, device="cpu",
        overrides=("towers.both.project.out=64",),
    )  # fmt: skip
    with pytest.raises(SpecError, match=r"found 512 and 512, asked for 64; take features 'pooled'"):
        train.run(spec)
