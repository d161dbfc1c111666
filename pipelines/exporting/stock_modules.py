"""Express a tower in the stock modules of sentence-transformers, or say why that cannot be done.

Stock modules are a transformers model, pooling of its tokens, matrices with an activation, a norm
of the pooled vector, and the normalisation to length 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ...adapters.adapter import Adapter
from ...adapters.step import Step
from ...adapters.steps.add_fusion import AddFusion
from ...adapters.steps.cls_pool import ClsPool
from ...adapters.steps.concat_pool import ConcatPool
from ...adapters.steps.dropout import Dropout
from ...adapters.steps.identity import Identity
from ...adapters.steps.linear import Linear
from ...adapters.steps.mean_pool import MeanPool
from ...adapters.steps.mlp import Mlp
from ...adapters.steps.mul_fusion import MulFusion
from ...adapters.steps.norm import Norm
from ...featcache.encoders.exportable import ExportableEncoder
from ...featcache.errors import ExportError
from ...featcache.types import Modality
from ..extraction.exportable import inexpressible_features
from ..runs.run_encoders import EncoderView

_STOCK_POOLS = {"mean": "mean", "cls": "cls", "last": "lasttoken"}  # by kind of features
_REASONS = {  # by part, what of it no stock module does
    "additive-attn-fusion": "it adds an attention over the tokens to each of them",
    "attention-pool": "it weighs the tokens by learned queries",
    "concat-fusion": "it adds a map with an activation to its own input",
    "cross-attn-fusion": "it adds an attention over the tokens to each of them",
    "general-attn-fusion": "it adds an attention over the tokens to each of them",
    "kernel-map": "it compares a token with anchors by a kernel",
    "query-bridge": "its queries read the tokens by attention",
    "relative": "it keeps the largest of its cosines to anchors",
    "residual-mlp": "it adds a map with an activation to its own input",
    "star-mlp": "it multiplies two maps of a token",
    "transformer": "its tokens attend to one another",
    "weighted-unit": "it weighs the features of a direction and appends what its length lacks",
}


@dataclass(frozen=True)
class Dense:
    """Dense layer: weight x + bias, with a GELU of that if `gelu`.

    Attributes:
        weight: Matrix, [out, features].
        bias: What is added, [out], or None.
    """

    weight: Tensor
    bias: Tensor | None
    gelu: bool = False


@dataclass(frozen=True)
class LayerNorm:
    """Layer norm with the gain and bias of `norm`."""

    norm: nn.LayerNorm


Part: TypeAlias = Dense | LayerNorm


@dataclass
class StockTower:
    """Tower as stock modules, in order.

    Attributes:
        before: What each token goes through.
        pool: How tokens become one vector: `mean`, `max`, `cls` and `lasttoken`, joined in this
            order; none as long as there is no pool.
        after: What the vector goes through before it is normalised.
    """

    before: list[Part] = field(default_factory=list)
    pool: tuple[str, ...] = ()
    after: list[Part] = field(default_factory=list)


def express(adapter: Adapter, modality: Modality, reading: EncoderView) -> StockTower:
    """Return the tower of `modality` in stock modules.

    Maps of single tokens stand behind the pool where they commute with it: a matrix with a mean,
    and anything with the choice of one token.

    Raises:
        ExportError: A step, or what was kept of the tokens, cannot be expressed; the message says
            why.
    """
    tower = StockTower()
    _begin(tower, modality, reading)
    for name in adapter.paths[modality]:
        step = adapter.get_submodule(f"steps.{name}")
        assert isinstance(step, Step)
        where = f"the {modality.value} tower's step {name!r} ({_part(step)})"
        if isinstance(step, MeanPool | ClsPool | ConcatPool):
            _add_pool(tower, step, where)
            continue
        translate = _TRANSLATIONS.get(type(step))
        if translate is None:
            reason = _REASONS.get(_part(step), "no stock module does the same")
            raise _inexpressible(where, reason)
        (tower.after if tower.pool else tower.before).extend(translate(step, modality))
    assert tower.pool, "every tower ends in one token a row"
    return tower


def build_model(tower: StockTower, portable: ExportableEncoder) -> Any:
    """Return the SentenceTransformer of a tower, on the CPU.

    Args:
        tower: The tower behind the encoder.
        portable: The encoder, with a `transformers_folder`.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    folder = portable.transformers_folder
    assert folder is not None, "`require_transformers` has been asked"
    encoder = modules.Transformer(
        str(folder),
        max_seq_length=portable.max_tokens,
        model_kwargs={"dtype": torch.float32},  # as features were extracted, whatever the file has
    )
    # the pool reads what the last map of single tokens gives, or else the encoder
    outs = [len(part.weight) for part in tower.before if isinstance(part, Dense)]
    chain: list[Any] = [
        encoder,
        *(_build(part, "token_embeddings") for part in tower.before),
        modules.Pooling([encoder.get_embedding_dimension(), *outs][-1], tower.pool),
        *(_build(part, "sentence_embedding") for part in tower.after),
        modules.Normalize(),
    ]
    return SentenceTransformer(modules=chain, device="cpu").eval()


