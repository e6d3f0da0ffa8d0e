"""Files and folders that are whole or not there, whatever happens while they are written.

What is written goes into a scratch file beside its place, reaches the disk, and is renamed. So a kill, a full disk or a
power cut leaves the old content or the new one; a link at the place is replaced, never followed; and files have the
mode that the process's umask gives.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import UserError

# What is not whole yet is called .NAME.PROCESS.tmp.ENDING; a folder that is about to be replaced .NAME.PROCESS.old.
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.(tmp|old)(?P<ending>\.\w+)?")
_DEEPEST, _MOST_VALUES, _DIGITS = 64, 1_000_000, 20  # levels, values and characters of numbers in files of others
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)  # folders of some network and foreign systems


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Let a file be written at another path, which takes the file's place when it is on the disk.

    Args:
        path: The file; a link there is replaced.

    Yields:
        Path of an empty file in the same folder, with the same ending.

    Raises:
        OSError: It cannot be written; the old file is as it was, and the scratch file is gone.
    """
    remove_leftovers(path.parent, path.name)
    scratch = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    scratch.unlink(missing_ok=True)
    # Exclusive, so that nothing is written through a link; the mode is what the umask leaves of it.
    os.close(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    mode = stat.S_IMODE(scratch.stat().st_mode)
    try:
        yield scratch
        if stat.S_IMODE(scratch.stat().st_mode) != mode:  # some libraries make a file of their own, for its owner alone
            scratch.chmod(mode)
        _sync(scratch)
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Let a folder be filled at another path, which takes the folder's place when all of it is on the disk.

    Args:
        path: The folder; what was in it goes.

    Yields:
        Path of an empty folder beside it.
    """
    make_folder(path.parent)
    remove_leftovers(path.parent, path.name)
    scratch, old = (path.with_name(f".{path.name}.{os.getpid()}.{ending}") for ending in ("tmp", "old"))
    for place in (scratch, old):
        remove(place)
    make_folder(scratch)
    try:
        yield scratch
        for place in scratch.rglob("*"):
            _sync(place)
        _sync(scratch)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(scratch)
        raise
    if path.exists() or path.is_symlink():
        os.replace(path, old)  # a folder cannot take the place of one that is not empty
    os.replace(scratch, path)
    sync_folder(path.parent)
    remove(old)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is either the old one or the new one, whole; half characters are spelt out."""
    with replace_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that the file is either the old one or the new one, whole."""
    write_text(path, json.dumps(data, indent=1))


def read_json(path: Path) -> Any:
    """Read a JSON file, which anybody may have written: what comes of it is safe to walk through and to calculate with.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON, is nested too deep, or has a whole number of more than 19 digits.
    """
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """Return the plain values of a JSON text; see `read_json`."""
    try:
        value = json.loads(text, parse_int=_read_integer)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    check_nesting(value)
    return value


def check_nesting(value: Any) -> None:
    """Check that plain values are a tree of moderate depth and size; a value in several places counts in each.

    Raises:
        ValueError: They are nested deeper than 64 levels, or there are more than a million.
    """
    level, count = [value], 0
    for _ in range(_DEEPEST):
        holders = [value for value in level if isinstance(value, dict | list)]
        count += sum(map(len, holders))
        if count > _MOST_VALUES:
            raise ValueError(f"it holds more than {_MOST_VALUES:,} values")
        level = [inner for holder in holders for inner in _entries(holder)]
        if not level:
            return
    raise ValueError("it is nested too deep")


def _entries(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value


def _read_integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"it holds a whole number of {len(text)} digits")
    return int(text)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, on the disk too; one that is there stays."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    with contextlib.suppress(PermissionError):
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC or not path.is_dir():
            raise
    finally:
        os.close(handle)


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder by name; none if there is no such folder."""
    files = sorted(place for place in (folder.iterdir() if folder.is_dir() else ()) if place.is_file())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what processes that were killed did not finish writing into a folder.

    Args:
        folder: The folder.
        name: File or folder that it was to become; None for any.
    """
    for place in list(folder.glob(".*")):
        leftover = _LEFTOVER.fullmatch(place.name)
        if leftover is None or name not in (None, leftover["name"] + (leftover["ending"] or "")):
            continue
        if not _is_running(int(leftover["process"])):
            remove(place)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return process != os.getpid()  # the number of one that was killed before, as in a container


def check_writable(path: Path, option: str = "--out") -> None:
    """Check that a file or folder can be written, before the work that makes it.

    Args:
        path: The file or folder; neither it nor what it lies in needs to be there.
        option: Option that chooses another one, for the message.

    Raises:
        UserError: Its place is read-only or full, or is below a file.
    """
    try:
        if file := next((place for place in path.parents if place.is_file()), None):
            raise NotADirectoryError(errno.ENOTDIR, f"{file} is a file")
        folder = next(place for place in (path, *path.parents) if place.is_dir())
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another {option}") from None


def refuse_links(folder: Path) -> None:
    """Check that nothing in a folder is a link: written through, it would change what is elsewhere.

    Raises:
        UserError: Something is.
    """
    for place in sorted(folder.iterdir() if folder.is_dir() else ()):
        if place.is_symlink():
            raise UserError(f"{place} is a link, and runs write through none; put what it points to in its place")
