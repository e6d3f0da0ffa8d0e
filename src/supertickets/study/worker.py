"""A worker process of a sweep: ``python -m supertickets.study.worker ROOT JOB``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ..errors import UserError
from ..training import Interrupted
from .sweep import Job
from .work import do


def main(words: list[str]) -> int:
    """Does one job; 2 and one line on standard error if it cannot work."""
    try:
        do(Job.from_json(json.loads(words[1])), Path(words[0]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
