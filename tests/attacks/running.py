"""Run the scripts of this folder as people do."""

import os
import subprocess
import sys
from pathlib import Path


def run_script(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own: it forks, and here threads may be running."""
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name(name)), *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LIGHTALIGN_HOME": "/nowhere"},
    )
