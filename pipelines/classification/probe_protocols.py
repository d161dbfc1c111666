"""Train and measure the classifiers of a probe; see `probe`."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float32, Int64

from ...featcache.errors import SpecError
from ...featcache.hardware import free_memory
from ...featcache.types import Modality
from ..inputs.labelled_images import LabelledImages
from ..metrics.accuracy import (
    DEFINITIONS,
    REPEATED_DEFINITIONS,
    accuracy_numbers,
    differences,
    repeated_numbers,
)
from ..metrics.ranks import label_ranks
from ..runs.embed_stored import embed_rows
from ..runs.evaluation import Evaluation
from ..runs.trained_run import TrainedRun
from ..training.course import single_step_warning
from .classifiers import (
    Classifier,
    Examples,
    LogisticClassifier,
    NeighbourClassifier,
    choose,
    draw_shots,
)
from .probe_spec import ProbeSpec
from .sgd_head import score_rows, sgd_heads

_FEW_SHARE = 0.25  # of few shots to hold out, at least: a tenth of sixteen is one image
_FAILURES = 50
_COPIES = 3  # of the features in memory at once: as they are, scaled, and a solver's own
_PROTOCOLS = {
    "lbfgs": (
        "logistic regression by L-BFGS (scikit-learn) on features that are shifted by the mean of "
        "the training images and divided by one number; C is chosen among `regularisations` on a "
        "held-out part of the training images, by top-1 and then by log-loss; all of them are then "
        "trained on"
    ),
    "knn": (
        "vote of the nearest training images by cosine; their number is chosen among `neighbours` "
        "on a held-out part of the training images; of as many votes the first class wins, and "
        "those without a vote follow by their nearest image"
    ),
    "sgd": (
        "LightCRL's linear classification: two matrices without a non-linearity between them, "
        "plain steps with momentum; measured every few epochs, none of which is chosen; features "
        "are those of evaluation mode, as they come out of the adapter: embeddings are divided by "
        "their length with sgd.unit, and all features shifted by their mean and divided by one "
        "number with sgd.scaled only"
    ),
}
_FEATURES = {
    "embedding": "unit-length embedding of the run's adapter",
    "encoder": "mean over the tokens that the adapter reads, without the adapter",
    "embedding_minus_encoder": (
        "difference of both accuracies on the same images, percentage points, with its interval"
    ),
}
_SETTINGS = {
    "lbfgs": {"all_images": "one classifier, trained on all training images"},
    "knn": {"all_images": "votes of all training images"},
    "sgd": {"epoch_n": "the same head after n epochs of its training"},
}


class Probing:
    """Measure classifiers of one protocol, by each kind of features.

    The evaluation receives numbers, plots and warnings.
    """

    def __init__(
        self,
        spec: ProbeSpec,
        evaluation: Evaluation,
        run: TrainedRun,
        train: LabelledImages,
        test: LabelledImages,
    ) -> None:
        self.spec = spec
        self.evaluation = evaluation
        self.progress = evaluation.progress
        self.run_of = run
        self.train = train
        self.test = test
        self.num_classes = len(train.names)
        self.ranks: dict[str, dict[str, Int64[np.ndarray, " m"]]] = {}
        self.lines: dict[str, dict[str, list[float]]] = {}

    def run(self) -> None:
        """Measure everything.

        Raises:
            LightalignError: See `probe.run`.
        """
        for name in self.spec.features:
            train, test = (self._features(name, rows) for rows in (self.train, self.test))
            examples = Examples(train, self.train.labels, self.num_classes)
            if self.spec.shots:
                self._few_shots(name, examples, test)
            else:
                self._all_images(name, examples, test)
        if len(self.spec.features) > 1 and not self.spec.shots:
            self.evaluation.metrics["embedding_minus_encoder"] = {
                setting: differences(
                    ranks, self.ranks["encoder"][setting], num_classes=self.num_classes
                )
                for setting, ranks in self.ranks["embedding"].items()
            }
        self._describe()

    def _features(self, name: str, rows: LabelledImages) -> Float32[np.ndarray, "n width"]:
        embeds = name == "embedding"
        width = self.run_of.plain_adapter.out_width if embeds else rows.reader.description.width
        # scikit-learn copies what it is given, and an allocation that fails late loses the whole
        # probe
        needed, free = _COPIES * len(rows) * width * 4, free_memory()
        if needed > free:
            raise SpecError(
                f"{len(rows)} rows of {width} features take {needed / 1e9:.1f} GB while they are "
                f"classified, and {free / 1e9:.1f} GB are free: probe another run or fewer images"
            )
        if not embeds:
            return rows.pooled(rows.rows)
        return embed_rows(
            self.run_of.plain_adapter,
            rows.reader,
            rows.rows,
            side=Modality.IMAGE,
            device=self.run_of.device,
            progress=self.progress,
            unit=self._of_unit_length(),
        )

    def _of_unit_length(self) -> bool:
        return self.spec.protocol != "sgd" or self.spec.options.sgd.unit

    def _all_images(self, name: str, train: Examples, test: Float32[np.ndarray, "m width"]) -> None:
        metrics = self.evaluation.metrics[name] = {}
        ranks = self.ranks[name] = {}
        scores = None
        for setting, scores in self._scores(name, train, test):
            ranks[setting] = label_ranks(scores, self.test.labels)
            numbers = accuracy_numbers(
                ranks[setting], self.test.labels, num_classes=self.num_classes
            )
            metrics[setting] = {**metrics.get(setting, {}), **numbers}
        assert scores is not None, "there is one setting at least"
        if name == self.spec.features[0]:
            self._list_failures(ranks[setting], scores)

    def _scores(
        self, name: str, train: Examples, test: Float32[np.ndarray, "m width"]
    ) -> Iterator[tuple[str, Float32[np.ndarray, "m classes"]]]:
        """Yield the scores of the evaluated images in each setting that is reported."""
        spec, options = self.spec, self.spec.options
        if spec.protocol == "sgd":
            self._warn_of_single_steps(len(train))
            line = self.lines[name] = {"x": [], "y": []}
            device = self.run_of.device
            heads = sgd_heads(
                train, options.sgd, seed=spec.seed, device=device, progress=self.progress
            )
            for epoch, _, head in heads:
                scores = score_rows(head, test, device)
                ranks = label_ranks(scores, self.test.labels)
                line["x"].append(epoch)
                line["y"].append(100.0 * float((ranks == 1).mean()))
                yield f"epoch_{epoch}", scores
            return
        classifier = self._classifier()
        self.progress.note(f"{name}: choosing {classifier.option} by held-out training images")
        choice = choose(classifier, train, share=options.validation, seed=spec.seed)
        tried = sorted(choice.tried.items())
        self.lines[name] = {"x": [value for value, _ in tried], "y": [top for _, top in tried]}
        scores = classifier.scores(train, test, choice.value)
        self.evaluation.metrics[name]["all_images"] = {f"chosen_{classifier.option}": choice.value}
        tips = {classifier.candidates[-1]: "largest", classifier.candidates[0]: "smallest"}
        if choice.value in tips and classifier.option == "C":
            self.evaluation.warnings.append(
                f"{name}: the {tips[choice.value]} C was best, a better one may lie beyond: widen "
                "regularisations"
            )
        for note, noted in classifier.notes.items():
            at = ", ".join(f"{value:g}" for value in sorted(set(noted)))
            self.evaluation.warnings.append(f"{name}, {classifier.option} = {at}: {note}")
        yield "all_images", scores

    def _warn_of_single_steps(self, num_images: int) -> None:
        sgd = self.spec.options.sgd
        step_warnings = single_step_warning(
            num_images=num_images, batch_size=sgd.batch_size, epochs=sgd.epochs
        )
        self.evaluation.warnings += [
            line for line in step_warnings if line not in self.evaluation.warnings
        ]

    def _few_shots(self, name: str, train: Examples, test: Float32[np.ndarray, "m width"]) -> None:
        spec = self.spec
        share = max(_FEW_SHARE, spec.options.validation)
        metrics = self.evaluation.metrics[name] = {}
        line = self.lines[name] = {"x": [], "y": []}
        total = len(spec.shots) * spec.seeds
        self.progress.start(f"few shots, {name}", total, unit="draws")
        for shots in spec.shots:
            ranks, chosen = [], []
            notes: Counter[str] = Counter()
            num_fits = 0
            # of few shots the draw decides more than the classifier, so that several are averaged
            for seed in range(spec.seed, spec.seed + spec.seeds):
                rows = draw_shots(train.labels, self.train.names, shots=shots, seed=seed)
                drawn, classifier = train.take(rows), self._classifier()
                choice = choose(classifier, drawn, share=share, seed=seed)
                scores = classifier.scores(drawn, test, choice.value)
                ranks.append(label_ranks(scores, self.test.labels))
                chosen.append(choice.value)
                num_fits += len(choice.tried) + 1
                notes.update({note: len(noted) for note, noted in classifier.notes.items()})
                self.progress.advance(1)
            # one line for all draws: a line for each would bury the other warnings
            self.evaluation.warnings += [
                f"{name}, {shots} shots, in {times} of {num_fits} fits: {note}"
                for note, times in notes.items()
            ]
            numbers = repeated_numbers(ranks, num_classes=self.num_classes)
            metrics[f"shots_{shots}"] = {f"chosen_{classifier.option}": chosen, **numbers}
            line["x"].append(shots)
            line["y"].append(numbers["top_1"].value)
        self.progress.finish()

    def _classifier(self) -> Classifier:
        if self.spec.protocol == "knn":
            return NeighbourClassifier(self.spec.options.neighbours)
        return LogisticClassifier(self.spec.options.regularisations)

    def _list_failures(
        self, ranks: Int64[np.ndarray, " m"], scores: Float32[np.ndarray, "m classes"]
    ) -> None:
        """List the images whose right class comes latest, each with what came first."""
        names, ids = self.test.names, self.test.reader.ids
        first = scores.argmax(axis=1)
        worst = np.argsort(-ranks, kind="stable")[:_FAILURES]
        self.evaluation.failures = [
            {
                "query": ids[row],
                "rank": int(ranks[row]),
                "first": [{"name": names[first[row]]}],
                "right": [{"name": names[self.test.labels[row]]}],
            }
            for row in worst.tolist()
            if ranks[row] > 1
        ]

    def _describe(self) -> None:
        few = bool(self.spec.shots)
        self.evaluation.definitions = {
            **DEFINITIONS,
            self.spec.protocol: _PROTOCOLS[self.spec.protocol],
            **{name: _FEATURES[name] for name in self.evaluation.metrics},
        }
        if not self._of_unit_length():
            self.evaluation.definitions["embedding"] = (
                "embedding of the run's adapter, of any length"
            )
        if few:
            self.evaluation.definitions |= {
                "shots_k": (
                    "k training images of each class, drawn anew for each seed; an option is "
                    "chosen by at least a quarter of the shots of each class, or is its middle "
                    "(C) or 1 (neighbours) where a class has one shot"
                ),
                **REPEATED_DEFINITIONS,
            }
        else:
            self.evaluation.definitions |= _SETTINGS[self.spec.protocol]
        labels: Mapping[str, tuple[str, str]] = {
            "lbfgs": ("top-1 on held-out training images", "C"),
            "knn": ("top-1 on held-out training images", "neighbours"),
            "sgd": (f"top-1 on {self.spec.split}", "epoch"),
        }
        title, x_label = labels[self.spec.protocol]
        if few:
            title, x_label = f"top-1 on {self.spec.split}, mean over draws", "images of each class"
        curve = {"title": title, "x_label": x_label, "y_label": "%", "lines": self.lines}
        self.evaluation.curves = [curve]
