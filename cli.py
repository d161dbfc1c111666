"""The command line: parse, call one verb, print what it reports. Imports no torch by itself."""

import errno
import io
import json
import shlex
import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from . import __version__
from .featcache.errors import LightalignError, SpecError
from .featcache.home import VARIABLE, default_home
from .pipelines.bars import BarProgress, LineProgress
from .pipelines.progress import Progress

app = typer.Typer(
    name="lightalign",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Cache frozen encoders' features once, train a light adapter, evaluate from the cache.",
)
list_app = typer.Typer(no_args_is_help=True, help="List what can be named on the command line.")
cache_app = typer.Typer(no_args_is_help=True, help="Look after the feature stores.")
app.add_typer(list_app, name="list")
app.add_typer(cache_app, name="cache")
presets_app = typer.Typer(no_args_is_help=True, help="Show and check the presets.")
app.add_typer(presets_app, name="presets")

Home = Annotated[
    Path,
    typer.Option(
        envvar=VARIABLE,
        callback=lambda home: home.expanduser(),
        help="Folder of datasets, features and runs.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change one value of the spec; repeatable."),
]
StoreName = Annotated[str, typer.Argument(help="Folder, name as `cache ls` prints it, or key.")]
_PIPE_WIDTH = 240  # columns
DEFAULT_HOME = default_home()
_USERS_OWN = {  # system errors that are not ours to mend
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOTDIR,
    errno.EIO,
    errno.ENOMEM,
    errno.ESTALE,
    errno.EMFILE,
}


class Output:
    """Print everything a command has to say; results on stdout, the rest on stderr.

    Args:
        as_json: Print one JSON object instead of tables.
        quiet: Print neither notes nor progress.
        silent: Print no results either, as another process does.
    """

    def __init__(self, *, as_json: bool, quiet: bool, silent: bool = False) -> None:
        self.as_json = as_json
        self.silent = silent
        quiet = quiet or silent
        # a pipe has no width to fit: 80 columns would fold names that scripts read
        self.console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
        messages = Console(stderr=True)
        self.progress = Progress()
        if not quiet and messages.is_terminal:
            self.progress = BarProgress(messages)
        elif not quiet:
            self.progress = LineProgress(messages)

    def result(self, value: Any, *shown: Table | str) -> None:
        """Print `value` as JSON, or else what is shown to people."""
        if self.silent:
            return
        if self.as_json:
            sys.stdout.write(json.dumps(value, default=_plain) + "\n")
            return
        for part in shown:
            if isinstance(part, str):
                self.console.print(part, markup=False, highlight=False, soft_wrap=True)
            else:
                self.console.print(part)


def _plain(value: Any) -> Any:
    """Turn what reports hold besides JSON values into JSON values."""
    if isinstance(value, Path):
        return str(value)
    return vars(value)


