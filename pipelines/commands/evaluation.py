"""The commands that measure: runs, and encoders before anything is trained."""

from dataclasses import replace

from ..classification.probe_spec import ProbeOptions, ProbeSpec
from ..classification.zero_shot_spec import ZeroShotSpec
from ..evaluation.rank_encoders_spec import RankSpec
from ..evaluation.retrieve_spec import RetrieveSpec
from ..similarity.similarity_spec import SimilaritySpec
from ._common import CommandOutput, Overrides
from ._from_spec import command
from ._set_keys import probe_keys


@command(RetrieveSpec, reads_stores=True)
def retrieve(spec: RetrieveSpec, output: CommandOutput) -> None:
    """Measure retrieval across the two sides of a run."""
    from ..evaluation.retrieve import run
    from ..metrics.number import report_line
    from ..rendering.evaluations import retrieval_parts

    retrieved = run(spec, output.progress)
    output.result(
        retrieved.report,
        *retrieval_parts(retrieved.report),
        report_line(retrieved.path, retrieved.report),
    )


@command(ZeroShotSpec, reads_stores=True)
def zero_shot(spec: ZeroShotSpec, output: CommandOutput) -> None:
    """Classify images by the nearest text, without training on any class."""
    from ..classification.zero_shot import run
    from ..rendering.evaluations import zero_shot_parts

    done = run(spec, output.progress)
    output.result(done.report, *zero_shot_parts(done))


@command(ProbeSpec, reads_stores=True, set_keys=probe_keys)
def probe(spec: ProbeSpec, output: CommandOutput, *, overrides: Overrides = None) -> None:
    """Measure how well simple classifiers read classes from frozen features."""
    from ...featcache.config import apply_overrides, build
    from ..classification.probe import run
    from ..metrics.number import report_line
    from ..rendering.evaluations import accuracy_parts

    options = build(ProbeOptions, apply_overrides({}, overrides or []), where="probe")
    probed = run(replace(spec, options=options), output.progress)
    output.result(
        probed.report, *accuracy_parts(probed.report), report_line(probed.path, probed.report)
    )


@command(SimilaritySpec, reads_stores=True)
def similarity(spec: SimilaritySpec, output: CommandOutput) -> None:
    """Compare cosines of pairs of texts with people's judgement of them."""
    from ..metrics.number import report_line
    from ..rendering.evaluations import similarity_parts
    from ..similarity.similarity import run

    measured = run(spec, output.progress)
    output.result(
        measured.report,
        *similarity_parts(measured.report),
        report_line(measured.path, measured.report),
    )


@command(RankSpec, reads_stores=True)
def rank_encoders(spec: RankSpec, output: CommandOutput) -> None:
    """Rank pairs of image and text encoders by how well they fit, before anything is trained."""
    from ..evaluation.rank_encoders import run
    from ..metrics.number import report_line
    from ..rendering.evaluations import ranking_parts

    ranked = run(spec, output.progress)
    output.result(
        ranked.report, *ranking_parts(ranked.report), report_line(ranked.path, ranked.report)
    )
