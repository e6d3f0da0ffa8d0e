"""The run directory: recipe, event log, checkpoint, ticket; locked while it is in use."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from ..errors import UserError
from ..storage import make_folder, parse_json, read_json, refuse_links, remove_leftovers, write_json

Record = dict[str, Any]

FORMAT_VERSION = 2  # of run.json; raised when an older one cannot be read any more


class RunDir:
    """A directory that holds one run; use it as a context, which locks it.

    Layout: ``run.json`` (command, recipe, versions), ``events.jsonl``, ``checkpoint.safetensors``, ``ticket/``,
    ``result.json`` (present once the run is finished).

    Args:
        path: The directory.
        writes: Whether this process writes; other processes of the same run only read.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        # A lock of the system ends with its process, however that is killed; loader processes, which are forked from it
        # and outlive it by seconds, do not hold it.
        self._lock = FileLock(path / ".lock", fallback_to_soft=False)

    @property
    def checkpoint(self) -> Path:
        """Return the file of the last state."""
        return self.path / "checkpoint.safetensors"

    @property
    def ticket(self) -> Path:
        """Return the folder of the ticket."""
        return self.path / "ticket"

    @property
    def result(self) -> Path:
        """Return the file that is written last; a run with it is finished."""
        return self.path / "result.json"

    @property
    def events(self) -> Path:
        """Return the event log: one JSON object per line."""
        return self.path / "events.jsonl"

    def is_begun(self) -> bool:
        """Return whether there is a run, finished or not."""
        return (self.path / "run.json").exists()

    def is_unfinished(self) -> bool:
        """Return whether there is a run to resume."""
        return self.is_begun() and not self.result.exists()

    def check_free(self) -> None:
        """Check that the directory holds no run yet; the process that writes decides.

        Raises:
            UserError: It holds one, finished or not, or something else where the ticket belongs.
        """
        if not self.writes:
            return
        if self.is_unfinished():
            raise UserError(f"{self.path} holds an unfinished run; go on with: supertickets resume {self.path}")
        if self.result.exists():
            raise UserError(f"{self.path} holds a finished run; choose another --out or delete it")
        if self.ticket.exists() and not (self.ticket / "config.json").is_file():
            raise UserError(f"{self.ticket} is there and is no ticket; choose another --out")

    def create(self, about: Record) -> None:
        """Begin a new run.

        Args:
            about: Command, recipe and versions, for ``run.json``.
        """
        if self.writes:
            write_json(self.path / "run.json", {"format_version": FORMAT_VERSION} | about)

    def about(self) -> Record:
        """Return what `create` wrote.

        Raises:
            UserError: This is not a run directory, or another version began it.
        """
        path = self.path / "run.json"
        if not path.is_file():
            raise UserError(f"{self.path} is not a run directory (no run.json); give the --out of an earlier draw")
        try:
            data: Record = read_json(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is damaged ({error}); begin anew with another --out") from None
        check_format(data, path)
        return data

    def append(self, record: Mapping[str, Any]) -> None:
        """Log an event."""
        if self.writes:
            with self.events.open("a") as file:
                file.write(json.dumps(record) + "\n")

    def recall(self, name: str, measure: Callable[[], float]) -> float:
        """Return a figure that is measured once in the life of a run, whatever checkpoint it goes on from.

        Args:
            name: Name of the figure.
            measure: Function that measures it, if it was not yet.
        """
        path = self.path / "measured.json"
        known: dict[str, float] = read_json(path) if path.exists() else {}
        if name not in known:
            known[name] = measure()
            write_json(path, known)
        return known[name]

    def log_size(self) -> int:
        """Return the number of bytes logged, after making them durable."""
        if not self.writes or not self.events.exists():
            return 0
        with self.events.open("rb") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size

    def truncate_log(self, size: int) -> None:
        """Forget events that came after a checkpoint.

        Args:
            size: Bytes of the log to keep.

        Raises:
            UserError: The log is shorter; something else has cut it, or it is gone.
        """
        if not self.writes:
            return
        length = self.events.stat().st_size if self.events.exists() else 0
        if length < size:
            raise UserError(
                f"{self.events} has {length} bytes where its checkpoint needs {size}: its end was lost; put the whole "
                "file back, or begin anew with another --out"
            )
        if length > size:
            os.truncate(self.events, size)

    def __enter__(self) -> RunDir:
        if self.writes:
            try:
                make_folder(self.path)
                refuse_links(self.path)  # a stranger's run could point anywhere
                self._lock.acquire(blocking=False)
            except Timeout:
                raise UserError(
                    f"{self.path} is in use by another process; wait for it or choose another --out"
                ) from None
            except OSError as error:
                raise UserError(f"{self.path} cannot be written ({error.strerror}); choose another --out") from None
            remove_leftovers(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def check_format(about: Any, path: Path) -> None:
    """Check that this version can read a run's record.

    Args:
        about: Content of ``run.json``.
        path: Path of that file, for messages.

    Raises:
        UserError: Another version wrote it.
    """
    version = about.get("format_version", 1) if isinstance(about, dict) else 1
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format {version}, this version of supertickets reads format {FORMAT_VERSION}; "
            "use the version that began the run, or begin anew with another --out"
        )


def read_events(path: Path) -> Iterator[Record]:
    """Yield the events of a log.

    Raises:
        OSError: It cannot be read.
        ValueError: A line of it is no event.
    """
    with path.open(encoding="utf-8") as file:
        for line in file:
            record = parse_json(line)
            if not isinstance(record, dict) or "event" not in record:
                raise ValueError(f"a line is no event: {line[:60].strip()}")
            yield record
