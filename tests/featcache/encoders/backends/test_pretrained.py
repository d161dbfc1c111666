"""The weights that packages carry are the published models; needs real photos and sentences."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from scipy.stats import spearmanr

from lightalign.featcache.encoders.card import read_card
from lightalign.featcache.encoders.loading import build_encoder, open_encoder
from lightalign.featcache.encoders.weights import find_weights
from lightalign.featcache.types import Item

DOGS = range(151, 269)  # the dog breeds of ImageNet-1k


def test_lite0_tensors_are_the_packages_in_timms_order():
    """An independent loading: the two files side by side, one tensor at a time."""
    path = find_weights(read_card("efficientnet-lite0")).files
    values = list(torch.load(path, weights_only=True).values())
    model = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    with torch.no_grad():
        for target, value in zip(model.state_dict().values(), values, strict=True):
            target.copy_(value)
    model.eval()
    encoder = open_encoder("efficientnet-lite0")
    image = torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        maps = model.forward_features(image[None])
    expected = maps.flatten(2).transpose(1, 2)
    values = encoder.encode([image]).values
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-4)
    assert values.std() > 0.1


@pytest.mark.slow
def test_lite0_with_its_classifier_tells_dogs_from_other_photos(test_data: Path):
    """Guessing would call 118 of 1,000 photos dogs, whatever is on them."""
    encoder = open_encoder("efficientnet-lite0")
    weights = torch.load(find_weights(read_card("efficientnet-lite0")).files, weights_only=True)
    weight, bias = list(weights.values())[-2:]
    with (test_data / "flickr8k" / "captions.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    mentions = [sum("dog" in caption.lower() for caption in row["captions"]) for row in rows]
    share = {}
    for count in (5, 0):  # all five captions speak of a dog, or none
        chosen = [row for row, found in zip(rows, mentions, strict=True) if found == count][:24]
        items = [
            Item(id=row["image"], path=test_data / "flickr8k" / row["image"]) for row in chosen
        ]
        pooled = encoder.encode([encoder.prepare(item) for item in items]).values.mean(dim=1)
        best = (pooled @ weight.T + bias).argmax(dim=1)
        share[count] = sum(index in DOGS for index in best.tolist()) / len(items)
    assert share[5] > 0.7
    assert share[0] < 0.1


@pytest.mark.slow
def test_minilm_ranks_sentence_pairs_as_published(test_data: Path):
    """STS-B dev gives Spearman 86.7 on all 1,500 pairs; every fifth of them comes close."""
    with (test_data / "text" / "stsb_dev.tsv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1::5]
    encoder = open_encoder("minilm")
    folder = find_weights(read_card("minilm")).files
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    ours, plain = [], []
    for column in (3, 4):  # genre, file, score, sentence, sentence
        texts = [row[column] for row in rows]
        tokens = encoder.encode(
            [encoder.prepare(Item(id=str(i), text=text)) for i, text in enumerate(texts)]
        )
        values, mask = tokens.values.double().numpy(), tokens.mask.numpy()
        pooled = [row[real].mean(axis=0) for row, real in zip(values, mask, strict=True)]
        ours.append(np.stack(pooled))
        with torch.no_grad():
            batch = tokenizer(texts[:8], padding=True, truncation=True, return_tensors="pt")
            hidden = model(**batch).last_hidden_state
        weight = batch["attention_mask"].unsqueeze(-1)
        plain.append(((hidden * weight).sum(dim=1) / weight.sum(dim=1)).numpy())
    for mine, theirs in zip(ours, plain, strict=True):
        np.testing.assert_allclose(mine[:8], theirs, atol=1e-5)
    first, second = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in ours)
    scores = [float(row[2]) for row in rows]
    assert spearmanr((first * second).sum(axis=1), scores).statistic == pytest.approx(
        0.867, abs=0.04
    )


@pytest.mark.slow
def test_a_dinov2_directory_is_read_at_224_pixels(test_data: Path):
    folder = test_data / "models" / "vit-s14-imgfocus"
    encoder = build_encoder(read_card("dinov2-vits14"), weights=folder)
    photo = next((test_data / "flickr8k" / "images").rglob("*.jpg"))
    prepared = encoder.prepare(Item(id="i", path=photo))
    assert prepared.shape == (3, 224, 224)
    assert encoder.encode([prepared]).values.shape == (1, 257, 384)
    assert json.dumps(encoder.identity())
