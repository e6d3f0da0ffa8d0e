"""A worker process of a sweep: ``python -m supertickets.study.worker ROOT JOB``."""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import UserError
from ..training import Interrupted
from .work import do, job_from_json


def main(words: list[str]) -> int:
    """Does one job; 2 and one line on standard error if it cannot work."""
    try:
        do(job_from_json(words[1]), Path(words[0]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
