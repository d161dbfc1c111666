"""An adapter maps the features of each of two sides alone into one shared space.

The sides are images and texts, or two texts of different encoders.

Axis names: `batch` rows, `tokens` positions after padding, `width` features of one token, `embed`
features of an embedding.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..featcache.config import Table
from ..featcache.errors import SpecError
from ..featcache.hardware import free_memory
from ..featcache.registry import Registry
from ..featcache.tokens import PooledTokens, Tokens
from ..featcache.types import Side, sides_of
from .context import name_vectors
from .masking import without_padding
from .options import read_options
from .step import Step

STEPS = Registry("step", f"{__package__}.steps", Path(__file__).parent / "steps", Step)
SHARED = "both"  # name of the tower that both sides share
_MOST_FEATURES = 2**24  # of one token; the widest encoders have some ten thousand


class Adapter(nn.Module):
    """Run the tokens of a side through its steps and normalise the one token that is left.

    Whatever takes tokens raises a SpecError where they are not as wide as it was built for.

    Args:
        steps: All steps by name, `both/fuse` or `image/project`; each once, shared ones too.
        paths: Names of the steps of each side, in order.
        widths: Features of one input token of each side.

    Attributes:
        widths: As given.
        out_width: Features of an embedding.
    """

    def __init__(
        self,
        steps: Mapping[str, Step],
        *,
        paths: Mapping[Side, Sequence[str]],
        widths: Mapping[Side, int],
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleDict(steps)
        self.paths = {side: tuple(names) for side, names in paths.items()}
        self.widths = dict(widths)
        ends = {side.value: steps[names[-1]].out_width for side, names in self.paths.items()}
        if len(set(ends.values())) > 1:
            raise SpecError(f"the towers must end in one width, found {ends}")
        self.out_width = next(iter(ends.values()))

    def embed(self, tokens: Tokens, side: Side) -> Float[Tensor, "batch embed"]:
        """Return the embedding of each row, of length 1, in float32 (float64 if weights are).

        The values may be of any floating dtype, such as the float16 of a store. Padding may hold
        anything, even NaN: it is set to zero first, so that neither results nor gradients see it.
        """
        embedding: Tensor = self(tokens, side)
        return embedding

    def forward(self, tokens: Tokens, side: Side) -> Float[Tensor, "batch embed"]:
        """Embed rows as `embed` does; call that one, which has types."""
        return functional.normalize(self.embed_unnormalised(tokens, side), dim=1)

    def embed_unnormalised(self, tokens: Tokens, side: Side) -> Float[Tensor, "batch embed"]:
        """Return the embedding of each row before it is divided by its length."""
        pooled = self._run(tokens, side, self.paths[side]).values[:, 0]
        # float32 even under autocast, for the sake of the cosines
        return pooled.to(torch.promote_types(pooled.dtype, torch.float32))

    def features_before(
        self, tokens: Tokens, side: Side, name: str
    ) -> Float[Tensor, "batch features"]:
        """Return the one token of each row that the step `name` reads.

        Raises:
            SpecError: It reads several.
        """
        values = self.tokens_before(tokens, side, name).values
        if values.shape[1] != 1:
            raise SpecError(f"step {name!r} reads several tokens a row: put a pool before it")
        return values[:, 0]

    def tokens_before(self, tokens: Tokens, side: Side, name: str) -> Tokens:
        """Return what the step `name` reads of each row."""
        names = self.paths[side]
        return self._run(tokens, side, names[: names.index(name)])

    def num_fixed(self, side: Side) -> int:
        """Return how many first steps of a side always make the same of a row; see `Step.fixed`."""
        steps = [self.steps[name] for name in self.paths[side]]
        return next((at for at, step in enumerate(steps) if not step.fixed), len(steps))

    def fixed_width(self, side: Side) -> int:
        """Return the features of one token after the first `num_fixed` steps."""
        count = self.num_fixed(side)
        if not count:
            return self.widths[side]
        last = self.steps[self.paths[side][count - 1]]
        assert isinstance(last, Step), "towers hold nothing else"
        return last.out_width

    @torch.no_grad()
    def pool(self, tokens: Tokens, side: Side) -> PooledTokens:
        """Return what the first `num_fixed` steps make of tokens; `embed` and `before` go on."""
        count = self.num_fixed(side)
        exact = self.is_exact(side)
        pooled = self._run(tokens, side, self.paths[side][:count], exact=exact)
        return PooledTokens(pooled.values, pooled.mask, count)

    def is_exact(self, side: Side) -> bool:
        """Return whether the tower of a side takes features as they are under autocast."""
        return any(self.steps[name].exact for name in self.paths[side])

    def _run(
        self, tokens: Tokens, side: Side, names: Sequence[str], *, exact: bool | None = None
    ) -> Tokens:
        is_pooled = isinstance(tokens, PooledTokens)
        width = self.fixed_width(side) if is_pooled else self.widths[side]
        if tokens.width != width:
            raise SpecError(
                f"the adapter reads {side.value} tokens of width {width}, "
                f"found {tokens.width}: use the encoder it was trained with"
            )
        if exact is None:
            exact = any(self.steps[name].exact for name in names)
        dtype = self._input_dtype(tokens, exact=exact)
        done = tokens.num_steps if isinstance(tokens, PooledTokens) else 0
        tokens = tokens.with_values(without_padding(tokens).to(dtype))
        for name in names[done:]:
            tokens = self.steps[name](tokens, side)
        return tokens

    def _input_dtype(self, tokens: Tokens, *, exact: bool) -> torch.dtype:
        device = tokens.values.device.type
        if torch.is_autocast_enabled(device) and not exact:
            # the first matrix would cast anyway; half the bytes for what stands before it
            return torch.get_autocast_dtype(device)
        weight = next(self.parameters(), None)
        return torch.float32 if weight is None else weight.dtype


def parameter_groups(
    parameters: Iterable[nn.Parameter], *, weight_decay: float, decay_all: bool = False
) -> list[dict[str, Any]]:
    """Return optimiser groups with and without weight decay.

    Only what multiplies features is decayed, and that is exactly what has two axes or more:
    biases, gains of norms and context vectors have one, the scale of an objective has none.
    Parameters that do not require a gradient are left out, and so are empty groups.

    Args:
        parameters: Those of an adapter, an objective, or whatever is trained.
        weight_decay: Decay of the first group.
        decay_all: Whether all parameters are of the first group.
    """
    trained = [p for p in parameters if p.requires_grad]
    decayed = [p for p in trained if decay_all or p.ndim >= 2]
    others = [p for p in trained if not decay_all and p.ndim < 2]
    groups = (decayed, weight_decay), (others, 0.0)
    return [{"params": group, "weight_decay": decay} for group, decay in groups if group]


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable scalars; a shared parameter counts once."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def build_adapter(towers: Mapping[str, Any], *, widths: Mapping[Side, int], seed: int) -> Adapter:
    """Build the adapter that a preset's `[towers]` table describes.

    `[towers.both]` is a table of slots in order, each a table with the name of its `part` and
    options of that part. Both sides share the module of a slot, unless it says
    `per_modality = true`. `[towers.image]` and `[towers.text]` share nothing, nor do
    `[towers.first_text]` and `[towers.second_text]`.

    Args:
        towers: The table.
        widths: Features of one input token of each side.
        seed: Seed of the initial weights. The global generators are left as they were.

    Raises:
        SpecError: A table is malformed, an option unknown, missing or wrong, a shared slot meets
            different widths, a tower does not end in one token a row, the towers end in different
            widths, or they do not fit into memory.
        UnknownNameError: No step has the name of a part.
    """
    outline = outline_adapter(towers, widths=widths)
    num_bytes, free = sum(tensor.nbytes for tensor in outline.state_dict().values()), free_memory()
    if num_bytes > free:
        raise SpecError(
            f"[towers] describes an adapter of {num_bytes / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB "
            "of memory are free: give its parts smaller sizes"
        )
    with torch.random.fork_rng(devices=[]):
        # the CPU's generator only: torch.manual_seed would reseed those of all devices
        torch.default_generator.manual_seed(seed)
        adapter = _assemble(towers, widths)
        _check_one_token(adapter)
    return adapter


def outline_adapter(towers: Mapping[str, Any], *, widths: Mapping[Side, int]) -> Adapter:
    """Build the adapter that `build_adapter` builds, on the meta device: names and shapes alone.

    Nothing is allocated, however large the numbers of the table are.

    Raises:
        SpecError: See `build_adapter`, or a number is larger than any tensor's axis.
        UnknownNameError: No step has the name of a part.
    """
    _check_towers(towers, widths)
    for side, width in widths.items():
        if type(width) is not int or not 1 <= width <= _MOST_FEATURES:
            raise SpecError(
                f"[widths].{side.value} must be from 1 to {_MOST_FEATURES:,}, found {width!r:.80}"
            )
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return _assemble(towers, widths)
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:  # of sizes alone
        reason = str(error).splitlines()[0]
        raise SpecError(f"[towers] cannot be built, a size is too large: {reason:.200}") from error


def _assemble(towers: Mapping[str, Any], widths: Mapping[Side, int]) -> Adapter:
    # in the order of the enumeration, so that equal seeds give equal weights
    sides = sides_of([side.value for side in widths])
    steps: dict[str, Step] = {}
    paths: dict[Side, list[str]] = {}
    for owner, tower in towers.items():
        tower_widths = {side: widths[side] for side in sides if owner in (SHARED, side.value)}
        tower_steps, tower_paths = _build_tower(tower, owner=owner, widths=tower_widths)
        steps |= tower_steps
        paths |= tower_paths
    for step in steps.values():
        name_vectors(step, sides)
    return Adapter(steps, paths=paths, widths=widths)


def _check_towers(towers: Mapping[str, Any], widths: Mapping[Side, int]) -> None:
    separate = sorted(side.value for side in widths)
    if sorted(towers) not in ([SHARED], separate):
        raise SpecError(
            f"[towers] must hold either {SHARED!r} alone or {separate}, found {sorted(towers)}"
        )
    for owner, tower in towers.items():
        if not isinstance(tower, Mapping) or not tower:
            raise SpecError(f"[towers.{owner}] must be a table of slots, found {tower!r}")


def _build_tower(
    tower: Mapping[str, Any], *, owner: str, widths: Mapping[Side, int]
) -> tuple[dict[str, Step], dict[Side, list[str]]]:
    steps: dict[str, Step] = {}
    paths: dict[Side, list[str]] = {side: [] for side in widths}
    current = dict(widths)
    for slot, entry in tower.items():
        where = f"[towers.{owner}].{slot}"
        part, options, per_modality = _read_slot(slot, entry, where=where)
        users: dict[str, list[Side]] = {owner: list(widths)}
        if per_modality:
            users = {side.value: [side] for side in widths}
        for user, sides in users.items():
            width = current[sides[0]]
            if any(current[side] != width for side in sides):
                inputs = " and ".join(f"{s.value} tokens of width {current[s]}" for s in sides)
                raise SpecError(
                    f"{where} is shared but meets {inputs}: say per_modality = true or project "
                    "them first"
                )
            name = f"{user}/{slot}"  # the slash keeps slots apart from attributes of a module
            steps[name] = _build_step(part, width, options, where=where)
            for side in sides:
                paths[side].append(name)
                current[side] = steps[name].out_width
    return steps, paths


def _read_slot(slot: str, entry: Any, *, where: str) -> tuple[str, Table, bool]:
    if "." in slot or not slot:
        raise SpecError(f"{where}: the name of a slot may not be empty or hold a dot")
    if not isinstance(entry, Mapping) or not isinstance(entry.get("part"), str):
        raise SpecError(f"{where} must be a table that names its part, found {entry!r}")
    options = dict(entry)
    part = options.pop("part")
    per_modality = options.pop("per_modality", False)
    if not isinstance(per_modality, bool):
        raise SpecError(f"{where}.per_modality must be true or false, found {per_modality!r}")
    return part, options, per_modality


def _build_step(part: str, width: int, options: Table, *, where: str) -> Step:
    step = STEPS.load(part)
    arguments = read_options(step, options, where=f"{where} ({part})")
    try:
        return step(width, **arguments)
    except SpecError as error:
        raise SpecError(f"{where} ({part}): {error}") from error


def _check_one_token(adapter: Adapter) -> None:
    """Run two made-up rows of three and two tokens through each tower, in evaluation mode."""
    mask = torch.tensor([[True, True, True], [True, True, False]])
    for side, names in adapter.paths.items():
        tokens = Tokens(torch.randn(2, 3, adapter.widths[side]), mask)
        for name in names:
            step = adapter.steps[name].eval()
            with torch.no_grad():
                tokens = step(tokens, side)
            step.train()
            assert tokens.width == step.out_width, f"{name} does not keep its out_width"
        if tokens.values.shape[1] != 1:
            raise SpecError(
                f"the {side.value} tower ends in several tokens a row: "
                "let its last step be a pool, such as { part = 'mean-pool' }"
            )