@app.command()
def extract(
    encoder: Annotated[
        list[str], typer.Option(help="Encoder card; see `lightalign list encoders`; repeatable.")
    ],
    data: Annotated[str, typer.Option(help="Dataset as NAME or NAME=PATH.")],
    split: Annotated[str | None, typer.Option(help="One split; all if not given.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights file or local hub folder to use.")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="tokens (default), cls, mean or grid:HxW; repeatable or with commas."),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Layers counted from the end, such as -1,-4.")
    ] = None,
    format: Annotated[str, typer.Option(help="zarr or hdf5.")] = "zarr",
    dtype: Annotated[
        str, typer.Option(help="Stored type: float16, bfloat16, float32 or int8.")
    ] = "float16",
    compression: Annotated[str, typer.Option(help="none, zstd or blosc-lz4.")] = "none",
    precision: Annotated[
        str, typer.Option(help="Compute type: auto (bfloat16 where safe), float32, bfloat16.")
    ] = "auto",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the encoders: minutes first, then faster.")
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option(help="Items per forward pass; chosen by memory if none.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Threads that decode and tokenise.")] = 2,
    max_bad: Annotated[float, typer.Option(help="Share of items that may be unreadable.")] = 0.01,
    on_error: Annotated[
        str | None, typer.Option(help="Instead of --max-bad: skip, fail or max=N items.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say rows, bytes, memory and minutes; write nothing.")
    ] = False,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run frozen encoders once over a dataset and keep their features."""
    from .featcache.spec import apply_overrides, build
    from .pipelines.extract import ExtractSpec, run
    from .pipelines.show import estimate_parts, extract_lines

    output = Output(as_json=as_json, quiet=quiet)
    options = {
        "encoders": encoder,
        "data": data,
        "home": home,
        "split": split,
        "weights": weights,
        "features": [name for names in features or () for name in names.split(",")] or None,
        "layers": _layers(layers),
        "format": format,
        "dtype": dtype,
        "compression": compression,
        "precision": precision,
        "compile": compile,
        "batch_size": batch_size,
        "workers": workers,
        "max_bad": max_bad,
        "on_error": on_error,
        "device": device,
    }
    chosen = {key: value for key, value in options.items() if value is not None}
    table = {key: str(value) if isinstance(value, Path) else value for key, value in chosen.items()}
    spec = build(ExtractSpec, apply_overrides(table, overrides or []), where="extract")
    if dry_run:
        from .pipelines import estimate

        estimated = estimate.run(spec, output.progress)
        output.result(estimated, *estimate_parts(estimated))
        return
    report = run(spec, output.progress)
    output.result(report, *extract_lines(report))


def _layers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(layer) for layer in text.split(",")]
    except ValueError as error:
        raise SpecError(f"--layers {text!r} is not of the form -1,-4") from error


@app.command("train-adapter")
def train_adapter(
    fusion: Annotated[
        str | None, typer.Option(help="Fusion; see `lightalign list fusions`.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset; our own, with a slot for --fusion, if none.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Dataset; the newest stores if none.")] = None,
    image_encoder: Annotated[
        str | None, typer.Option(help="Encoder of the images; the newest store if none.")
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option(help="Encoder of the texts; the newest store if none.")
    ] = None,
    second_text_encoder: Annotated[
        str | None,
        typer.Option(help="Align the text encoder with this one, not with images."),
    ] = None,
    image_features: Annotated[
        str | None, typer.Option(help="tokens, cls, mean or grid:HxW; the newest store if none.")
    ] = None,
    text_features: Annotated[
        str | None, typer.Option(help="tokens, cls or mean; the newest store if none.")
    ] = None,
    second_text_features: Annotated[
        str | None, typer.Option(help="Those of the second text encoder, in the same way.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of initialisation, order and dropout.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this stopped run; without other options.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard, too, into RUN/tensorboard.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say parameters, memory and minutes; write nothing.")
    ] = False,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a light adapter on cached features.

    Below `torchrun --nproc-per-node N --no-python` N processes share each batch, on a GPU each or
    on the CPU, and take the steps that one would.
    """
    from .pipelines.launch import Launch
    from .pipelines.show import train_lines
    from .pipelines.train import TrainSpec, run
    from .pipelines.train import resume as go_on

    silent = not Launch.of_environment().is_first
    output = Output(as_json=as_json, quiet=quiet, silent=silent)
    if resume is not None:
        encoders = (image_encoder, text_encoder, second_text_encoder)
        features = (image_features, text_features, second_text_features)
        flags = (dry_run, tensorboard)
        given = (preset, fusion, data, *encoders, *features, name, overrides, seed, *flags)
        if any(given):
            raise SpecError("--resume goes on with what the run was begun with: give it alone")
        trained = go_on(home, resume, device=device, progress=output.progress)
        output.result({"folder": str(trained.folder), **trained.report}, *train_lines(trained))
        return
    spec = TrainSpec(
        home=home,
        preset=preset,
        fusion=fusion,
        data=data,
        image_encoder=image_encoder,
        text_encoder=text_encoder,
        second_text_encoder=second_text_encoder,
        image_features=image_features,
        text_features=text_features,
        second_text_features=second_text_features,
        seed=seed,
        overrides=tuple(overrides or ()),
        device=device,
        name=name,
        tensorboard=tensorboard,
    )
    if dry_run:
        from .pipelines import rehearsal
        from .pipelines.show import train_estimate_parts

        estimated = rehearsal.run(spec, output.progress)
        output.result(estimated, *train_estimate_parts(estimated))
        return
    trained = run(spec, output.progress)
    output.result({"folder": str(trained.folder), **trained.report}, *train_lines(trained))