def require_transformers(portable: ExportableEncoder, name: str) -> Path:
    """Return the hub directory that transformers reads the encoder `name` from.

    Raises:
        ExportError: There is none, or its last hidden state is not what the training read.
    """
    if portable.transformers_folder is None:
        raise ExportError(
            f"encoder {name!r} cannot be expressed in stock modules of sentence-transformers: they "
            "read the last hidden state of a transformers directory with its own preprocessing, "
            "and the training read something else; --to onnx can write it"
        )
    return portable.transformers_folder


def _begin(tower: StockTower, modality: Modality, reading: EncoderView) -> None:
    """Begin with the pool that the stored features have already gone through, if any."""
    where = f"the {modality.value} features {reading.kind.name!r} of layer {reading.layer}"
    reason = inexpressible_features(reading.layer, reading.kind, reading.layout)
    if reason is not None:
        raise _inexpressible(where, reason)
    if reading.kind.name in _STOCK_POOLS:
        tower.pool = (_STOCK_POOLS[reading.kind.name],)


def _add_pool(tower: StockTower, step: MeanPool | ClsPool | ConcatPool, where: str) -> None:
    modes: tuple[str, ...] = ("cls",) if isinstance(step, ClsPool) else ("mean",)
    if isinstance(step, ConcatPool):
        modes = step.summaries
        if "deviation" in modes:
            raise _inexpressible(where, "stock pooling knows no standard deviation")
    if tower.pool:
        if isinstance(step, ConcatPool):
            raise _inexpressible(where, "it joins summaries of what is one vector already")
        return  # of one token
    if isinstance(step, MeanPool) and not step.masked:
        raise _inexpressible(where, "it averages padding, too, which stock pooling leaves out")
    tower.pool = modes
    # the mean of W x + b is W mean(x) + b, and one token is the same before and after a map
    affine = all(isinstance(part, Dense) and not part.gelu for part in tower.before)
    if modes == ("cls",) or (modes == ("mean",) and affine):
        tower.before, tower.after = [], tower.before
    elif any(isinstance(part, LayerNorm) for part in tower.before):
        raise _inexpressible(where, "the stock norm is of the pooled vector only")


def _translate_mlp(step: Mlp, _modality: Modality) -> list[Part]:
    first, _, second, _, norm = step.layers
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    return [
        Dense(first.weight, first.bias, gelu=True),
        Dense(second.weight, second.bias),
        *([LayerNorm(norm)] if isinstance(norm, nn.LayerNorm) else []),
    ]


def _translate_addition(step: AddFusion, modality: Modality) -> list[Part]:
    """Return x + c as a matrix: the context c is a constant once it is trained."""
    return [Dense(torch.eye(step.out_width), step.context(modality).detach())]


def _translate_product(step: MulFusion, modality: Modality) -> list[Part]:
    """Return x * c as a matrix with c on its diagonal."""
    return [Dense(torch.diag(step.context(modality).detach()), None)]


_TRANSLATIONS: dict[type, Callable[[Any, Modality], Sequence[Part]]] = {
    Identity: lambda _step, _modality: [],
    Dropout: lambda _step, _modality: [],
    Linear: lambda step, _modality: [Dense(step.linear.weight, step.linear.bias)],
    Norm: lambda step, _modality: [LayerNorm(step.norm)],
    Mlp: _translate_mlp,
    AddFusion: _translate_addition,
    MulFusion: _translate_product,
}


def _build(part: Part, name: str) -> Any:
    from sentence_transformers.sentence_transformer import modules

    if isinstance(part, LayerNorm):
        (width,) = part.norm.normalized_shape
        norm = modules.LayerNorm(width)
        # without a gain and bias of its own it is the new norm, which has 1 and 0
        if part.norm.elementwise_affine:
            norm.norm.load_state_dict(part.norm.state_dict())
        return norm
    out, width = part.weight.shape
    dense = modules.Dense(
        width,
        out,
        bias=part.bias is not None,
        activation_function=nn.GELU() if part.gelu else nn.Identity(),
        module_input_name=name,
    )
    state = {"weight": part.weight, **({} if part.bias is None else {"bias": part.bias})}
    dense.linear.load_state_dict(state)
    return dense


def _part(step: Step) -> str:
    return type(step).__module__.rpartition(".")[2].replace("_", "-")


def _inexpressible(what: str, reason: str) -> ExportError:
    return ExportError(
        f"{what} cannot be expressed in stock modules of sentence-transformers: {reason}; "
        "--to onnx can write it"
    )
