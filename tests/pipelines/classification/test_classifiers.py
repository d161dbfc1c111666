"""Classifiers against scikit-learn by hand, and what their options are chosen by."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier

from lightalign.adapters.class_head import ClassHead, load_head, save_head
from lightalign.featcache.errors import (
    DivergedError,
    RunNotFoundError,
    SpecError,
    StoreCorruptError,
)
from lightalign.pipelines.classification.classifiers import (
    Examples,
    LogisticClassifier,
    NeighbourClassifier,
    choose,
    draw_shots,
    scaling,
)
from lightalign.pipelines.classification.sgd_head import score_rows, sgd_heads
from lightalign.pipelines.classification.sgd_options import SgdOptions
from lightalign.pipelines.inputs.labelled_images import hold_out

from ..class_homes import NAMES, blobs

CPU = torch.device("cpu")
GRID = (1e-3, 1e-2, 1e-1, 1.0)


def examples(count=90, *, seed=0, spread=2.0, num_classes=3):
    features, labels = blobs(count, seed=seed, spread=spread, tokens=1, num_classes=num_classes)
    return Examples(features[:, 0], labels, num_classes)


def test_scaled_features_have_no_mean_and_a_variance_of_one_in_the_mean():
    features = examples().features
    mean, scale = scaling(features)
    scaled = (features.astype(np.float64) - mean) * scale
    assert scaled.mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert scaled.var(axis=0).mean() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_lbfgs_is_scikit_learn_by_hand(num_classes):
    """The same search, refit and scores, written out with scikit-learn alone."""
    train, test = examples(num_classes=num_classes), examples(60, seed=1, num_classes=num_classes)
    classifier = LogisticClassifier(GRID)
    choice = choose(classifier, train, share=0.2, seed=3)

    def fitted(c, features, labels):
        mean = features.mean(axis=0)
        scale = np.sqrt(((features - mean) ** 2).mean())
        model = LogisticRegression(C=c, max_iter=1000).fit((features - mean) / scale, labels)
        return lambda others: model.predict_log_proba((others - mean) / scale)

    kept, held = hold_out(train.labels, share=0.2, seed=3)
    tops = []
    losses = []
    for c in GRID:
        guess = fitted(c, train.features[kept], train.labels[kept])(train.features[held])
        tops.append(100 * (guess.argmax(axis=1) == train.labels[held]).mean())
        losses.append(log_loss(train.labels[held], np.exp(guess)))
    assert choice.tried == pytest.approx(dict(zip(GRID, tops, strict=True)))
    best = max(zip(tops, (-loss for loss in losses), GRID, strict=True))
    assert choice.value == best[2]
    expected = fitted(choice.value, train.features, train.labels)(test.features)
    scores = classifier.scores(train, test.features, choice.value).astype(np.float64)
    found = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    assert found == pytest.approx(expected, abs=1e-3)
    assert classifier.notes == {}


def test_a_class_without_training_images_is_out_of_question():
    train = examples()
    two = train.take(np.flatnonzero(train.labels != 1))
    for classifier, value in ((LogisticClassifier(GRID), 1.0), (NeighbourClassifier([1]), 1.0)):
        scores = classifier.scores(two, train.features, value)
        assert np.isneginf(scores[:, 1]).all()


def test_a_solver_that_stops_early_is_noted_with_its_values():
    classifier = LogisticClassifier(GRID, most_steps=1)
    for value in (1.0, 0.1):
        classifier.scores(examples(), examples().features, value)
    ((note, values),) = classifier.notes.items()
    assert "stopped after 1 steps" in note
    assert values == [1.0, 0.1]


def test_a_solver_that_fails_for_another_reason_is_noted_with_what_it_says(monkeypatch):
    fit = LogisticRegression.fit

    def failing(self, features, labels):
        message = "lbfgs failed to converge (status=2):\nABNORMAL_TERMINATION_IN_LNSRCH"
        warnings.warn(message, ConvergenceWarning, stacklevel=1)
        return fit(self, features, labels)

    monkeypatch.setattr(LogisticRegression, "fit", failing)
    classifier = LogisticClassifier(GRID)
    classifier.scores(examples(), examples().features, 1.0)
    (note,) = classifier.notes
    assert "(status=2): ABNORMAL_TERMINATION_IN_LNSRCH" in note


@pytest.mark.parametrize("neighbours", [1, 4, 7])
def test_knn_is_scikit_learn(neighbours):
    train, test = examples(), examples(60, seed=1)
    found = NeighbourClassifier([neighbours]).scores(train, test.features, float(neighbours))
    model = KNeighborsClassifier(neighbours, metric="cosine", algorithm="brute")
    model.fit(train.features, train.labels)
    assert np.array_equal(found.argmax(axis=1), model.predict(test.features))
    shares = model.predict_proba(test.features) * neighbours
    assert np.ceil(np.maximum(found, 0)) == pytest.approx(shares)


def test_classes_without_a_vote_follow_by_their_nearest_image():
    """Images at 0, 60, 90 and 180 degrees, of classes 0, 2, 1 and 2; one is asked for at 40.

    Its only neighbour is that at 60; then come class 0 (40 degrees away) and class 1 (50), and of
    class 3 there is no image.
    """
    angles = np.deg2rad([0, 60, 90, 180])
    known = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    asked = np.array([[np.cos(np.deg2rad(40)), np.sin(np.deg2rad(40))]], dtype=np.float32)
    train = Examples(known, np.array([0, 2, 1, 2]), 4)
    (scores,) = NeighbourClassifier([1]).scores(train, asked, 1.0)
    assert np.argsort(-scores)[:3].tolist() == [2, 0, 1]
    cosines = np.cos(np.deg2rad([40, 50]))
    assert scores[[0, 1]] == pytest.approx(cosines - 2)
    assert np.isneginf(scores[3])


def test_options_are_chosen_by_training_images_and_not_by_those_that_are_evaluated():
    """A third of the training labels is wrong, so that many neighbours are better on held-out ones.

    The evaluated images are the training images themselves, with the same wrong labels: one
    neighbour would be right about all of them, and must not be chosen for it.
    """
    train = examples(240, spread=0.3)
    wrong = np.random.default_rng(0).random(240) < 0.33
    noisy = Examples(train.features, np.where(wrong, (train.labels + 1) % 3, train.labels), 3)
    classifier = NeighbourClassifier([1, 20])
    one = classifier.scores(noisy, noisy.features, 1.0).argmax(axis=1)
    assert (one == noisy.labels).all()
    assert choose(classifier, noisy, share=0.2, seed=0).value == 20


def test_a_plateau_of_the_largest_class_does_not_end_the_search():
    """Of 1,000 images 950 are of one class: who always names it is right about 95 %.

    The classes are a unit apart along one of 20 features of deviation 0.2, five times that, so
    that a line tells them apart; all that the strongest penalties allow is to name the larger.
    """
    random = np.random.default_rng(0)
    labels = (np.arange(1000) % 20 == 0).astype(np.int64)
    features = 0.2 * random.standard_normal((1000, 20))
    features[:, 0] += labels
    train = Examples(features.astype(np.float32), labels, 2)
    grid = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    choice = choose(LogisticClassifier(grid), train, share=0.2, seed=0)
    assert [choice.tried[value] for value in grid[:3]] == [95.0] * 3
    assert choice.value >= 0.1
    assert choice.tried[choice.value] > 98


def test_of_few_shots_that_are_all_right_the_surest_value_wins():
    """Eight images of each class far apart, two of them held out: every C is right about all."""
    easy = examples(24, spread=0.01)
    choice = choose(LogisticClassifier(GRID), easy, share=0.25, seed=0)
    assert (choice.num_held, choice.tried) == (6, dict.fromkeys(GRID, 100.0))
    assert choice.value == 1.0  # the weaker the penalty, the longer the logits


def test_among_votes_as_often_right_the_fewest_neighbours_win():
    choice = choose(NeighbourClassifier([1, 3, 5]), examples(spread=0.01), share=0.2, seed=0)
    assert choice.tried == {1: 100.0, 3: 100.0, 5: 100.0}
    assert choice.value == 1


def test_single_shots_take_the_default():
    one = examples(3)
    choice = choose(LogisticClassifier(GRID), one, share=0.25, seed=0)
    assert (choice.value, choice.num_held) == (1e-1, 0)


def test_more_neighbours_than_images_are_not_tried():
    few = examples(6)
    assert set(choose(NeighbourClassifier([1, 3, 50]), few, share=0.5, seed=0).tried) <= {1, 3}
    with pytest.raises(SpecError, match="too few for neighbours"):
        choose(NeighbourClassifier([50]), few, share=0.5, seed=0)


def test_held_out_images_are_of_every_class_and_leave_one():
    labels = np.array([0] * 20 + [1] * 2 + [2])
    kept, held = hold_out(labels, share=0.1, seed=0)
    assert sorted([*kept, *held]) == list(range(23))
    assert labels[held].tolist() == [0, 0, 1]


def test_fewer_shots_are_among_more_and_every_class_has_as_many():
    labels = np.arange(60) % 3
    two = draw_shots(labels, NAMES, shots=2, seed=4)
    four = draw_shots(labels, NAMES, shots=4, seed=4)
    assert set(two) < set(four)
    assert np.bincount(labels[four]).tolist() == [4, 4, 4]
    assert set(two) != set(draw_shots(labels, NAMES, shots=2, seed=5))
    with pytest.raises(SpecError, match="class 'ash' has 20 training images, 21 shots"):
        draw_shots(labels, NAMES, shots=21, seed=0)


def test_plain_steps_reach_the_optimum_of_separable_classes():
    train = examples(60, spread=0.1)
    options = SgdOptions(epochs=12, every=5, learning_rate=0.1, hidden=4, batch_size=20)
    found = {}
    for epoch, loss, head in sgd_heads(train, options, seed=0, device=CPU):
        scores = score_rows(head, train.features, CPU)
        found[epoch] = (loss, (scores.argmax(axis=1) == train.labels).mean())
    assert list(found) == [5, 10, 12]
    assert found[12][1] == 1.0
    assert found[12][0] < 0.05  # of separable classes the loss goes to 0
    assert found[12][0] < found[5][0]


@pytest.mark.parametrize("scaled", [False, True])
def test_plain_steps_are_those_of_the_formula_in_float64(scaled):
    """One matrix, one batch of all rows, two steps with momentum, worked out by NumPy."""
    train = examples(12)
    rate = 0.5 if scaled else 0.02
    options = SgdOptions(
        epochs=2, every=1, hidden=0, learning_rate=rate, batch_size=12, scaled=scaled
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        start = torch.nn.Linear(6, 3)
    weight = start.weight.detach().double().numpy().copy()
    bias = start.bias.detach().double().numpy().copy()
    mean, scale = scaling(train.features) if scaled else (0.0, 1.0)
    rows = (train.features.astype(np.float64) - mean) * scale
    velocity = [0.0, 0.0]
    for _ in range(2):
        logits = np.exp(rows @ weight.T + bias)
        wrong = (logits / logits.sum(axis=1, keepdims=True) - np.eye(3)[train.labels]) / 12
        velocity = [0.9 * velocity[0] + wrong.T @ rows, 0.9 * velocity[1] + wrong.sum(axis=0)]
        weight, bias = weight - rate * velocity[0], bias - rate * velocity[1]
    *_, (_, _, head) = sgd_heads(train, options, seed=7, device=CPU)
    assert head.layers[0].weight.detach().numpy() == pytest.approx(weight, abs=1e-5)
    assert head.layers[0].bias.detach().numpy() == pytest.approx(bias, abs=1e-5)


def test_steps_that_are_too_long_stop_the_training():
    options = SgdOptions(epochs=3, learning_rate=1e30)
    with pytest.raises(DivergedError, match="lower the learning rate"):
        list(sgd_heads(examples(), options, seed=0, device=CPU))


@pytest.mark.parametrize("hidden", [0, 5])
def test_a_head_comes_back_from_its_file_with_the_names_of_its_classes(tmp_path, hidden):
    head = ClassHead(6, 3, hidden=hidden)
    head.set_scaling(torch.arange(6.0), 2.5)
    save_head(tmp_path / "head.safetensors", head, NAMES)
    again, names = load_head(tmp_path / "head.safetensors")
    rows = torch.randn(4, 6)
    assert names == NAMES
    assert torch.equal(again(rows), head(rows))


def test_a_damaged_head_is_refused(tmp_path):
    path = tmp_path / "head.safetensors"
    with pytest.raises(RunNotFoundError, match="fine-tune"):
        load_head(path)
    save_head(path, ClassHead(6, 3), NAMES)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StoreCorruptError, match="damaged"):
        load_head(path)
