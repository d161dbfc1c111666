"""A joint adapter reads an item of each of two sides together, with attention between them.

An `Adapter` embeds each side alone and compares what comes out; a joint adapter scores a pair, or
answers a question about an image, and has to be run for every pair.

Axis names: `batch` rows, each an item of both sides; `tokens` positions of a side after padding,
`boxes` slots for boxes.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..featcache.errors import SpecError
from ..featcache.registry import Registry
from ..featcache.tokens import Tokens
from ..featcache.types import Side, Sides, in_words, side_called, sides_of
from .adapter import Adapter, Widths, assemble, check_towers
from .building import check_memory, outlining, seeded
from .head import POOLED, Head, HeadInputs, build_head
from .joint_objective import JOINT_OBJECTIVES, objective_weights
from .joint_step import JointStep
from .joint_tokens import Boxes, Joint, JointTokens, blinded
from .options import construct, split_part
from .step import BankStep, FittedStep

JOINT_STEPS = Registry(
    "joint step", f"{__package__}.joint_steps", Path(__file__).parent / "joint_steps", JointStep
)
_DESCRIBED = "[towers], [joint] and [heads]"


class JointAdapter(nn.Module):
    """Run the tokens of each side through its tower, those of both through the joint steps.

    Whatever takes tokens raises a SpecError where they are not as wide, or not as many streams, as
    it was built for.

    Args:
        towers: What each side does alone; its steps may leave several tokens a row.
        steps: Joint steps by name, in order; the last one that pools decides what is pooled.
        heads: Heads by name, such as `itm`.
        listed: Entries of each list that the heads were built for, by its name, such as `answers`.
        blind: Name of a side of which it sees one token of zeros, as a control; or empty.

    Attributes:
        widths: Features of one token of each side, those of all its streams together.
        stream_widths: Those of each stream.
        sides: The two sides, in the order that counts.
        token_width: Features of a fused token.
        pooled_width: Features of the vector of a row.
        num_types: Token types that it tells apart; 0 for none.
    """

    def __init__(
        self,
        towers: Adapter,
        *,
        steps: Mapping[str, JointStep],
        heads: Mapping[str, Head],
        listed: Mapping[str, int] | None = None,
        blind: str = "",
    ) -> None:
        super().__init__()
        self.towers = towers
        self.blind = blind
        self.steps = nn.ModuleDict(steps)
        self.heads = nn.ModuleDict(heads)
        self.listed = dict(listed or {})
        self.widths, self.stream_widths = towers.widths, towers.stream_widths
        self.sides = _sides_of(towers.widths)
        if blind and blind not in {side.value for side in self.sides}:
            raise SpecError(
                f"blind names a side, {' or '.join(side.value for side in self.sides)}, found "
                f"{blind!r}"
            )
        in_order = list(steps.values())
        self.token_width = in_order[-1].out_width
        self.pooled_width = _pooled_width(in_order)
        self.num_types = max(step.num_types for step in in_order)

    def forward(
        self,
        tokens: Mapping[Side, Tokens],
        types: Mapping[Side, Int64[Tensor, "batch tokens"]] | None = None,
        boxes: Mapping[Side, Boxes] | None = None,
    ) -> Joint:
        """Read row i of both sides together, for all i.

        The values may be of any floating dtype, such as the float16 of a store. Padding may hold
        anything, even NaN: it is set to zero first, so that neither results nor gradients see it.

        Args:
            tokens: Tokens of each side, of equally many rows.
            types: Token types of some sides, as many a row as their tokens; of a side without
                them 0 for the second (texts) and 1 for the first (images).
            boxes: Boxes of some sides, whose tokens come behind the others.

        Raises:
            SpecError: A side is not there, rows are not equally many, or types or boxes do not fit
                the adapter.
        """
        return self._fused(self._read(tokens, types or {}, boxes or {}))

    def tokens_behind(self, tokens: Tokens, side: Side) -> Tokens:
        """Return what the tower of a side makes of its tokens, or of a zero in their place."""
        seen = blinded(tokens) if side.value == self.blind else tokens
        return self.towers.tokens_after(seen, side)

    def fuse(self, behind: Mapping[Side, Tokens]) -> Joint:
        """Read row i of both sides together, for all i, of tokens that are behind their towers.

        `tokens_behind` gives these: an item that is read with many others goes through its
        tower once. Types are those that `forward` takes where it is told none.
        """
        default_types = dict(zip(reversed(self.sides), (0, 1), strict=True))
        types = {
            side: torch.full_like(behind[side].mask, default_types[side], dtype=torch.int64)
            for side in self.sides
        }
        return self._fused(JointTokens({side: behind[side] for side in self.sides}, types))

    def _fused(self, rows: JointTokens) -> Joint:
        for step in self.steps.values():
            rows = step(rows)
        assert rows.pooled is not None, "a step of every joint adapter pools"
        return Joint(rows.tokens, rows.pooled)

    def logits(
        self,
        joint: Joint,
        names: Iterable[str] | None = None,
        places: Mapping[str, Int64[Tensor, "units 2"]] | None = None,
    ) -> dict[str, Tensor]:
        """Return the logits of each head, or of those called `names`, by name.

        A head that reads the vectors of rows gives some for each row, one that reads tokens for
        each of `places`.

        Args:
            joint: Rows that were read jointly.
            names: Names of heads; all if None.
            places: Row and position of each token that a head reads, by its name.

        Raises:
            SpecError: It has no such head.
        """
        asked = list(self.heads) if names is None else list(names)
        if missing := [name for name in asked if name not in self.heads]:
            raise SpecError(
                f"the joint adapter has no head {missing[0]!r}, its heads are {list(self.heads)}: "
                "take a run that was trained with it"
            )
        return {name: self.heads[name](self._vectors(joint, name, places)) for name in asked}

    def _vectors(
        self, joint: Joint, name: str, places: Mapping[str, Int64[Tensor, "units 2"]] | None
    ) -> Float[Tensor, "units width"]:
        """Return the vectors that a head reads."""
        head = self.heads[name]
        assert isinstance(head, Head)
        if head.reads == POOLED:
            return joint.pooled
        rows, positions = (places or {})[name].unbind(dim=1)
        return joint.tokens[side_called(head.reads)].values[rows, positions]

    def _read(
        self,
        tokens: Mapping[Side, Tokens],
        types: Mapping[Side, Int64[Tensor, "batch tokens"]],
        boxes: Mapping[Side, Boxes],
    ) -> JointTokens:
        """Return what the first joint step reads."""
        self._check_sides(tokens, types, boxes)
        lengths = {side.value: len(tokens[side]) for side in self.sides}
        if len(set(lengths.values())) > 1:
            raise SpecError(f"a row is an item of each side, found {lengths} rows")
        if not self.num_types and (types or boxes):
            raise SpecError(
                "the joint adapter tells no token types apart, and was given types or boxes: let "
                "[joint] have a step such as { part = 'token-types' }"
            )
        read, read_types = {}, {}
        default_types = dict(zip(reversed(self.sides), (0, 1), strict=True))
        for side in self.sides:
            behind = self.tokens_behind(tokens[side], side)
            of_side = self._types_of(side, behind, types.get(side), default_types[side])
            if side in boxes:
                behind, of_side = self._with_boxes(side, behind, of_side, boxes[side])
            read[side], read_types[side] = behind, of_side
        return JointTokens(read, read_types)

    def _check_sides(self, tokens: Collection[Side], *optional: Collection[Side]) -> None:
        if missing := [side.label for side in self.sides if side not in tokens]:
            raise SpecError(
                f"the joint adapter reads {in_words(self.sides)} together, found no "
                f"{missing[0]} tokens: give an item of each side"
            )
        sides = [side for mapping in (tokens, *optional) for side in mapping]
        if others := [side for side in sides if side not in self.sides]:
            raise SpecError(
                f"the joint adapter reads {in_words(self.sides)}, found {others[0].value}"
            )

    def _types_of(
        self,
        side: Side,
        tokens: Tokens,
        types: Int64[Tensor, "batch tokens"] | None,
        default: int,
    ) -> Int64[Tensor, "batch tokens"]:
        if types is None:
            return torch.full_like(tokens.mask, default, dtype=torch.int64)
        if types.shape != tokens.mask.shape:
            raise SpecError(
                f"types of {side.value} tokens must be {tuple(tokens.mask.shape)} behind its "
                f"tower, found {tuple(types.shape)}"
            )
        # what stands at padding is not looked at, and must not be looked up, either
        checked = torch.where(tokens.mask, types, 0)
        self._check_types(side, checked)
        return checked

    def _with_boxes(
        self,
        side: Side,
        tokens: Tokens,
        types: Int64[Tensor, "batch tokens"],
        boxes: Boxes,
    ) -> tuple[Tokens, Int64[Tensor, "batch tokens_and_boxes"]]:
        """Return tokens and types of a side with those of its boxes behind them."""
        rows, count, covered = boxes.coverage.shape
        if (rows, covered) != tuple(tokens.mask.shape):
            raise SpecError(
                f"boxes must cover the {tokens.mask.shape[1]} {side.value} tokens of each of "
                f"{tokens.mask.shape[0]} rows behind its tower, found {covered} of {rows}"
            )
        if boxes.types is None:
            if count + 2 > self.num_types:
                raise SpecError(
                    f"{count} boxes a row need {count + 2} token types, the joint adapter has "
                    f"{self.num_types}: give the step token-types a larger count"
                )
            slots = torch.arange(2, count + 2, device=types.device)
            of_boxes = slots.expand(rows, count)
        else:
            of_boxes = torch.where(boxes.mask, boxes.types, 0)
            self._check_types(side, of_boxes)
        appended = boxes.tokens_of(tokens)
        joined = Tokens(
            torch.cat([tokens.values, appended.values], dim=1),
            torch.cat([tokens.mask, appended.mask], dim=1),
        )
        return joined, torch.cat([types, of_boxes], dim=1)

    def _check_types(self, side: Side, types: Int64[Tensor, "batch tokens"]) -> None:
        if types.numel() == 0:
            return
        lowest, highest = int(types.min()), int(types.max())
        if lowest < 0 or highest >= self.num_types:
            raise SpecError(
                f"token types of the {side.value} side must be from 0 to {self.num_types - 1}, "
                f"found {lowest} to {highest}: give the step token-types a larger count"
            )


def _sides_of(widths: Mapping[Side, Any]) -> Sides:
    return sides_of([side.value for side in widths])


def _pooled_width(steps: list[JointStep]) -> int:
    widths = [step.pooled_width for step in steps if step.pooled_width]
    if not widths:
        raise SpecError("[joint] must end in a pool, such as pool = { part = 'tanh-pool' }")
    return widths[-1]


def build_joint_adapter(
    table: Mapping[str, Any],
    *,
    widths: Mapping[Side, Widths],
    listed: Mapping[str, int] | None = None,
    seed: int,
) -> JointAdapter:
    """Build the joint adapter that a joint preset describes.

    `[towers]` is what each side does alone, as in other presets; `[joint]` is a table of slots in
    order, each a table with the name of its `part` and options of that, which see both sides; of
    the heads in `[heads]` those are built that `[objective]` reads.

    Args:
        table: The preset.
        widths: Features of one input token of each side, or of each of its streams.
        listed: Entries of each list that heads tell apart, by its name, such as `answers`.
        seed: Seed of the initial weights. The global generators are left as they were.

    Raises:
        SpecError: A table is missing or malformed, an option unknown, missing or wrong, the towers
            end in different widths or have a step that is fitted to rows, no joint step pools, a
            head that the objective reads is not there or has no list, or they do not
            fit into memory.
        UnknownNameError: No step, joint step, head or joint objective has the name of a part.
    """
    outline = outline_joint_adapter(table, widths=widths, listed=listed)
    check_memory(outline, described=f"{_DESCRIBED} describe a joint adapter")
    with seeded(seed):
        return _assemble(table, widths, listed)


def outline_joint_adapter(
    table: Mapping[str, Any],
    *,
    widths: Mapping[Side, Widths],
    listed: Mapping[str, int] | None = None,
) -> JointAdapter:
    """Build what `build_joint_adapter` builds, on the meta device: names and shapes alone.

    Nothing is allocated, however large the numbers of the table are.

    Raises:
        SpecError: See `build_joint_adapter`, or a number is larger than any tensor's axis.
        UnknownNameError: No step, joint step, head or joint objective has the name of a part.
    """
    for name in ("towers", "joint", "heads", "objective"):
        if not isinstance(table.get(name), Mapping) or not table[name]:
            raise SpecError(
                f"[{name}] of a joint preset must be a table, found {table.get(name)!r}"
            )
    check_towers(table["towers"], widths)
    with outlining(_DESCRIBED):
        return _assemble(table, widths, listed)


def _assemble(
    table: Mapping[str, Any], widths: Mapping[Side, Widths], listed: Mapping[str, int] | None
) -> JointAdapter:
    towers = assemble(table["towers"], widths)
    _check_needs_no_rows(towers)
    sides = _sides_of(widths)
    width = towers.out_width
    steps: dict[str, JointStep] = {}
    for slot, entry in table["joint"].items():
        where = f"[joint].{slot}"
        if "." in slot or not slot:
            raise SpecError(f"{where}: the name of a slot may not be empty or hold a dot")
        part, options = split_part(entry, where=where, example="co-attention")
        step = construct(JOINT_STEPS, part, width, sides, options=options, where=where)
        steps[slot], width = step, step.out_width
    inputs = HeadInputs(_pooled_width(list(steps.values())), width, sides, listed or {})
    return JointAdapter(
        towers,
        steps=steps,
        heads={name: build_head(name, table["heads"][name], inputs) for name in heads_read(table)},
        listed=listed,
        blind=str(table.get("blind", "")),
    )


def _check_needs_no_rows(towers: Adapter) -> None:
    """Refuse steps that look at training rows, as the centre of features: nothing shows them any.

    Raises:
        SpecError: There is one.
    """
    for name, step in towers.steps.items():
        if isinstance(step, FittedStep | BankStep):
            raise SpecError(
                f"the step {name!r} is fitted to training rows, which no training of a joint "
                "adapter does: leave it out of [towers]"
            )


def heads_read(table: Mapping[str, Any]) -> list[str]:
    """Return the names of the heads that the objectives of a joint preset read, each once.

    Raises:
        SpecError: `[heads]` has none of such a name, or `[objective]` is malformed.
        UnknownNameError: No joint objective has such a name.
    """
    heads = {
        name: JOINT_OBJECTIVES.load(name).head for name in objective_weights(table["objective"])
    }
    for name, head in heads.items():
        if head not in table["heads"]:
            raise SpecError(
                f"[objective].{name} reads the head {head!r}, [heads] has {sorted(table['heads'])}"
            )
    return list(dict.fromkeys(heads.values()))


__all__ = [
    "JOINT_STEPS",
    "Boxes",
    "Joint",
    "JointAdapter",
    "JointTokens",
    "build_joint_adapter",
    "outline_joint_adapter",
]
