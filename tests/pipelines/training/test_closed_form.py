"""Training-free presets go from the stores to a run that every other verb takes."""

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag, eigh

from lightalign.adapters.checkpoint import load_adapter
from lightalign.featcache.errors import SpecError
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.inputs.image_text import PairedStores
from lightalign.pipelines.inputs.store_selection import newest_pair
from lightalign.pipelines.runs.embed_stored import embed_pairs
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import both_sides, lightalign


def solve(home, preset, *overrides):
    return train.run(TrainSpec(home=home, preset=preset, overrides=overrides, device="cpu"))


def pooled(reader: FeatureReader) -> np.ndarray:
    features = reader.gather(range(len(reader)))
    return np.stack([features.row(i).astype(np.float64).mean(axis=0) for i in range(len(reader))])


@pytest.mark.parametrize("preset", ["cca", "csa", "procrustes"])
def test_a_run_is_solved_and_evaluated(home, preset):
    solved = solve(home, preset, "towers.both.project.out=8")
    stores = PairedStores(newest_pair(home, both_sides(split="train")), home=home)
    assert solved.report["best"]["pairs"] == 24 * 5
    assert solved.report["selected_by"] == "closed form"
    found = retrieve.run(retrieve.RetrieveSpec(home=home, split="test", k=5, device="cpu")).report
    assert found["metrics"]["text_to_image"]["recall"]["5"]["value"] > 0
    # the image map is centred: its mean over all pairs, five to an image, is zero
    adapter, _, _ = load_adapter(solved.folder)
    linear = adapter.steps["image/project"].linear
    with torch.no_grad():
        mapped = linear(torch.from_numpy(pooled(stores.first)).float())
    np.testing.assert_allclose(mapped.mean(dim=0), 0, atol=1e-3)


def test_ridge_predicts_texts_as_float64_does(home):
    stores = PairedStores(newest_pair(home, both_sides(split="train")), home=home)
    width = stores.second.description.width
    solved = solve(home, "ridge", f"towers.both.project.out={width}", "fit.alpha=2.0")
    images, texts = pooled(stores.first), pooled(stores.second)
    rows = [(i, t) for i, own in stores.texts_of.items() for t in own]
    x = images[[i for i, _ in rows]]
    y = texts[[t for _, t in rows]]
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    gram = (x - x_mean).T @ (x - x_mean) + 2.0 * np.eye(x.shape[1])
    weight = np.linalg.solve(gram, (x - x_mean).T @ (y - y_mean)).T
    adapter, _, _ = load_adapter(solved.folder)
    found = adapter.steps["image/project"].linear
    np.testing.assert_allclose(found.weight.detach().numpy(), weight, rtol=0, atol=2e-3)
    np.testing.assert_allclose(found.bias.detach().numpy(), -weight @ x_mean, rtol=0, atol=2e-3)


@pytest.mark.parametrize("top", [15, 500])
def test_asif_compares_as_float64_does(home, top):
    """All 120 pairs are anchors, so that it does not matter how they were drawn."""
    slot = "towers.both.project"
    solved = solve(home, "asif", f"{slot}.anchors=120", f"{slot}.top={top}", f"{slot}.power=6.0")
    assert (solved.report["best"]["pairs"], solved.report["num_parameters"]) == (120, 0)
    train_stores = PairedStores(newest_pair(home, both_sides(split="train")), home=home)
    test_stores = PairedStores(newest_pair(home, both_sides(split="test")), home=home)
    links = [(i, t) for i, own in train_stores.texts_of.items() for t in own]
    sides = []
    for column, name in enumerate(("first", "second")):
        anchors = pooled(getattr(train_stores, name))[[link[column] for link in links]]
        items = pooled(getattr(test_stores, name))
        anchors, items = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (anchors, items))
        cosines = np.maximum(items @ anchors.T, 0.0)
        kept = min(top, len(links))
        least = np.sort(cosines, axis=1)[:, -kept][:, None]
        powers = np.where(cosines >= least, cosines, 0.0) ** 6
        sides.append(powers / np.linalg.norm(powers, axis=1, keepdims=True))
    adapter, _, _ = load_adapter(solved.folder)
    found = embed_pairs(adapter, test_stores, device=torch.device("cpu"))
    np.testing.assert_allclose(found.first @ found.second.T, sides[0] @ sides[1].T, atol=2e-4)


