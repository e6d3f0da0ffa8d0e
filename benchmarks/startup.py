"""CPU seconds of commands that need no network, and of importing the package: medians of five fresh processes.

python benchmarks/startup.py              this source tree
python benchmarks/startup.py OTHER/src    another one, e.g. of an earlier version
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 5
COMMANDS = {
    "import supertickets": ["-c", "import supertickets"],
    **{
        f"supertickets {words}": ["-m", "supertickets", *words.split()]
        for words in ("--help", "--version", "recipes", "draw --help", "draw digits --plan")
    },
}


def cpu_seconds(words: list[str], source: Path) -> float:
    """Return the user and system time of one Python process in seconds.

    Args:
        words: Arguments of Python.
        source: Folder that holds the package.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(source)}
    subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    default = Path(__file__).resolve().parents[1] / "src"
    source = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else default
    for name, words in COMMANDS.items():
        cpu_seconds(words, source)  # compiles what is not compiled yet
        print(f"{statistics.median(cpu_seconds(words, source) for _ in range(ROUNDS)):6.2f} s  {name}")


if __name__ == "__main__":
    main()
