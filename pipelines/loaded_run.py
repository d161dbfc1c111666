"""A finished run as Python code opens it: it embeds, and it is evaluated."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..featcache.errors import SpecError
from ..featcache.home import expanded
from .evaluation import retrieve
from .evaluation.retrieve_spec import RetrieveSpec
from .runs import run_folder
from .runs.embedder import Embedder


class LoadedRun(Embedder):
    """Embed by a finished run, see `Embedder`, and measure it.

    Args:
        folder: The run folder; nothing else is needed but the encoders' weights.
        device: `auto`, `cpu` or `cuda`.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.
        home: Folder of everything lightalign keeps, for evaluations; or None.

    Raises:
        LightalignError: See `Embedder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "auto",
        weights: Mapping[str, Path] | None = None,
        home: Path | None = None,
    ) -> None:
        super().__init__(folder, device=device, weights=weights)
        self.home = home

    def retrieve(self, **options: Any) -> Mapping[str, Any]:
        """Measure retrieval from stored features, write the report into the run, and return it.

        The numbers are those of `lightalign retrieve`.

        Args:
            options: Fields of `RetrieveSpec`, such as `split`, `data`, `k` and `scoring`.

        Raises:
            SpecError: An option is unknown or wrong, or the run was opened without a home.
            LightalignError: See `retrieve.run`.
        """
        if self.home is None:
            raise SpecError("an evaluation reads stored features: open the run with home=FOLDER")
        # a run opened on a device is measured there, unless the caller names another
        arguments = {"device": str(self.device), **options, "run": str(self.folder)}
        option_names = {field.name for field in fields(RetrieveSpec)} - {"home", "run"}
        unknown = sorted(set(options) - option_names)
        if unknown:
            raise SpecError(f"retrieve has no option {unknown[0]!r}; known: {sorted(option_names)}")
        return retrieve.run(RetrieveSpec(home=self.home, **arguments)).report


def load(
    run: str | Path | None,
    *,
    home: Path,
    device: str = "auto",
    weights: Mapping[str, str | Path] | None = None,
) -> LoadedRun:
    """Open a finished run, by name or folder, or the newest, to embed with it; see `LoadedRun`.

    Raises:
        RunNotFoundError: There is no such finished run.
        LightalignError: See `LoadedRun`.
    """
    places = {name: expanded(Path(path)) for name, path in (weights or {}).items()}
    folder = run_folder.find_run(home, None if run is None else str(run))
    return LoadedRun(folder, device=device, weights=places, home=home)
