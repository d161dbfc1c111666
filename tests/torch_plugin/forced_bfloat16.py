"""Have torch call the processor fast at bfloat16, or slow, whatever its kind.

LIGHTALIGN_TEST_FAST_BFLOAT16=1 says fast, 0 slow. `--precision auto` takes bfloat16 where torch
finds AMX; without it products of bfloat16 are right, but slower.

torch calls the entry points of the group `torch.backends` when it is imported. The one beside this
file is found by every process whose PYTHONPATH names this folder: also by the commands and workers
that tests start, which a change to the functions of this process does not reach.
"""

import os
from pathlib import Path

VARIABLE = "LIGHTALIGN_TEST_FAST_BFLOAT16"


def apply() -> None:
    """Answer for the processor as the environment says, if it does."""
    import torch

    answers = {"1": True, "0": False}
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return
    if asked not in answers:
        raise ValueError(f"{VARIABLE} is 1 or 0, found {asked!r}")
    fast = answers[asked]
    torch.cpu._is_amx_tile_supported = lambda: fast


def reach_processes() -> None:
    """Have this process, and those that it starts, answer as the environment says, if it does."""
    if VARIABLE not in os.environ:
        return
    apply()
    folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(folder for folder in folders if folder)
