"""An adapter maps the features of each of two sides alone into one shared space.

The sides are of two modalities, such as images and texts, or of one by two encoders.

Axis names: `batch` rows, `tokens` positions after padding, `width` features of one token, `embed`
features of an embedding.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..featcache.config import Table
from ..featcache.errors import SpecError
from ..featcache.registry import Registry
from ..featcache.tokens import PooledTokens, StreamTokens, Tokens
from ..featcache.types import Side, sides_of
from .building import check_memory, outlining, seeded
from .context import name_vectors
from .masking import without_padding
from .options import construct
from .preset import BOTH, JOIN
from .step import Step

STEPS = Registry("step", f"{__package__}.steps", Path(__file__).parent / "steps", Step)
_MOST_FEATURES = 2**24  # of one token; the widest encoders have some ten thousand

# features of one input token, or of one of each stream where there are several
Widths: TypeAlias = int | Sequence[int]


class Adapter(nn.Module):
    """Run the tokens of a side through its steps and normalise the one token that is left.

    A tower may read several streams, which are features of the same items from several encoders or
    layers. Its steps before the one that joins them act on each stream.
    Whatever takes tokens raises a SpecError where they are not as wide, or not as many streams, as
    it was built for.

    Args:
        steps: All steps by name, `both/fuse` or `image/project`; each once, shared ones too. A step
            of the second stream alone is called `image-2/project`.
        paths: Names of the steps of each side, in order, from the one that joins its streams on.
        widths: Features of one input token of each side, or of each of its streams.
        before_join: Names of the steps before, of each stream; no entry of a side of one stream.

    Attributes:
        widths: Features of one token of each side, those of all its streams together.
        stream_widths: Those of each stream.
        out_width: Features of an embedding.
    """

    def __init__(
        self,
        steps: Mapping[str, Step],
        *,
        paths: Mapping[Side, Sequence[str]],
        widths: Mapping[Side, Widths],
        before_join: Mapping[Side, Sequence[Sequence[str]]] | None = None,
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleDict(steps)
        self.paths = {side: tuple(names) for side, names in paths.items()}
        self.before_join = {
            side: tuple(map(tuple, streams)) for side, streams in (before_join or {}).items()
        }
        # one step of each stream, and then one of all
        self._stages = {
            side: [
                *zip(*self.before_join.get(side, ()), strict=True),
                *((name,) for name in names),
            ]
            for side, names in self.paths.items()
        }
        self.stream_widths = {side: each_width(width) for side, width in widths.items()}
        self.widths = {side: sum(of_streams) for side, of_streams in self.stream_widths.items()}
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
        pooled = self.tokens_after(tokens, side).values[:, 0]
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
        """Return what the step `name` reads of each row; of its stream, where it is of one."""
        stages = self._stages[side]
        place = next(place for place, names in enumerate(stages) if name in names)
        streams = self._run(tokens, side, stages[:place]).streams
        if len(stages[place]) == 1:
            return StreamTokens.of(streams)
        return streams[stages[place].index(name)]

    def tokens_after(self, tokens: Tokens, side: Side) -> Tokens:
        """Return what the last step of a side gives."""
        return self._run(tokens, side, self._stages[side])

    def steps_of(self, side: Side) -> tuple[str, ...]:
        """Return the names of all steps that a side runs through, in order, streams in turn."""
        return tuple(name for names in self._stages[side] for name in names)

    def path_of(self, side: Side, stream: int) -> tuple[str, ...]:
        """Return the names of the steps that one stream of a side runs through, in order."""
        before = self.before_join.get(side)
        return (before[stream] if before else ()) + self.paths[side]

    def num_fixed(self, side: Side) -> int:
        """Return how many first steps of a side always make the same of a row; see `Step.fixed`."""
        stages = self._stages[side]
        changing = (
            place
            for place, names in enumerate(stages)
            if not all(self.steps[name].fixed for name in names)
        )
        return next(changing, len(stages))

    def fixed_width(self, side: Side) -> int:
        """Return the features of one token after the first `num_fixed` steps, of all streams."""
        return sum(self._fixed_widths(side))

    def _fixed_widths(self, side: Side) -> tuple[int, ...]:
        """Return the features of one token of each stream after the first `num_fixed` steps."""
        count = self.num_fixed(side)
        if not count:
            return self.stream_widths[side]
        return tuple(self._step(name).out_width for name in self._stages[side][count - 1])

    def _step(self, name: str) -> Step:
        step = self.steps[name]
        assert isinstance(step, Step), "towers hold nothing else"
        return step

    @torch.no_grad()
    def pool(self, tokens: Tokens, side: Side) -> PooledTokens:
        """Return what the first `num_fixed` steps make of tokens; `embed` and `before` go on.

        Streams that leave one token each are put side by side.
        """
        count = self.num_fixed(side)
        exact = self.is_exact(side)
        streams = self._run(tokens, side, self._stages[side][:count], exact=exact).streams
        values = torch.cat([stream.values for stream in streams], dim=2)
        return PooledTokens(values, streams[0].mask, count)

    def is_exact(self, side: Side) -> bool:
        """Return whether the tower of a side takes features as they are under autocast."""
        return any(self.steps[name].exact for name in self.steps_of(side))

    def _run(
        self,
        tokens: Tokens,
        side: Side,
        stages: Sequence[Sequence[str]],
        *,
        exact: bool | None = None,
    ) -> Tokens:
        done, streams = self._read(tokens, side)
        if exact is None:
            exact = any(self.steps[name].exact for names in stages for name in names)
        dtype = self._input_dtype(streams[0], exact=exact)
        streams = [stream.with_values(without_padding(stream).to(dtype)) for stream in streams]
        for names in stages[done:]:
            streams = self._advance(streams, side, names)
        return StreamTokens.of(streams)

    def _advance(self, streams: Sequence[Tokens], side: Side, names: Sequence[str]) -> list[Tokens]:
        """Return the streams behind the steps of one stage."""
        if len(names) < len(streams):
            streams = [StreamTokens.of(streams)]
        return [self.steps[name](stream, side) for name, stream in zip(names, streams, strict=True)]

    def check_one_token(self) -> None:
        """Run two made-up rows of three and two tokens through each tower, in evaluation mode.

        Raises:
            SpecError: A tower ends in several tokens a row.
        """
        mask = torch.tensor([[True, True, True], [True, True, False]])
        self.eval()
        for side, widths in self.stream_widths.items():
            streams = [Tokens(torch.randn(2, 3, width), mask) for width in widths]
            for names in self._stages[side]:
                with torch.no_grad():
                    streams = self._advance(streams, side, names)
                for name, stream in zip(names, streams, strict=True):
                    step = self._step(name)
                    assert stream.width == step.out_width, f"{name} does not keep its out_width"
            if streams[0].values.shape[1] != 1:
                raise SpecError(
                    f"the {side.value} tower ends in several tokens a row: "
                    "let its last step be a pool, such as { part = 'mean-pool' }"
                )
        self.train()

    def _read(self, tokens: Tokens, side: Side) -> tuple[int, list[Tokens]]:
        """Return how many stages tokens have been through, and their streams."""
        is_pooled = isinstance(tokens, PooledTokens)
        widths = self._fixed_widths(side) if is_pooled else self.stream_widths[side]
        streams, done = list(tokens.streams), 0
        if isinstance(tokens, PooledTokens):
            done = tokens.num_steps
            if len(widths) > 1 and tokens.width == sum(widths):
                parts = torch.split(tokens.values, list(widths), dim=2)
                streams = [Tokens(values, tokens.mask) for values in parts]
        if tuple(stream.width for stream in streams) != tuple(widths):
            reads, read = (
                " and ".join(map(str, each)) for each in (widths, [s.width for s in streams])
            )
            raise SpecError(
                f"the adapter reads {side.value} tokens of width {reads}, "
                f"found {read}: use the encoder it was trained with"
            )
        return done, streams

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


def table_of(name: str) -> str:
    """Return the table of `[towers]` that a step stands in, or the side of one of a stream.

    Worked: `image-2/project` is the second stream's, and `image/project` the first one's, of the
    slot `project` of `image`.
    """
    return name.partition("/")[0].partition("-")[0]


def each_width(width: Widths) -> tuple[int, ...]:
    """Return the features of one token of each stream."""
    return (width,) if isinstance(width, int) else tuple(width)


def build_adapter(
    towers: Mapping[str, Any], *, widths: Mapping[Side, Widths], seed: int
) -> Adapter:
    """Build the adapter that a preset's `[towers]` table describes.

    `[towers.both]` is a table of slots in order, each a table with the name of its `part` and
    options of that part. Both sides share the module of a slot, unless it says
    `per_modality = true`. `[towers.image]` and `[towers.text]` share nothing, nor do
    `[towers.first_text]` and `[towers.second_text]`.

    Where a side has several streams, each has a module of its own in every slot before that of the
    part `join`, unless the slot says `per_stream = false`.

    Args:
        towers: The table.
        widths: Features of one input token of each side, or of each of its streams.
        seed: Seed of the initial weights. The global generators are left as they were.

    Raises:
        SpecError: A table is malformed, an option unknown, missing or wrong, a shared slot meets
            different widths, a tower does not join its streams or does not end in one token a row,
            the towers end in different widths, or they do not fit into memory.
        UnknownNameError: No step has the name of a part.
    """
    outline = outline_adapter(towers, widths=widths)
    check_memory(outline, described="[towers] describes an adapter")
    with seeded(seed):
        adapter = assemble(towers, widths)
        adapter.check_one_token()
    return adapter


def outline_adapter(towers: Mapping[str, Any], *, widths: Mapping[Side, Widths]) -> Adapter:
    """Build the adapter that `build_adapter` builds, on the meta device: names and shapes alone.

    Nothing is allocated, however large the numbers of the table are.

    Raises:
        SpecError: See `build_adapter`, or a number is larger than any tensor's axis.
        UnknownNameError: No step has the name of a part.
    """
    check_towers(towers, widths)
    with outlining("[towers]"):
        return assemble(towers, widths)


def assemble(towers: Mapping[str, Any], widths: Mapping[Side, Widths]) -> Adapter:
    """Build the towers of a checked table, drawn from the global generator.

    Raises:
        SpecError: See `build_adapter`.
        UnknownNameError: No step has the name of a part.
    """
    # in the order of the enumeration, so that equal seeds give equal weights
    sides = sides_of([side.value for side in widths])
    assembly = _Assembly({side: widths[side] for side in sides})
    for owner, tower in towers.items():
        assembly.add_tower(owner, tower)
    for step in assembly.steps.values():
        step.sides = sides
        name_vectors(step, sides)
    return Adapter(
        assembly.steps, paths=assembly.paths, widths=widths, before_join=assembly.before_join
    )


def check_towers(towers: Mapping[str, Any], widths: Mapping[Side, Widths]) -> None:
    """Check that towers are those of the sides of `widths`, and that widths can be such.

    Raises:
        SpecError: They are not.
    """
    separate = sorted(side.value for side in widths)
    if sorted(towers) not in ([BOTH], separate):
        raise SpecError(
            f"[towers] must hold either {BOTH!r} alone or {separate}, found {sorted(towers)}"
        )
    for owner, tower in towers.items():
        if not isinstance(tower, Mapping) or not tower:
            raise SpecError(f"[towers.{owner}] must be a table of slots, found {tower!r}")
    for side, of_side in widths.items():
        of_streams = of_side if isinstance(of_side, list | tuple) and of_side else [of_side]
        for width in of_streams:
            if type(width) is not int or not 1 <= width <= _MOST_FEATURES:
                raise SpecError(
                    f"[widths].{side.value} must be from 1 to {_MOST_FEATURES:,}, "
                    f"found {width!r:.80}"
                )


class _Slot(NamedTuple):
    """Slot of a tower: its part, the options of that, and who shares its module."""

    part: str
    options: Table
    per_modality: bool
    per_stream: bool


class _Assembly:
    """Steps of all towers, and the way of each stream through them.

    Attributes:
        steps: All steps by name.
        paths: Names of the steps of each side, from its join on.
        before_join: Those of each stream before it, of a side of several.
        current: Features of one token of each stream, behind the steps that are there.
    """

    def __init__(self, widths: Mapping[Side, Widths]) -> None:
        self.current = {side: list(each_width(width)) for side, width in widths.items()}
        self.steps: dict[str, Step] = {}
        self.paths: dict[Side, list[str]] = {side: [] for side in widths}
        self.before_join: dict[Side, list[list[str]]] = {
            side: [[] for _ in streams] for side, streams in self.current.items() if streams[1:]
        }

    def add_tower(self, owner: str, tower: Mapping[str, Any]) -> None:
        """Add the slots of one table, in order."""
        sides = [side for side in self.paths if owner in (BOTH, side.value)]
        for name, entry in tower.items():
            where = f"[towers.{owner}].{name}"
            slot = _read_slot(name, entry, where=where)
            if slot.part == JOIN:
                for side in sides:
                    self._join(side, name, slot, where)
            else:
                for user, places in self._users(owner, sides, slot).items():
                    # the slash keeps slots apart from attributes of a module
                    self._add(f"{user}/{name}", places, slot, where)
        for side in sides:
            count = len(self.current[side])
            if count > 1:
                raise SpecError(
                    f"[towers.{owner}] has no slot with the part {JOIN!r}, so the {side.label} "
                    f"tower reads one stream, found {count}: name one encoder and one layer"
                )

    def _users(
        self, owner: str, sides: Sequence[Side], slot: _Slot
    ) -> dict[str, list[tuple[Side, int]]]:
        """Return by owner the streams that share a module of a slot."""
        users: dict[str, list[tuple[Side, int]]] = {}
        for side in sides:
            user = side.value if slot.per_modality else owner
            for stream in range(len(self.current[side])):
                # the first has the name that it has where it is alone
                number = f"-{stream + 1}" if stream and slot.per_stream else ""
                users.setdefault(f"{user}{number}", []).append((side, stream))
        return users

    def _add(self, name: str, places: Sequence[tuple[Side, int]], slot: _Slot, where: str) -> None:
        width = _one_width(self.current, places, where=where)
        step = self.steps[name] = construct(
            STEPS, slot.part, width, options=slot.options, where=where
        )
        for side, stream in places:
            is_joined = len(self.current[side]) == 1
            (self.paths[side] if is_joined else self.before_join[side][stream]).append(name)
            self.current[side][stream] = step.out_width

    def _join(self, side: Side, slot_name: str, slot: _Slot, where: str) -> None:
        if len(self.current[side]) == 1:
            return  # there is nothing to join
        name = f"{side.value}/{slot_name}"
        step = construct(STEPS, slot.part, self.current[side], options=slot.options, where=where)
        self.steps[name] = step
        self.paths[side].append(name)
        self.current[side] = [step.out_width]


def _one_width(
    current: Mapping[Side, Sequence[int]], places: Sequence[tuple[Side, int]], *, where: str
) -> int:
    """Return the width that all of a module's users give it.

    Raises:
        SpecError: They give different ones.
    """
    widths = [current[side][stream] for side, stream in places]
    if len(set(widths)) == 1:
        return widths[0]
    inputs = " and ".join(
        f"{side.value} tokens of width {width}"
        for (side, _), width in zip(places, widths, strict=True)
    )
    option = "per_modality" if len({side for side, _ in places}) > 1 else "per_stream"
    raise SpecError(
        f"{where} is shared but meets {inputs}: say {option} = true or project them first"
    )


def _read_slot(slot: str, entry: Any, *, where: str) -> _Slot:
    if "." in slot or not slot:
        raise SpecError(f"{where}: the name of a slot may not be empty or hold a dot")
    if not isinstance(entry, Mapping) or not isinstance(entry.get("part"), str):
        raise SpecError(f"{where} must be a table that names its part, found {entry!r}")
    options = dict(entry)
    part = options.pop("part")
    sharing = {"per_modality": False, "per_stream": True}
    for name, default in sharing.items():
        sharing[name] = options.pop(name, default)
        if not isinstance(sharing[name], bool):
            raise SpecError(f"{where}.{name} must be true or false, found {sharing[name]!r}")
    return _Slot(part, options, **sharing)