def test_anchors_are_of_all_images_before_any_has_two(home):
    """Of 24 images with five texts each, 30 anchors have 24 images, six of them twice."""
    preset = ("asif", "towers.both.project.anchors=30")
    adapters = [load_adapter(solve(home, *preset).folder)[0] for _ in range(2)]
    anchors = [adapter.steps["image/project"].anchors for adapter in adapters]
    torch.testing.assert_close(anchors[0], anchors[1], rtol=0, atol=0)
    stores = PairedStores(newest_pair(home, both_sides(split="train")), home=home)
    images = torch.nn.functional.normalize(torch.from_numpy(pooled(stores.first)), dim=1)
    nearest = torch.cdist(anchors[0].double(), images).argmin(dim=1)
    assert sorted(nearest[:24].tolist()) == list(range(24))
    assert len(set(nearest[24:].tolist())) == 6


def canonical(x, y, ridges, out):
    """Return the directions of both sides that SciPy finds, times the roots of correlations.

    Generalised eigenvectors of [[0, C_xy], [C_yx, 0]] and of C_xx and C_yy with their ridges.
    """
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    degrees, width = len(x) - 1, x.shape[1]
    across = np.block(
        [
            [np.zeros((width, width)), x.T @ y / degrees],
            [y.T @ x / degrees, np.zeros((y.shape[1], y.shape[1]))],
        ]
    )
    within = block_diag(x.T @ x / degrees + ridges[0], y.T @ y / degrees + ridges[1])
    correlations, vectors = eigh(across, within)
    vectors = vectors[:, ::-1][:, :out] * np.sqrt(correlations[::-1][:out])
    return vectors[:width], vectors[width:]


def centred(train, test):
    """Return both as the step `centre` makes them of one block."""
    spread = np.sqrt(train.var(axis=0).mean())
    return [(values - train.mean(axis=0)) / spread for values in (train, test)]


def arc_cosine(x, anchors):
    lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(anchors, axis=1)[None, :]
    angles = np.arccos(np.clip(x @ anchors.T / lengths, -1, 1))
    return lengths * (np.sin(angles) + (np.pi - angles) * np.cos(angles)) / np.pi


MEANS = (
    "towers.both.pool={part='mean-pool',per_modality=true}",
    "towers.both.centre={part='centre',per_modality=true}",
)


@pytest.mark.parametrize("captions", ["each", "average"])
@pytest.mark.parametrize("preset", ["cca", "kernel-cca"])
def test_cca_compares_as_scipy_does(home, preset, captions):
    """Few items are all anchors: the dual problem of kernel CCA, solved by another way."""
    kernel = preset == "kernel-cca"
    solved = solve(
        home,
        preset,
        *("towers.both.project.out=4", "fit.regularisation=0.5", f"fit.captions={captions}"),
        *(MEANS if kernel else ()),
    )
    assert solved.report["best"]["pairs"] == (120 if captions == "each" else 24)
    train_stores, test_stores = (
        PairedStores(newest_pair(home, both_sides(split=split)), home=home)
        for split in ("train", "test")
    )
    pairs, ridges, items = [], [], []
    for name in ("first", "second"):
        train, test = (pooled(getattr(stores, name)) for stores in (train_stores, test_stores))
        gram = np.eye(train.shape[1])
        if kernel:
            train, test = centred(train, test)
            gram = arc_cosine(train, train)
            gram += 1e-8 * np.diag(gram).mean() * np.eye(len(gram))
            train, test = arc_cosine(train, train), arc_cosine(test, train)
        owners = [i for i, own in train_stores.texts_of.items() for _ in own]
        texts = [t for own in train_stores.texts_of.values() for t in own]
        rows = train[owners if name == "first" else texts]
        if captions == "average":
            rows = rows.reshape(24, 5, -1).mean(axis=1)
        scatter = np.cov(rows.T)
        ridges.append(0.5 * np.trace(np.linalg.solve(gram, scatter)) / len(gram) * gram)
        pairs.append(rows)
        items.append(test - rows.mean(axis=0))
    sides = [x @ w for x, w in zip(items, canonical(*pairs, ridges, 4), strict=True)]
    sides = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides]
    adapter, _, _ = load_adapter(solved.folder)
    embedded = embed_pairs(adapter, test_stores, device=torch.device("cpu"))
    np.testing.assert_allclose(embedded.first @ embedded.second.T, sides[0] @ sides[1].T, atol=2e-3)


