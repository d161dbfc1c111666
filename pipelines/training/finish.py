"""Put a step behind both towers once they are trained, by `[finish]` of a preset."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from ...adapters.adapter import STEPS, Adapter, build_adapter, outline_adapter
from ...adapters.checkpoint import save_adapter
from ...adapters.objective import Objective
from ...adapters.preset import BOTH
from ...adapters.step import BankStep
from ...featcache.config import Table
from ...featcache.errors import SpecError
from ..common.progress import Progress
from ..inputs.pairs import PairDataset
from ..runs.embed_stored import embed_rows
from .initialise import pairs_in_turn

SLOT = "finish"  # of a tower, where the step of `[finish]` stands


class Finish:
    """Add the step of `[finish]` to a trained adapter, and fill it by training rows.

    The training itself, its validations and its choice of an epoch do without that step.

    Args:
        table: The preset.
        adapter: Its adapter, as it is trained.
        stores: Where the features are.
        seed: Of the texts that are drawn where there are more than the step takes.

    Raises:
        SpecError: `[finish]` names another kind of step, an option of it is wrong, or a tower has a
            slot of that name already.
        UnknownNameError: There is no such step.
    """

    def __init__(self, table: Table, adapter: Adapter, stores: PairDataset, *, seed: int) -> None:
        self.trained = adapter
        self.stores = stores
        self.seed = seed
        self.towers: Table | None = None
        if "finish" not in table:
            return
        finish = table["finish"]
        # by the part first: options of another kind of step would be missed or refused otherwise
        is_named = isinstance(finish, Mapping) and isinstance(finish.get("part"), str)
        if not is_named or not issubclass(STEPS.load(finish["part"]), BankStep):
            raise SpecError(
                "[finish] needs a step that takes a bank, such as by --set finish.part=hub-offset; "
                f"found {finish}"
            )
        self.towers = _with_finish(table["towers"], finish)
        # nothing is allocated: a wrong option is refused before hours of training
        outline_adapter(self.towers, widths=adapter.stream_widths)

    def run(
        self,
        folder: Path,
        objective: Objective,
        rows: Int64[np.ndarray, " n"],
        *,
        table: Table,
        measured: Callable[[Adapter], dict[str, Any]] | None,
        device: torch.device,
        progress: Progress,
    ) -> dict[str, Any]:
        """Save the adapter with its last step in `folder`, and return what a report says of it.

        Args:
            folder: Folder of the run, whose adapter it takes the place of.
            objective: What the adapter was trained by.
            rows: Images that were trained on.
            table: What is saved as that of the adapter, with the towers of before.
            measured: Returns the validation of the finished adapter, or None for none.
            device: Where towers are run.
            progress: Receives notes.
        """
        if self.towers is None:
            return {}
        progress.note("finishing: the last step takes its bank from the training rows")
        trained = self.trained.to(device).eval()
        adapter = build_adapter(self.towers, widths=trained.stream_widths, seed=self.seed)
        adapter.load_state_dict({**adapter.state_dict(), **trained.state_dict()})
        adapter.to(device).eval()
        sides = self.stores.pair.sides
        steps = [adapter.steps[adapter.paths[side][-1]] for side in sides]
        # one step takes what the other side has: each side gives as many as the other takes
        banks = []
        for side, reader, other, drawn in zip(
            sides, self.stores.sources, reversed(steps), self._drawn(rows), strict=True
        ):
            assert isinstance(other, BankStep), "looked at before"
            rows_of_side = drawn[: other.size]
            vectors = embed_rows(trained, reader, rows_of_side, side=side, device=device)
            banks.append(torch.from_numpy(vectors).to(device))
        for step, bank, other_bank in zip(steps, banks, reversed(banks), strict=True):
            assert isinstance(step, BankStep), "looked at before"
            step.fill(bank, other_bank)
        record: dict[str, Any] = {"bank": [len(bank) for bank in banks]}
        if measured is not None:
            record["validation"] = measured(adapter)
        save_adapter(folder, adapter, objective, table={**table, "towers": self.towers})
        return {"finish": record}

    def _drawn(
        self, rows: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " firsts"], Int64[np.ndarray, " seconds"]]:
        """Return all rows of both sides in random order, a text of each image before its second."""
        columns = zip(*pairs_in_turn(self.stores, rows, seed=self.seed), strict=True)
        firsts, seconds = (np.array(list(dict.fromkeys(column)), np.int64) for column in columns)
        return firsts, seconds


def _with_finish(towers: Mapping[str, Any], finish: Table) -> Table:
    """Return the towers, each with the step behind its last one."""
    for owner, tower in towers.items():
        if SLOT in tower:
            raise SpecError(f"[towers.{owner}] has a slot {SLOT!r}, which [finish] would add")
    slot = {**finish, "per_modality": True}
    return {
        owner: {**tower, SLOT: slot if owner == BOTH else finish} for owner, tower in towers.items()
    }
