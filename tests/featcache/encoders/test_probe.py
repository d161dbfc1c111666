"""An encoder that draws anything at random is refused, whatever library it is of."""

from collections.abc import Sequence
from typing import Any

import pytest
import timm
import torch
from timm.models import save_for_hf

from lightalign.featcache.encoders.backends.toy import ToyEncoder
from lightalign.featcache.encoders.loading import build_encoder, load_backend, open_encoder
from lightalign.featcache.encoders.probe import require_repeatable
from lightalign.featcache.encoders.references import find_card
from lightalign.featcache.errors import WeightsMismatchError
from lightalign.featcache.tokens import Tokens


def noisy(change: Any) -> Any:
    """Return a class of toy encoders whose tokens are changed at every call."""

    class Noisy(ToyEncoder):
        def encode(self, batch: Sequence[Any]) -> Tokens:
            return change(super().encode(batch))

    return Noisy


def masked_at_random(tokens: Tokens) -> Tokens:
    order = torch.randperm(tokens.values.shape[1])
    return Tokens(tokens.values[:, order[: len(order) // 2]], tokens.mask[:, : len(order) // 2])


def dropped_out(tokens: Tokens) -> Tokens:
    return tokens.with_values(torch.nn.functional.dropout(tokens.values, 0.1))


@pytest.mark.parametrize("change", [masked_at_random, dropped_out])
@pytest.mark.parametrize("name", ["toy-image", "toy-text"])
def test_random_features_are_refused_in_one_line(
    name: str, change: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "lightalign.featcache.encoders.loading.load_backend", lambda backend: noisy(change)
    )
    with pytest.raises(WeightsMismatchError, match="twice, differently") as caught:
        open_encoder(name)
    assert "\n" not in str(caught.value)


def test_rounding_that_differs_is_no_randomness():
    """Sums on a GPU are taken in any order: about 1e-6 of the largest value."""
    encoder = noisy(lambda tokens: tokens.with_values(tokens.values * (1 + 1e-6 * torch.rand(1))))(
        find_card("toy-image"), weights=_no_weights(), device=torch.device("cpu")
    )
    require_repeatable(encoder)


def _no_weights() -> Any:
    from lightalign.featcache.encoders.weights import Weights

    return Weights(files=None, origin="none needed")


def test_dropout_that_is_only_for_training_is_off(tmp_path):
    model = timm.create_model("test_vit", num_classes=5, drop_path_rate=0.5, proj_drop_rate=0.5)
    save_for_hf(model, tmp_path / "model", safe_serialization=True)
    assert build_encoder(find_card(f"timm:{tmp_path / 'model'}")).width == 64


def test_the_class_of_toys_is_what_the_registry_gives():
    assert load_backend("toy") is ToyEncoder
