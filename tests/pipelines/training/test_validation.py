"""The mean loss of a validation, by hand, and what is held out."""

import numpy as np
import pytest
import torch

from lightalign.adapters.objectives.clip import Clip
from lightalign.pipelines.metrics.ranks import Relevance
from lightalign.pipelines.ranking.embeddings import PairedEmbeddings
from lightalign.pipelines.training.validation import mean_loss, split_rows

CPU = torch.device("cpu")


def test_the_validation_loss_is_that_of_batches_in_order():
    """Three images of 2, 1 and 2 texts, two a batch: an image of its own has no wrong text."""
    random = np.random.default_rng(0)

    def unit(rows):
        values = random.standard_normal((rows, 4)).astype(np.float32)
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    images, texts = unit(3), unit(5)
    own = [[0, 3], [1], [2, 4]]
    owner = {text: image for image, some in enumerate(own) for text in some}
    embeddings = PairedEmbeddings(
        first=images,
        second=texts,
        first_ids=("a", "b", "c"),
        second_ids=tuple("01234"),
        seconds_of_first=Relevance.of(own),
        firsts_of_second=Relevance.of([[owner[text]] for text in range(5)]),
    )
    objective = Clip(scale_init=2.0)

    def by_hand(some_images, some_texts):
        logits = 2.0 * images[some_images].astype(np.float64) @ texts[some_texts].T
        right = np.array([[owner[t] == i for t in some_texts] for i in some_images])
        rows = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        columns = logits - np.log(np.exp(logits).sum(axis=0, keepdims=True))
        first = -np.mean([rows[i][right[i]].mean() for i in range(len(right))])
        second = -np.mean([columns[:, j][right[:, j]].mean() for j in range(right.shape[1])])
        return (first + second) / 2

    expected = (by_hand([0, 1], [0, 1, 3]) + by_hand([2], [2, 4])) / 2
    found = mean_loss(objective, embeddings, batch_size=2, device=CPU)
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_loss_of_pairs_is_the_mean_over_pairs_of_shuffled_batches():
    """Three images, five texts, batches of two: by hand over the drawn order."""
    random = np.random.default_rng(1)
    images, texts = (random.normal(size=(n, 4)).astype(np.float32) for n in (3, 5))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    of_image = [[0, 1], [2], [3, 4]]
    embeddings = PairedEmbeddings(
        first=images,
        second=texts,
        first_ids=("a", "b", "c"),
        second_ids=tuple("vwxyz"),
        seconds_of_first=Relevance.of(of_image),
        firsts_of_second=Relevance.of([[0], [0], [1], [2], [2]]),
    )
    pairs = [(image, text) for image, own in enumerate(of_image) for text in own]
    order = np.random.default_rng(0).permutation(5)
    total = 0.0
    for start in (0, 2, 4):
        chosen = [pairs[place] for place in order[start : start + 2]]
        logits = 3.0 * images[[i for i, _ in chosen]] @ texts[[t for _, t in chosen]].T
        shares = [
            one - np.log(np.exp(one).sum(axis=1, keepdims=True)) for one in (logits, logits.T)
        ]
        total -= sum(np.trace(one) for one in shares) / 2
    objective = Clip(scale_init=3.0, learnable=False)
    loss = mean_loss(objective, embeddings, batch_size=2, device=CPU, same_image="negative")
    assert loss == pytest.approx(total / 5, rel=1e-5)


@pytest.mark.parametrize(("share", "held"), [(0.0, 0), (0.01, 1), (0.25, 2), (0.3, 3)])
def test_a_share_of_eight_images_is_held_out_rounded_up(share, held):
    trained, held_out = split_rows(np.arange(10, 18), share, seed=0)
    assert len(held_out) == held
    assert sorted([*trained.tolist(), *held_out.tolist()]) == list(range(10, 18))
    assert (np.diff(trained) > 0).all()
