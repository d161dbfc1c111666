"""A small home folder, extracted with the toy encoders."""

from pathlib import Path

import pytest

from lightalign.pipelines import extract, index_quality

SCENES = {"train": 24, "val": 8, "test": 8, "size": 64}


def extract_toy(home: Path, encoder: str, **changes) -> extract.ExtractReport:
    fields = {
        "encoders": (encoder,),
        "data": "shapes",
        "home": home,
        "source": SCENES,
        "device": "cpu",
        "rows_per_shard": 10,
        "precision": "float32",  # else the kind of the processor decides on keys and on numbers
    }
    return extract.run(extract.ExtractSpec(**{**fields, **changes}))


@pytest.fixture(scope="session", autouse=True)
def short_measurements():
    """Measure once how fast an index is; no test looks at how fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_quality, "LEAST_SECONDS", 0.0)
        yield


@pytest.fixture(scope="session")
def toy_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with stores of all splits of a small `shapes`; read only."""
    home = tmp_path_factory.mktemp("toy-home")
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder)
    return home


@pytest.fixture
def home(toy_home, tmp_path):
    """Return a home with the toy stores and no run yet."""
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "features").symlink_to(toy_home / "features")
    return tmp_path / "h"
