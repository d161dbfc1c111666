"""Take from an adapter the steps that only a ranking has a use for."""

from collections.abc import Mapping
from typing import Any

from ..featcache.config import Table
from .adapter import STEPS, Adapter
from .ensemble import Members, ensemble_of
from .step import BankStep, Step


def without_bank(adapter: Adapter) -> Adapter:
    """Return an adapter without the steps of `[finish]`, which holds the same modules.

    It is the adapter itself where it has none. Of an ensemble each member is without them.

    Offsets of hubs are learnt on queries like those of the training, and help where a gallery is
    ranked by such. Classes, grades of similarity, and scorings that have a bank by themselves read
    embeddings as they are before.
    """
    ends = {side: adapter.steps[names[-1]] for side, names in adapter.paths.items()}
    ensembles = [step for step in ends.values() if isinstance(step, Members)]
    if ensembles:
        members = [member for member in ensembles[0].members if isinstance(member, Adapter)]
        plain = [without_bank(member) for member in members]
        return adapter if plain == members else ensemble_of(plain).train(adapter.training)
    if not any(isinstance(step, BankStep) for step in ends.values()):
        return adapter
    paths = {
        side: names[:-1] if isinstance(ends[side], BankStep) else names
        for side, names in adapter.paths.items()
    }
    steps: dict[str, Step] = {}
    for name, step in adapter.steps.items():
        assert isinstance(step, Step), "towers hold nothing else"
        if not isinstance(step, BankStep):
            steps[name] = step
    return Adapter(
        steps, paths=paths, widths=adapter.stream_widths, before_join=adapter.before_join
    ).train(adapter.training)


def table_without_bank(table: Table) -> Table:
    """Return the table of an adapter, `towers` and the rest, without the slots of such steps."""
    towers: Mapping[str, Any] = table["towers"]
    return {
        **table,
        "towers": {
            owner: {
                slot: entry
                for slot, entry in tower.items()
                if not issubclass(STEPS.load(entry["part"]), BankStep)
            }
            for owner, tower in towers.items()
        },
    }
