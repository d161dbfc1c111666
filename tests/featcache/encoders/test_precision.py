"""bfloat16 is taken where it is fast and measured safe, and always shows in the key of a store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightalign.featcache.encoders import precision
from lightalign.featcache.encoders.base import PRECISIONS, Encoder
from lightalign.featcache.encoders.loading import open_encoder
from lightalign.featcache.encoders.pooling import LayerLayout
from lightalign.featcache.encoders.precision import SAFE_COSINE, choose_precision
from lightalign.featcache.errors import UnknownNameError
from lightalign.featcache.hardware import has_fast_bfloat16
from lightalign.featcache.store.key import StoreDescription
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import Modality

from ...torch_plugin import forced_bfloat16

CPU = torch.device("cpu")
LOADED = [
    "timm vit",
    "timm convolutional",
    "transformers vit",
    "transformers dinov2",
    "transformers clip",
    "transformers bert",
    "transformers distilbert with a head",
]


class TurningEncoder(Encoder[str]):
    """Give every text one token that bfloat16 turns until its cosine is `cosine`."""

    name = "turning"
    modality = Modality.TEXT
    width = 2
    tokens_per_item = None

    def __init__(self, cosine: float) -> None:
        self.cosine = cosine
        self.asked: list[str] = []

    def identity(self):
        return {"precision": self.precision}

    def preprocess(self, content, *, item_id):
        return content

    def encode(self, batch):
        self.asked.append(self.precision)
        turned = [self.cosine, (1 - self.cosine**2) ** 0.5]
        values = torch.tensor([turned if self.precision == "bfloat16" else [1.0, 0.0]] * len(batch))
        return Tokens(values[:, None], torch.ones(len(batch), 1, dtype=torch.bool))

    def layout(self, layer=-1):
        return LayerLayout(width=2)


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: False)


@pytest.fixture
def opened(tiny):
    """Return a function that opens a shared model, whose precision is put back after the test."""
    used = []

    def open_shared(name):
        used.append(tiny.opened(name))
        return used[-1]

    yield open_shared
    for encoder in used:
        encoder.precision = "float32"


@pytest.mark.parametrize("wanted", ["", "float16", "bf16", "Auto"])
def test_a_precision_that_does_not_exist_is_refused(wanted):
    encoder = TurningEncoder(1.0)
    with pytest.raises(UnknownNameError, match=r"auto.*bfloat16.*float32"):
        choose_precision(encoder, wanted, CPU)
    assert encoder.asked == []


@pytest.mark.usefixtures("fast")
def test_float32_asks_for_no_probe():
    encoder = TurningEncoder(1.0)
    assert choose_precision(encoder, "float32", CPU) is None
    assert (encoder.precision, encoder.asked) == ("float32", [])


@pytest.mark.usefixtures("slow")
def test_auto_stays_in_float32_where_bfloat16_is_not_fast():
    encoder = TurningEncoder(1.0)
    assert choose_precision(encoder, "auto", CPU) is None
    assert (encoder.precision, encoder.asked) == ("float32", [])


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("cosine", "chosen"), [(SAFE_COSINE + 1e-4, "bfloat16"), (SAFE_COSINE - 1e-4, "float32")]
)
def test_auto_takes_bfloat16_where_no_token_turns_too_far(cosine, chosen):
    encoder = TurningEncoder(cosine)
    assert choose_precision(encoder, "auto", CPU) == pytest.approx(cosine, abs=1e-5)
    assert encoder.precision == chosen
    assert encoder.asked == ["float32", "bfloat16"]


@pytest.mark.usefixtures("fast")
def test_auto_stays_in_float32_where_bfloat16_gives_no_number():
    encoder = TurningEncoder(float("nan"))
    choose_precision(encoder, "auto", CPU)
    assert encoder.precision == "float32"


@pytest.mark.usefixtures("slow")
def test_bfloat16_is_taken_where_it_is_asked_for_and_is_measured_all_the_same():
    encoder = TurningEncoder(0.5)
    assert choose_precision(encoder, "bfloat16", CPU) == pytest.approx(0.5)
    assert encoder.precision == "bfloat16"


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("name", ["toy-image", "toy-text"])
def test_an_encoder_without_another_precision_has_cosine_one(name):
    encoder = open_encoder(name)
    assert choose_precision(encoder, "auto", CPU) == pytest.approx(1, abs=1e-6)
    assert encoder.precision == "bfloat16"


@pytest.mark.parametrize("name", ["toy-image", "toy-text", *LOADED])
def test_the_precision_is_part_of_the_key(name, opened):
    encoder = opened(name)
    keys = []
    for encoder.precision in PRECISIONS:
        description = StoreDescription(
            dataset="d", split="train", source="s", encoder=encoder.name,
            identity=encoder.identity(), modality=encoder.modality.value, width=encoder.width,
            tokens_per_item=encoder.tokens_per_item, num_items=1, rows_per_shard=1,
        )  # fmt: skip
        keys.append(description.key)
    assert len(set(keys)) == 2


@pytest.mark.parametrize("name", LOADED)
def test_bfloat16_gives_float32_tensors_close_to_the_exact_ones(name, tiny):
    """bfloat16 has 8 bits; random models of a few layers leave about two of every hundred."""
    encoder = tiny.open_again(name)
    prepared = [encoder.prepare(item) for item in tiny.items_for(encoder)]
    exact = encoder.encode_layers(prepared, [-1, -2])
    encoder.precision = "bfloat16"
    for one, other in zip(exact, encoder.encode_layers(prepared, [-1, -2]), strict=True):
        assert other.values.dtype is torch.float32
        assert other.values.device.type == "cpu"
        assert torch.equal(one.mask, other.mask)
        expected, found = one.values[one.mask], other.values[one.mask]
        assert not torch.equal(expected, found)
        assert (found - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("name", LOADED)
def test_going_back_to_float32_gives_the_first_numbers_again(name, opened, tiny):
    encoder = opened(name)
    prepared = [encoder.prepare(item) for item in tiny.items_for(encoder)]
    first = encoder.encode(prepared)
    encoder.precision = "bfloat16"
    encoder.encode(prepared)
    encoder.precision = "float32"
    assert torch.equal(encoder.encode(prepared).values[first.mask], first.values[first.mask])


def test_a_processor_is_asked_whether_it_is_fast(monkeypatch):
    for answer in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda answer=answer: answer)
        assert has_fast_bfloat16(CPU) is answer


def test_a_gpu_is_asked_whether_it_is_fast(monkeypatch):
    for answer in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda answer=answer: answer)
        assert has_fast_bfloat16(torch.device("cuda")) is answer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forced", "answer"), [("1", "True"), pytest.param("0", "False", marks=pytest.mark.slow)]
)
def test_the_suite_can_answer_for_the_processor_in_every_process_it_starts(forced, answer):
    code = "import torch; from lightalign.featcache.hardware import has_fast_bfloat16 as fast; "
    code += "print(fast(torch.device('cpu')))"
    path = os.pathsep.join(
        [str(Path(forced_bfloat16.__file__).parent), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path, forced_bfloat16.VARIABLE: forced},
    )
    assert done.stdout.strip() == answer
