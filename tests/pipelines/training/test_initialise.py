"""What our own default takes from the training rows before its first step."""

import numpy as np
import pytest
import torch

from lightalign.adapters.checkpoint import load_adapter
from lightalign.adapters.solver import Moments, build_solver
from lightalign.featcache.errors import SpecError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import IMAGE_TEXT, Modality
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.inputs.image_text import PairedStores
from lightalign.pipelines.inputs.store_selection import newest_pair
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training.options import resolve_preset

from ...helpers import both_sides, slow
from .test_train import quick_train

BASE = (
    *("train.epochs=4", "train.batch_size=8", "train.validation=none"),
    *("towers.image.project.out=12", "towers.text.project.out=12", "towers.text.project.hidden=8"),
)
OUT = tuple(f"towers.{side}.project.out=4" for side in ("image", "text"))
BY_KERNEL = (
    "start.part=kernel-cca",
    *(f"towers.{side}.project.anchors=30" for side in ("image", "text")),
)
NO_SOLVED = (
    *("towers.image.project.solved=0.0", "towers.text.project.solved=0.0"),
    *("objective.parts=3", "objective.contrasted=3"),
)


def summaries(values: np.ndarray, names) -> np.ndarray:
    """Return summaries of a row's tokens in float64, each of length sqrt(width)."""
    mean = values.mean(axis=0)
    known = {
        "mean": mean,
        "max": values.max(axis=0),
        "min": values.min(axis=0),
        "cls": values[0],
        "deviation": np.sqrt(((values - mean) ** 2).mean(axis=0) + 1e-6),
    }
    found = [known[name] for name in names]
    return np.concatenate([one / np.linalg.norm(one) * np.sqrt(len(one)) for one in found])