@app.command()
def plan(
    preset: Annotated[
        str | None, typer.Option(help="Preset; our own, with a slot for --fusion, if none.")
    ] = None,
    fusion: Annotated[
        str | None, typer.Option(help="Fusion; see `lightalign list fusions`.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images of a batch; the preset's if none.")
    ] = None,
    chunk_size: Annotated[
        int | None, typer.Option(help="Rows in memory with a graph; 0: all of the batch.")
    ] = None,
    image_encoder: Annotated[
        str | None, typer.Option(help="Encoder of the images; dino-vits16 if none.")
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option(help="Encoder of the texts; distilbert if none.")
    ] = None,
    image_tokens: Annotated[
        int | None, typer.Option(help="Tokens of an image; all of its encoder if none.")
    ] = None,
    text_tokens: Annotated[
        int | None, typer.Option(help="Tokens of a batch's longest text; 32 if none.")
    ] = None,
    captions: Annotated[
        int | None, typer.Option(help="Texts of an image, if a batch has all of them; 5 if none.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Stored type of the features; float16 if none.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Memory that may be used, such as 6GB.")
    ] = None,
    measure: Annotated[bool, typer.Option(help="Run three steps and measure, too.")] = False,
    overrides: Overrides = None,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say how much memory a step of a training will take, and what fits a budget."""
    from .pipelines.plan import PlanSpec
    from .pipelines.plan import run as run_plan
    from .pipelines.show import plan_parts

    sizes = {"batch_size": batch_size, "chunk_size": chunk_size}
    changed = [f"train.{key}={value}" for key, value in sizes.items() if value is not None]
    given: dict[str, Any] = {
        "image_encoder": image_encoder,
        "text_encoder": text_encoder,
        "image_tokens": image_tokens,
        "text_tokens": text_tokens,
        "captions": captions,
        "dtype": dtype,
        "budget": budget,
    }
    spec = PlanSpec(
        preset=preset,
        fusion=fusion,
        overrides=(*(overrides or ()), *changed),
        measure=measure,
        device=device,
        **{name: value for name, value in given.items() if value is not None},
    )
    output = Output(as_json=as_json, quiet=quiet)
    planned = run_plan(spec)
    output.result(vars(planned), *plan_parts(planned))


@app.command()
def retrieve(
    run: Annotated[str | None, typer.Argument(help="Run; the newest if none.")] = None,
    k: Annotated[int, typer.Option("--k", help="Largest rank of the recall curve.")] = 100,
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "test",
    data: Annotated[str | None, typer.Option(help="Dataset; the run's own if none.")] = None,
    scoring: Annotated[
        str, typer.Option(help="cosine, or qb-norm or dual-softmax beside it.")
    ] = "cosine",
    bank: Annotated[
        int | None,
        typer.Option(help="Training items of a side that qb-norm takes; 10,000 if none."),
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
    allow_leakage: Annotated[
        bool,
        typer.Option("--allow-leakage", help="Measure what took part in the training, too."),
    ] = False,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure retrieval across the two sides of a run."""
    from .pipelines.retrieve import BANK, RetrieveSpec
    from .pipelines.retrieve import run as run_retrieve
    from .pipelines.show_retrieval import retrieval_parts

    output = Output(as_json=as_json, quiet=quiet)
    spec = RetrieveSpec(
        home=home,
        run=run,
        data=data,
        split=split,
        k=k,
        scoring=scoring,
        allow_leakage=allow_leakage,
        device=device,
        bank=BANK if bank is None else bank,
        index=index,
        memory=memory,
    )
    retrieved = run_retrieve(spec, output.progress)
    output.result(retrieved.report, *retrieval_parts(retrieved.report), f"report: {retrieved.path}")


@app.command()
def index(
    run: Annotated[str | None, typer.Argument(help="Run; the newest if none.")] = None,
    side: Annotated[
        str | None, typer.Option(help="image (if none), text, or both; or first_text, second_text.")
    ] = None,
    kind: Annotated[
        str, typer.Option("--index", help="auto, flat, ivf, hnsw, pq or a FAISS factory string.")
    ] = "auto",
    memory: Annotated[
        str | None, typer.Option(help="What it may take, such as 2GB; half of the free if none.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to index.")] = "test",
    data: Annotated[str | None, typer.Option(help="Dataset; the run's own if none.")] = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Save an index of a split's embeddings, to search in."""
    from .pipelines.index_run import IndexSpec
    from .pipelines.index_run import run as run_index
    from .pipelines.show_index import index_lines

    output = Output(as_json=as_json, quiet=quiet)
    spec = IndexSpec(
        home=home,
        run=run,
        side=side,
        data=data,
        split=split,
        index=kind,
        memory=memory,
        device=device,
    )
    indexed = run_index(spec, output.progress)
    output.result(indexed, *index_lines(indexed))


@app.command()
def search(
    run: Annotated[str, typer.Argument(help="Run.")],
    query: Annotated[str, typer.Argument(help="A text, or the path of an image.")],
    k: Annotated[int, typer.Option("--k", help="Answers at most.")] = 20,
    side: Annotated[str | None, typer.Option(help="What to find: image (if none) or text.")] = None,
    split: Annotated[str | None, typer.Option(help="Split; the newest index if none.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Dataset; NAME=PATH where its files have moved.")
    ] = None,
    query_is: Annotated[
        str | None, typer.Option("--as", help="text or image; an image if such a file is there.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet: a .html or .png file.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--open", help="Write RUN/search.html or --sheet, and open it.")
    ] = False,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find what is nearest to a text or an image, in an index that `index` has saved."""
    from .pipelines.search import SearchSpec, open_in_browser
    from .pipelines.search import run as run_search
    from .pipelines.show_index import search_parts

    output = Output(as_json=as_json, quiet=quiet)
    spec = SearchSpec(
        home=home,
        run=run,
        query=query,
        query_is=query_is,
        side=side,
        data=data,
        split=split,
        k=k,
        sheet=sheet,
        default_sheet=show,
        device=device,
    )
    found = run_search(spec, output.progress)
    output.result(found, *search_parts(found))
    if show and found.sheet is not None:
        open_in_browser(found.sheet, output.progress)


@app.command("zero-shot")
def zero_shot(
    run: Annotated[str | None, typer.Argument(help="Run; the newest if none.")] = None,
    *,
    data: Annotated[str, typer.Option(help="Dataset of classes as NAME or NAME=PATH.")],
    split: Annotated[str | None, typer.Option(help="Split; test, or else val, if none.")] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(help="bare, single, ensemble or a TOML file; repeatable or with commas."),
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option(metavar="ENCODER=PATH", help="Weights to use; repeatable.")
    ] = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Classify images by the nearest text, without training on any class."""
    from .pipelines.show_zero_shot import zero_shot_parts
    from .pipelines.zero_shot import ZeroShotSpec
    from .pipelines.zero_shot import run as run_zero_shot

    output = Output(as_json=as_json, quiet=quiet)
    spec = ZeroShotSpec(
        home=home,
        data=data,
        run=run,
        split=split,
        prompts=tuple(name for names in prompts or ["ensemble"] for name in names.split(",")),
        weights=dict(_place_of_weights(given) for given in weights or ()),
        device=device,
    )
    done = run_zero_shot(spec, output.progress)
    output.result(done.report, *zero_shot_parts(done))


@app.command()
def probe(
    run: Annotated[str | None, typer.Argument(help="Run; the newest if none.")] = None,
    *,
    data: Annotated[str, typer.Option(help="Dataset of classes as NAME or NAME=PATH.")],
    protocol: Annotated[str, typer.Option(help="lbfgs, sgd (LightCRL's table) or knn.")] = "lbfgs",
    features: Annotated[
        str, typer.Option(help="embedding, encoder (without the adapter) or both with a comma.")
    ] = "embedding,encoder",
    shots: Annotated[
        str | None, typer.Option(help="Training images a class, such as 1,2,4,8,16; all if none.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How often shots are drawn.")] = 5,
    train_split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    split: Annotated[
        str | None, typer.Option(help="Split to measure on; test, or else val, if none.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of held-out images, shots and starts.")] = 0,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure how well simple classifiers read classes from frozen features."""
    from .featcache.spec import apply_overrides, build
    from .pipelines.probe import ProbeOptions, ProbeSpec
    from .pipelines.probe import run as run_probe
    from .pipelines.show_probe import accuracy_parts

    output = Output(as_json=as_json, quiet=quiet)
    spec = ProbeSpec(
        home=home,
        data=data,
        run=run,
        protocol=protocol,
        features=tuple(features.split(",")),
        train_split=train_split,
        split=split,
        shots=() if shots is None else _numbers("--shots", shots),
        seeds=seeds,
        seed=seed,
        options=build(ProbeOptions, apply_overrides({}, overrides or []), where="probe"),
        device=device,
    )
    probed = run_probe(spec, output.progress)
    output.result(probed.report, *accuracy_parts(probed.report), f"report: {probed.path}")


def _numbers(flag: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise SpecError(f"{flag} {text!r} is not of the form 1,2,4") from error


@app.command("fine-tune")
def fine_tune(
    run: Annotated[
        str | None, typer.Argument(help="Run that is the start; newest if none.")
    ] = None,
    *,
    data: Annotated[str, typer.Option(help="Dataset of classes as NAME or NAME=PATH.")],
    protocol: Annotated[
        str,
        typer.Option(help="full, or lightcrl: the head alone, as published under this name."),
    ] = "full",
    train_split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    split: Annotated[
        str | None, typer.Option(help="Split to measure at the end; test, or else val, if none.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of start, order, dropout, held-out images.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the new run.")] = None,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train the adapter of a run on with a head of classes, on cached tokens."""
    from .featcache.spec import apply_overrides
    from .pipelines.fine_tune import FineTuneSpec, options_of
    from .pipelines.fine_tune import run as run_fine_tune
    from .pipelines.show_probe import accuracy_parts, fine_tuned_line

    output = Output(as_json=as_json, quiet=quiet)
    spec = FineTuneSpec(
        home=home,
        data=data,
        run=run,
        protocol=protocol,
        train_split=train_split,
        split=split,
        seed=seed,
        name=name,
        device=device,
        **options_of(protocol, apply_overrides({}, overrides or [])),
    )
    tuned = run_fine_tune(spec, output.progress)
    output.result(
        {"folder": str(tuned.folder), "trained": tuned.trained, **tuned.report},
        *accuracy_parts(tuned.report),
        fine_tuned_line(tuned.trained),
        f"run: {tuned.folder}",
    )


@app.command()
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
        float, typer.Option(help="Cosine from which a pair is alike, beside a fitted one.")
    ] = 0.9,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare cosines of pairs of texts with people's judgement of them."""
    from .pipelines.show_similarity import similarity_parts
    from .pipelines.similarity import SimilaritySpec
    from .pipelines.similarity import run as run_similarity

    output = Output(as_json=as_json, quiet=quiet)
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
    output.result(measured.report, *similarity_parts(measured.report), f"report: {measured.path}")


@app.command("rank-encoders")
def rank_encoders(
    data: Annotated[str | None, typer.Option(help="Dataset; the newest stores if none.")] = None,
    split: Annotated[str, typer.Option(help="Split whose features are compared.")] = "train",
    items: Annotated[int, typer.Option(help="Most images that are drawn.")] = 2000,
    neighbours: Annotated[int, typer.Option(help="Neighbours that two encoders may share.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say which image and text stores fit one another, before anything is trained."""
    from .pipelines.rank_encoders import RankSpec
    from .pipelines.rank_encoders import run as run_ranking
    from .pipelines.show_similarity import ranking_parts

    output = Output(as_json=as_json, quiet=quiet)
    spec = RankSpec(
        home=home, data=data, split=split, items=items, neighbours=neighbours, seed=seed
    )
    ranked = run_ranking(spec, output.progress)
    output.result(ranked.report, *ranking_parts(ranked.report), f"report: {ranked.path}")


@app.command()
def report(
    run: Annotated[list[str] | None, typer.Argument(help="Runs; the newest if none.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write; one in the run if none.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="NAME=PATH of a dataset that has moved, for its pictures.")
    ] = None,
    failures: Annotated[
        int, typer.Option(help="Worst answers that are shown of each evaluation.")
    ] = 24,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page about runs: tables side by side, plots, and the worst answers."""
    from .pipelines.report import ReportSpec
    from .pipelines.report import run as run_report

    output = Output(as_json=as_json, quiet=quiet)
    spec = ReportSpec(home=home, runs=tuple(run or ()), out=out, data=data, failures=failures)
    written = run_report(spec, output.progress)
    shown = f"{written.evaluations} evaluations of {len(written.runs)} runs: {written.path}"
    output.result(written, shown)


@app.command("export")
def export_run(
    run: Annotated[str | None, typer.Argument(help="Run; the newest if none.")] = None,
    *,
    to: Annotated[str, typer.Option(help="onnx or sentence-transformers.")],
    output: Annotated[Path, typer.Option(help="Folder to write: a new or an empty one.")],
    tower: Annotated[
        list[str] | None,
        typer.Option(help="image or text; all for onnx, text for sentence-transformers if none."),
    ] = None,
    adapter_only: Annotated[
        bool, typer.Option("--adapter-only", help="Leave the frozen encoders out; onnx only.")
    ] = False,
    weights: Annotated[
        list[str] | None, typer.Option(metavar="ENCODER=PATH", help="Weights to use; repeatable.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the towers of a run for onnxruntime or sentence-transformers."""
    from .pipelines.export_run import ExportSpec
    from .pipelines.export_run import run as run_export
    from .pipelines.show import exported_lines

    output_of = Output(as_json=as_json, quiet=quiet)
    spec = ExportSpec(
        home=home,
        run=run,
        to=to,
        output=output,
        towers=tuple(dict.fromkeys(tower or ())),
        whole=not adapter_only,
        weights=dict(_place_of_weights(given) for given in weights or ()),
    )
    exported = run_export(spec, output_of.progress)
    output_of.result(exported, *exported_lines(exported))


def _place_of_weights(given: str) -> tuple[str, Path]:
    name, sign, path = given.partition("=")
    if not (name and sign and path):
        raise SpecError(f"--weights {given!r} is not of the form ENCODER=PATH")
    return name, Path(path).expanduser()


@app.command()
def quickstart(
    seed: Annotated[int, typer.Option(help="Seed of initialisation, order and dropout.")] = 0,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Do all three steps on drawn pictures with packaged encoders; nothing is downloaded."""
    from .featcache.spec import apply_overrides
    from .pipelines.quickstart import run
    from .pipelines.show import extract_lines, train_lines
    from .pipelines.show_retrieval import retrieval_parts

    output = Output(as_json=as_json, quiet=quiet)
    changed = apply_overrides({"source": {}}, overrides or [])
    unknown = sorted(set(changed) - {"source"})
    if unknown or not isinstance(changed["source"], dict):
        raise SpecError(f"quickstart knows --set source.NAME=VALUE only, found {overrides}")
    done = run(home, source=changed["source"], device=device, seed=seed, progress=output.progress)
    place = "" if home == DEFAULT_HOME.expanduser() else f" --home {shlex.quote(str(home))}"
    output.result(
        {"extract": done.extracted, "train": done.trained.report, **done.retrieved.report},
        *extract_lines(done.extracted),
        *train_lines(done.trained),
        *retrieval_parts(done.retrieved.report),
        f"report: {done.retrieved.path}",
        f"cache:  {home / 'features'} (a second run finds everything there)",
        f"next:   lightalign train-adapter --fusion none{place}",
        f"        lightalign retrieve --k 100{place}",
    )


@list_app.command("encoders")
def list_encoders(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the encoder cards."""
    from .pipelines.show import encoder_rows, rows_table

    rows = encoder_rows()
    Output(as_json=as_json, quiet=quiet).result({"encoders": rows}, rows_table(rows))


@list_app.command("datasets")
def list_datasets(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the dataset families."""
    from .featcache.datasets import list_datasets as read_datasets
    from .pipelines.show import rows_table

    rows = [
        {"name": name, "files": "needed" if needs_files else "drawn", "title": title}
        for name, title, needs_files in read_datasets()
    ]
    Output(as_json=as_json, quiet=quiet).result({"datasets": rows}, rows_table(rows))


@list_app.command("fusions")
def list_fusions(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the fusions."""
    from .adapters.preset import list_fusions as read_fusions
    from .pipelines.show import rows_table

    rows = [{"name": name, "what it does": title} for name, title in read_fusions()]
    Output(as_json=as_json, quiet=quiet).result({"fusions": rows}, rows_table(rows))


@list_app.command("prompts")
def list_prompts(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the prompts."""
    from .pipelines.prompts import prompt_names, read_prompts
    from .pipelines.show import rows_table

    rows = [{"name": name, "title": read_prompts(name).title} for name in prompt_names()]
    Output(as_json=as_json, quiet=quiet).result({"prompts": rows}, rows_table(rows))


@list_app.command("presets")
def list_presets(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the presets."""
    from .adapters.preset import list_presets as list_names
    from .adapters.preset import read_preset
    from .pipelines.show import rows_table

    rows = [{"name": name, "title": read_preset(name)["title"]} for name in list_names()]
    Output(as_json=as_json, quiet=quiet).result({"presets": rows}, rows_table(rows))


@presets_app.command("list")
def presets_list(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the presets."""
    list_presets(as_json=as_json, quiet=quiet)


@presets_app.command("show")
def presets_show(
    name: Annotated[str, typer.Argument(help="Preset; see `lightalign presets list`.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Print a preset as TOML, with all that it extends."""
    from .adapters.preset import read_preset
    from .featcache.spec import to_toml

    preset = read_preset(name)
    Output(as_json=as_json, quiet=quiet).result(preset, to_toml(preset).rstrip())


@presets_app.command("check")
def presets_check(
    name: Annotated[str | None, typer.Argument(help="One preset; all if not given.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Build presets and compare their parameters with their sources'; exits 1 where they differ."""
    from .adapters.check import check_preset
    from .adapters.preset import list_presets as list_names
    from .pipelines.show import rows_table

    output = Output(as_json=as_json, quiet=quiet)
    names = [name] if name else list_names()
    tracked = output.progress.track(names, "check", len(names), unit="presets")
    rows = [vars(check_preset(one)) for one in tracked]
    output.result({"presets": rows}, rows_table(rows))
    if not all(row["right"] for row in rows):
        raise typer.Exit(1)


@cache_app.command("ls")
def cache_ls(home: Home = DEFAULT_HOME, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List all feature stores, newest first."""
    from .pipelines.show import rows_table, store_rows

    rows = store_rows(home)
    empty = f"no feature stores in {home / 'features'}"
    Output(as_json=as_json, quiet=quiet).result(
        {"stores": rows}, rows_table(rows) if rows else empty
    )


@cache_app.command("info")
def cache_info(
    store: StoreName,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what one store holds and what its key is made of."""
    from .featcache.catalog import find_store
    from .featcache.manifest import read_manifest
    from .featcache.store import FeatureStore

    opened = FeatureStore(folder := find_store(home, store), read_manifest(folder))
    manifest = dict(opened.manifest)
    manifest.pop("shards", None)
    manifest["num_shards"] = opened.num_shards
    manifest["missing_shards"] = opened.missing_shards()
    manifest["skipped"] = [vars(item) for item in opened.skipped()]
    Output(as_json=as_json, quiet=quiet).result(manifest, json.dumps(manifest, indent=2))


@cache_app.command("verify")
def cache_verify(
    store: Annotated[str | None, typer.Argument(help="One store; all if not given.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Read every byte and compare it with the manifest; exits 1 when something is damaged."""
    from .featcache.catalog import find_store, manifest_folders
    from .featcache.damage import verify_folder

    output = Output(as_json=as_json, quiet=quiet)
    folders = [find_store(home, store)] if store else manifest_folders(home)
    damage: dict[str, list[str]] = {}
    for folder in output.progress.track(folders, "verify", len(folders), unit="stores"):
        damage[str(folder)] = verify_folder(folder)
    lines = [line for found in damage.values() for line in found]
    output.result(damage, *lines, f"{len(folders)} stores read, {len(lines)} damaged files")
    if lines:
        raise typer.Exit(1)


@cache_app.command("explain")
def cache_explain(
    store: Annotated[str | None, typer.Argument(help="Folder, name or key of a store.")] = None,
    other: Annotated[str | None, typer.Argument(help="Another store; the nearest if none.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Instead of a store: what misses.")] = None,
    data: Annotated[str | None, typer.Option(help="Dataset of what misses.")] = None,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say which of the values that make their keys two stores differ in, or why one is a miss.

    With --encoder and --data, and --set for every other option of `extract`, such as
    --set dtype=int8 or --set split=val: what that extraction would ask for, and the nearest store.
    """
    from .pipelines.cache import explain_stores
    from .pipelines.redo import explain_request
    from .pipelines.show import explanation_parts

    output = Output(as_json=as_json, quiet=quiet)
    if encoder is not None and data is not None and store is None:
        table = {"encoders": [encoder], "data": data, "home": str(home)}
        explained = explain_request(table, overrides or [], output.progress)
        parts = [part for one in explained for part in explanation_parts(one)]
        output.result({"explanations": explained}, *parts)
    elif store is not None and encoder is None and data is None:
        one = explain_stores(home, store, other)
        output.result(one, *explanation_parts(one))
    else:
        raise SpecError("give one or two stores, or --encoder with --data")


@cache_app.command("rm")
def cache_rm(
    store: StoreName,
    force: Annotated[bool, typer.Option(help="Remove it even if a run refers to it.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Remove one store, and its pairs with the last store of its split."""
    from .pipelines.cache import remove

    removed = remove(home, store, force=force)
    line = f"removed {removed.store}, {removed.bytes / 1e6:.1f} MB"
    Output(as_json=as_json, quiet=quiet).result(removed, line)


@cache_app.command("repair")
def cache_repair(
    store: Annotated[str | None, typer.Argument(help="One store; all if not given.")] = None,
    data: Annotated[
        str | None, typer.Option(help="NAME=PATH of a dataset that is not in its default place.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights, if the store was extracted with --weights.")
    ] = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Restore what `verify` finds; only damaged shards are computed again."""
    from .featcache.catalog import manifest_folders
    from .pipelines.redo import each_apart, repair
    from .pipelines.show import repair_lines

    output = Output(as_json=as_json, quiet=quiet)
    again = partial(
        repair, home, data=data, weights=weights, device=device, progress=output.progress
    )
    failed: dict[str, str] = {}
    if store:
        reports = [again(store)]
    else:
        reports, failed = each_apart(again, [str(folder) for folder in manifest_folders(home)])
    output.result({"stores": reports, "failed": failed}, *repair_lines(reports, failed))
    if failed or any(report.left for report in reports):
        raise typer.Exit(1)


@cache_app.command("export")
def cache_export(
    store: StoreName,
    path: Annotated[Path, typer.Argument(help="What to write: a folder for npy, else a file.")],
    format: Annotated[str, typer.Option(help="parquet, npy or safetensors.")] = "parquet",
    force: Annotated[bool, typer.Option(help="Replace an earlier export.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one store for other tools: ids beside vectors, in floats."""
    from .pipelines.export import export

    done = export(home, store, path, format=format, force=force)
    line = f"{done.rows} rows, {done.tokens} tokens, {done.bytes / 1e6:.1f} MB: {done.path}"
    Output(as_json=as_json, quiet=quiet).result(done, line)


def _version(asked: bool) -> bool:
    if asked:
        typer.echo(f"lightalign {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that stand before the command."""


class _StoppedError(BaseException):
    """Carry a signal through the parser, which would turn KeyboardInterrupt into exit code 1."""


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise _StoppedError(number)


def main() -> None:
    """Run the command line: known errors are one line and exit code 2, Ctrl-C is 130."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    for stream in (sys.stdout, sys.stderr):
        # a terminal that cannot show a character must not lose the result
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except LightalignError as error:
        typer.echo(f"lightalign: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _USERS_OWN:
            raise
        typer.echo(f"lightalign: {error.strerror}: {error.filename or 'while writing'}", err=True)
        sys.exit(2)
    except _StoppedError as stopped:
        line = (
            "stopped; finished shards and epochs are kept: run the same command to go on, "
            "or `train-adapter --resume RUN`"
        )
        typer.echo(f"lightalign: {line}", err=True)
        sys.exit(128 + stopped.args[0])  # what shells report for a program ended by a signal


if __name__ == "__main__":
    main()
