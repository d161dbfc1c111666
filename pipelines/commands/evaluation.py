"""The commands that measure: runs, and encoders before anything is trained."""

from typing import Annotated

import typer

from ...featcache.bounds import MOST_SEED
from ._common import (
    DEFAULT_HOME,
    AsJson,
    ClassData,
    CommandOutput,
    Device,
    EncoderWeights,
    Home,
    NoVerify,
    OtherData,
    Overrides,
    Quiet,
    RunName,
    TrainSplit,
    places_of_weights,
    split_commas,
    whole_numbers,
    within,
)


def retrieve(
    run: RunName = None,
    k: Annotated[
        int, typer.Option("--k", callback=within(1), help="Largest rank of the recall curve.")
    ] = 100,
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "test",
    data: OtherData = None,
    scoring: Annotated[
        str, typer.Option(help="cosine, or qb-norm or dual-softmax beside it.")
    ] = "cosine",
    bank: Annotated[
        int | None,
        typer.Option(
            callback=within(1), help="Training items of a side that qb-norm takes; 10,000 if none."
        ),
    ] = None,
    qb_rule: Annotated[
        str | None, typer.Option(help="Rule of qb-norm: static (if none) or dynamic, as published.")
    ] = None,
    qb_sharpness: Annotated[
        float | None,
        typer.Option(
            callback=within(0, 1000, is_above=True),
            help="Factor on cosines of qb-norm; 15 if none, published 20.",
        ),
    ] = None,
    index: Annotated[
        str,
        typer.Option(
            help="flat, which is exact; auto, ivf, hnsw, pq or a FAISS factory string: R@k alone."
        ),
    ] = "flat",
    memory: Annotated[
        str | None, typer.Option(help="What an index may take; half of the free if none.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            callback=within(2), help="Average over folds of images, too; 5 on COCO's 5k gives 1k."
        ),
    ] = None,
    same_text: Annotated[
        str,
        typer.Option(
            help="Texts that say the same: negative, positive (right for the images of all) or "
            "drop."
        ),
    ] = "negative",
    allow_leakage: Annotated[
        bool,
        typer.Option("--allow-leakage", help="Measure what took part in the training, too."),
    ] = False,
    no_verify: NoVerify = False,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure retrieval across the two sides of a run."""
    from ..evaluation.retrieve import run as run_retrieve
    from ..evaluation.retrieve_spec import BANK, RetrieveSpec
    from ..metrics.number import report_line
    from ..rendering.evaluations import retrieval_parts

    output = CommandOutput(as_json=as_json, quiet=quiet)
    spec = RetrieveSpec(
        home=home,
        run=run,
        data=data,
        split=split,
        k=k,
        scoring=scoring,
        same_text=same_text,
        folds=folds or 0,
        allow_leakage=allow_leakage,
        device=device,
        bank=BANK if bank is None else bank,
        qb_rule=qb_rule,
        qb_sharpness=qb_sharpness,
        index=index,
        memory=memory,
    )
    retrieved = run_retrieve(spec, output.progress)
    output.result(
        retrieved.report,
        *retrieval_parts(retrieved.report),
        report_line(retrieved.path, retrieved.report),
    )


def zero_shot(
    run: RunName = None,
    *,
    data: ClassData,
    split: Annotated[str | None, typer.Option(help="Split; test, or else val, if none.")] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(help="bare, single, ensemble or a TOML file; repeatable or with commas."),
    ] = None,
    weights: EncoderWeights = None,
    no_verify: NoVerify = False,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Classify images by the nearest text, without training on any class."""
    from ..classification.zero_shot import run as run_zero_shot
    from ..classification.zero_shot_spec import ZeroShotSpec
    from ..rendering.evaluations import zero_shot_parts

    output = CommandOutput(as_json=as_json, quiet=quiet)
    spec = ZeroShotSpec(
        home=home,
        data=data,
        run=run,
        split=split,
        prompts=tuple(split_commas(prompts)) or ("ensemble",),
        weights=places_of_weights(weights),
        device=device,
    )
    done = run_zero_shot(spec, output.progress)
    output.result(done.report, *zero_shot_parts(done))


def probe(
    run: RunName = None,
    *,
    data: ClassData,
    protocol: Annotated[str, typer.Option(help="lbfgs, sgd (LightCRL's table) or knn.")] = "lbfgs",
    features: Annotated[
        list[str] | None,
        typer.Option(help="embedding, encoder (without the adapter) or, if none, both."),
    ] = None,
    shots: Annotated[
        list[str] | None,
        typer.Option(help="Training images a class, such as 1,2,4,8,16; repeatable; all if none."),
    ] = None,
    seeds: Annotated[int, typer.Option(callback=within(1), help="How often shots are drawn.")] = 5,
    train_split: TrainSplit = "train",
    split: Annotated[
        str | None, typer.Option(help="Split to measure on; test, or else val, if none.")
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            callback=within(0, MOST_SEED), help="Seed of held-out images, shots and starts."
        ),
    ] = 0,
    overrides: Overrides = None,
    no_verify: NoVerify = False,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure how well simple classifiers read classes from frozen features."""
    from ...featcache.config import apply_overrides, build
    from ..classification.probe import run as run_probe
    from ..classification.probe_spec import ProbeOptions, ProbeSpec
    from ..metrics.number import report_line
    from ..rendering.evaluations import accuracy_parts

    output = CommandOutput(as_json=as_json, quiet=quiet)
    spec = ProbeSpec(
        home=home,
        data=data,
        run=run,
        protocol=protocol,
        features=tuple(split_commas(features)) or ("embedding", "encoder"),
        train_split=train_split,
        split=split,
        shots=tuple(whole_numbers("--shots", shots, example="1,2,4")),
        seeds=seeds,
        seed=seed,
        options=build(ProbeOptions, apply_overrides({}, overrides or []), where="probe"),
        device=device,
    )
    probed = run_probe(spec, output.progress)
    output.result(
        probed.report, *accuracy_parts(probed.report), report_line(probed.path, probed.report)
    )


def similarity(
    run: Annotated[
        str | None, typer.Argument(help="Run; the newest if none and no --encoder.")
    ] = None,
    *,
    data: Annotated[str, typer.Option(help="qqp, mrpc, stsb, sick or text-pair-table, or =PATH.")],
    encoder: Annotated[
        list[str] | None, typer.Option(help="Text encoder to compare as it is; repeatable.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to evaluate on; val, or else test, if none.")
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            callback=within(-1, 1), help="Cosine from which a pair is alike, beside a fitted one."
        ),
    ] = 0.9,
    no_verify: NoVerify = False,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare cosines of pairs of texts with people's judgement of them."""
    from ..metrics.number import report_line
    from ..rendering.evaluations import similarity_parts
    from ..similarity.similarity import run as run_similarity
    from ..similarity.similarity_spec import SimilaritySpec

    output = CommandOutput(as_json=as_json, quiet=quiet)
    spec = SimilaritySpec(
        home=home,
        data=data,
        run=run,
        encoders=tuple(dict.fromkeys(encoder or ())),
        split=split,
        threshold=threshold,
        device=device,
    )
    measured = run_similarity(spec, output.progress)
    output.result(
        measured.report,
        *similarity_parts(measured.report),
        report_line(measured.path, measured.report),
    )


def rank_encoders(
    data: Annotated[str | None, typer.Option(help="Dataset; the newest stores if none.")] = None,
    split: Annotated[str, typer.Option(help="Split whose features are compared.")] = "train",
    items: Annotated[
        int, typer.Option(callback=within(1), help="Most images that are drawn.")
    ] = 2000,
    neighbours: Annotated[
        int, typer.Option(callback=within(1), help="Neighbours that two encoders may share.")
    ] = 10,
    seed: Annotated[int, typer.Option(callback=within(0, MOST_SEED), help="Seed of the draw.")] = 0,
    no_verify: NoVerify = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Rank pairs of image and text encoders by how well they fit, before anything is trained."""
    from ..evaluation.rank_encoders import run as run_ranking
    from ..evaluation.rank_encoders_spec import RankSpec
    from ..metrics.number import report_line
    from ..rendering.evaluations import ranking_parts

    output = CommandOutput(as_json=as_json, quiet=quiet)
    spec = RankSpec(
        home=home, data=data, split=split, items=items, neighbours=neighbours, seed=seed
    )
    ranked = run_ranking(spec, output.progress)
    output.result(
        ranked.report, *ranking_parts(ranked.report), report_line(ranked.path, ranked.report)
    )