def centred(rows: np.ndarray, over: np.ndarray, blocks: int) -> np.ndarray:
    variances = over.var(axis=0).reshape(blocks, -1).mean(axis=1)
    spread = np.repeat(np.sqrt(variances), rows.shape[1] // blocks)
    return (rows - over.mean(axis=0)) / spread


def test_the_default_centres_and_solves_as_float64_does(home):
    trained = quick_train(home, preset=None, overrides=BASE)
    spec = run_folder.read_spec(trained.folder)
    assert spec["preset"] == "lightalign/base"
    stores = PairedStores(newest_pair(home, both_sides(split="train")), home=home)
    adapter, _, table = load_adapter(trained.folder)
    inputs = []
    for reader, modality in ((stores.first, Modality.IMAGE), (stores.second, Modality.TEXT)):
        names = table["towers"][modality.value]["pool"]["summaries"]
        features = reader.gather(range(len(reader)))
        rows = np.stack(
            [summaries(features.row(i).astype(np.float64), names) for i in range(len(reader))]
        )
        inputs.append(centred(rows, rows, len(names)))
        step = adapter.steps[f"{modality.value}/centre"]
        np.testing.assert_allclose(step.mean.numpy(), rows.mean(axis=0), atol=1e-5)
    pairs = [(i, t) for i, own in stores.texts_of.items() for t in own]
    moments = Moments(inputs[0].shape[1], inputs[1].shape[1])
    together = np.zeros((len(inputs[0]), len(inputs[1])), dtype=bool)
    together[tuple(zip(*pairs, strict=True))] = True
    moments.add(*inputs, together)
    expected = build_solver(spec["start"]).solve(moments, 12)
    turns = []
    for modality, found in zip(IMAGE_TEXT, expected, strict=True):
        solved = adapter.steps[f"{modality.value}/project"].solved.weight.numpy()
        sizes = np.linalg.norm(found.weight, axis=1)
        alike = (solved * found.weight).sum(axis=1) / np.linalg.norm(solved, axis=1) / sizes
        np.testing.assert_allclose(np.abs(alike), 1, atol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(solved, axis=1), sizes, rtol=1e-3)
        turns.append(np.sign(alike))
    np.testing.assert_array_equal(*turns)


def test_a_solved_head_stays_as_it_is_while_others_are_trained(home):
    short, long = (
        load_adapter(quick_train(home, preset=None, overrides=(*BASE, f"train.epochs={n}")).folder)[
            0
        ]
        for n in (1, 3)
    )
    slots = [one.steps["image/project"] for one in (short, long)]
    assert torch.equal(slots[0].solved.weight, slots[1].solved.weight)
    assert not torch.equal(slots[0].heads[0][1].weight, slots[1].heads[0][1].weight)


def test_narrow_features_fill_a_part_of_the_solved_head(home):
    """Features of 16 have 48 and 80 in their summaries, and no more than 48 directions."""
    wide = ("towers.image.project.out=50", "towers.text.project.out=50")
    trained = quick_train(home, preset=None, overrides=(*BASE, *wide))
    adapter, _, _ = load_adapter(trained.folder)
    solved = adapter.steps["image/project"].solved.weight
    assert (solved[48:] == 0).all()
    assert (solved[:10].norm(dim=1) > 0).all()
    found = retrieve.run(retrieve.RetrieveSpec(home=home, split="test", k=5, device="cpu")).report
    assert found["metrics"]["text_to_image"]["recall"]["5"]["value"] > 0


def test_a_solved_head_by_a_kernel_is_kernel_cca(home):
    """The preset that is solved for by itself, on the same summaries, has the same maps."""
    same = (
        *("towers.text.pool.summaries=['mean','max','deviation']", "towers.text.centre.blocks=3"),
        *BY_KERNEL,
    )
    trained = quick_train(home, preset=None, overrides=(*BASE[:3], *BASE[5:], *OUT, *same))
    alone = quick_train(
        home,
        preset="kernel-cca",
        overrides=("towers.both.project.out=4", "towers.both.project.anchors=30", BASE[2]),
    )
    found, expected = (load_adapter(run.folder)[0] for run in (trained, alone))
    for side in IMAGE_TEXT:
        slots = [adapter.steps[f"{side.value}/project"] for adapter in (found, expected)]
        torch.testing.assert_close(slots[0].solved.anchors, slots[1].anchors)
        torch.testing.assert_close(
            slots[0].solved.linear.weight, slots[1].linear.weight, rtol=1e-3, atol=1e-5
        )


def test_anchors_are_compared_along_their_principal_directions(home):
    """All directions there are give the values of no directions; NumPy has the same ones."""
    sides = ("image", "text")
    kernels = []
    for features in (0, 9):
        cut = (f"towers.{side}.project.features={features}" for side in sides)
        run = quick_train(home, preset=None, overrides=(*BASE, *BY_KERNEL, *cut))
        kernels.append([load_adapter(run.folder)[0].steps[f"{s}/project"].solved for s in sides])
    for whole, few in zip(*kernels, strict=True):
        anchors = whole.anchors[whole.anchors.any(dim=1)].double().numpy()
        directions = np.linalg.svd(anchors, full_matrices=False)[2][:9]
        alike = np.abs((directions * few.directions.numpy()).sum(axis=1))
        np.testing.assert_allclose(alike, 1, atol=1e-4)
        np.testing.assert_allclose(
            np.abs(few.anchors[: len(anchors)].numpy()),
            np.abs(anchors @ directions.T),
            atol=1e-3,
        )


def test_the_default_aligns_two_text_encoders(home):
    both = {"text_encoder": "toy-text", "second_text_encoder": "toy-text"}
    trained = quick_train(home, preset=None, overrides=BASE[:3], **both)
    towers = run_folder.read_spec(trained.folder)["towers"]
    assert set(towers) == {"first_text", "second_text"}
    adapter, _, _ = load_adapter(trained.folder)
    for side in towers:
        assert adapter.steps[f"{side}/centre"].mean.norm() > 0
        assert adapter.steps[f"{side}/project"].solved.weight[0].norm() > 0


@pytest.mark.parametrize(
    "overrides",
    [
        ("towers.image.project.heads=4", "towers.text.project.heads=4"),
        ("objective.contrasted=4",),
        ("objective.parts=3", "objective.contrasted=3"),
    ],
)
def test_parts_other_than_the_heads_are_refused(home, overrides):
    with pytest.raises(SpecError, match=r"parts and contrasted must be \d and \d, the heads"):
        quick_train(home, preset=None, overrides=(*BASE, *overrides))


@pytest.mark.parametrize("part", ["siglip", *slow("distil")])
def test_another_objective_brings_its_own_options(home, part):
    trained = quick_train(home, preset=None, overrides=(*BASE, f"objective.part={part}"))
    assert run_folder.read_spec(trained.folder)["objective"] == {"part": part}
    assert np.isfinite(trained.report["best"]["loss"])


def test_what_is_centred_before_a_pool_is_refused(home):
    towers = "towers.both={c={part='centre',per_modality=true},pool={part='mean-pool'}}"
    with pytest.raises(SpecError, match="'image/c' reads several tokens a row"):
        quick_train(home, preset="linear", overrides=(*BASE[:3], towers))


def test_heads_are_not_left_random_by_a_training_in_closed_form(home):
    heads = "towers.both.project={part='heads',solved=1.0,per_modality=true}"
    with pytest.raises(SpecError, match="heads would stay random"):
        quick_train(home, preset="cca", overrides=(heads,))
    with pytest.raises(SpecError, match=r"without a first step that \[start\] precedes"):
        quick_train(home, preset="cca", overrides=("start={part='cca'}",))


def test_features_are_centred_before_a_closed_form_too(home):
    slots = "towers.both.centre={part='centre',per_modality=true}"
    project = "towers.both.project={part='linear',out=4,per_modality=true}"
    pool = "towers.both={pool={part='mean-pool',per_modality=true}}"
    trained = quick_train(home, preset="cca", overrides=(pool, slots, project))
    adapter, _, _ = load_adapter(trained.folder)
    assert adapter.steps["image/centre"].mean.norm() > 0


def test_half_precision_does_not_reach_what_is_centred(home):
    """Features far from zero: rounding them to eight bits would move what is left by a tenth."""
    adapter, _, _ = load_adapter(quick_train(home, preset=None, overrides=BASE).folder)
    values = 20 + torch.randn(4, 3, 16, generator=torch.Generator().manual_seed(0))
    tokens = Tokens(values, torch.ones(4, 3, dtype=torch.bool))
    exact = adapter.features_before(tokens, Modality.IMAGE, "image/project")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = adapter.features_before(tokens, Modality.IMAGE, "image/project")
    torch.testing.assert_close(low, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        (None, ("start={part='asif'}",), "needs a linear solver such as cca"),
        (None, NO_SOLVED, "solved = 1.0, say"),
        (None, BY_KERNEL[:1], "and only there: name anchors = 2048, say, or another method"),
        (None, BY_KERNEL[1:], "and only there: name anchors = 2048, say, or another method"),
        ("linear", ("start={part='cca'}",), "slot 'project', a linear step"),
        (
            "linear",
            ("towers.both.project={part='heads',solved=1.0,per_modality=true}",),
            r"has a solved head, and there is no \[start\]",
        ),
        (None, ("start={part='csa'}",), "a weighted-unit step at the end"),
    ],
)
def test_a_start_that_does_not_fit_the_towers_is_refused(home, preset, overrides, message):
    with pytest.raises(SpecError, match=message):
        quick_train(home, preset=preset, overrides=(*BASE[:3], *overrides))


@pytest.mark.parametrize(
    ("preset", "fusion", "expected"),
    [
        (None, None, "heads"),
        (None, "add", "add-fusion"),
        ("lightcrl/general", "add", "add-fusion"),
    ],
)
def test_the_preset_that_is_meant_has_a_slot_for_the_fusion(preset, fusion, expected):
    towers = resolve_preset(preset, fusion, ())[0]["towers"]
    parts = [entry["part"] for tower in towers.values() for entry in tower.values()]
    assert expected in parts