def test_few_anchors_are_drawn_by_the_seed(home):
    sets = ("towers.both.project.out=4", "towers.both.project.anchors=30")

    def slots(seed):
        spec = TrainSpec(home=home, preset="kernel-cca", overrides=sets, device="cpu", seed=seed)
        adapter, _, _ = load_adapter(train.run(spec).folder)
        return [adapter.steps[f"{side}/project"] for side in ("image", "text")]

    image, text = slots(0)
    for slot, other in zip((image, text), slots(0), strict=True):
        torch.testing.assert_close(
            dict(slot.state_dict()), dict(other.state_dict()), rtol=0, atol=0
        )
    # 24 images are all there are, and 30 of 120 texts; what has no item stays out
    assert [int(slot.anchors.any(dim=1).sum()) for slot in (image, text)] == [24, 30]
    assert not image.linear.weight[:, 24:].any()
    assert not torch.equal(text.anchors, slots(1)[1].anchors)


def test_without_a_validation_split_some_images_are_held_out(home):
    solved = solve(home, "cca", "towers.both.project.out=4", "train.validation=0.25")
    assert solved.report["num_images"] == 18
    assert solved.report["best"]["pairs"] == 18 * 5
    assert 0 <= solved.report["best"]["validation"]["recall_sum"] <= 600


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "towers.both.project={part='mlp',out=4,hidden=4,per_modality=true}",
            "a linear step at the end",
        ),
        ("towers.both.project.bias=false", "needs a bias"),
        ("towers.both.after={part='norm'}", "the image tower ends in 'both/after'"),
        ("towers.both.project.out=4096", "directions at most"),
        ("fit={alpha=1.0}", "must name its part"),
        ("fit={part='kernel-cca'}", "a kernel-map step at the end of each tower"),
        ("fit={part='asif'}", "a relative step at the end .* ends in 'image/project', a Linear"),
    ],
)
def test_towers_that_cannot_be_solved_are_refused(home, override, message):
    with pytest.raises(SpecError, match=message):
        solve(home, "cca", override)


def test_more_anchors_than_pairs_are_refused(home):
    with pytest.raises(SpecError, match=r"121 anchors are asked for, and there are 120 .*anchors"):
        solve(home, "asif", "towers.both.project.anchors=121")


def test_the_command_says_what_it_solved(home):
    result = lightalign(
        "train-adapter", "--preset", "cca", "--set", "towers.both.project.out=8", home=home
    )
    assert result.returncode == 0, result.stderr
    assert "parameters from 120 pairs" in result.stdout


@pytest.mark.parametrize(
    ("preset", "part", "needed"),
    [("csa", "linear", "weighted-unit"), ("cca", "weighted-unit", "linear")],
)
def test_a_method_with_weights_needs_a_slot_for_them(home, preset, part, needed):
    slot = f"towers.both.project={{part='{part}',out=4,per_modality=true}}"
    with pytest.raises(SpecError, match=f"a {needed} step at the end"):
        solve(home, preset, slot)
