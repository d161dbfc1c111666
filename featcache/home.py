"""Where everything that lightalign keeps lies, unless a user names another folder."""

import os
from pathlib import Path

VARIABLE = "LIGHTALIGN_HOME"


def default_home() -> Path:
    """Return `lightalign` in the user's cache folder, `~` not yet expanded."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "lightalign"
