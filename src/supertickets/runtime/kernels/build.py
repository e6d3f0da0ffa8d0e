"""Compile the kernels; the standard library alone, so that an installer can run it as well.

``python build.py FOLDER`` compiles them for every processor of this kind into a folder.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

SOURCES = Path(__file__).parent
# No -ffast-math: it makes exponentials wrong. Products may be fused with sums.
_FLAGS = (
    *("-O3", "-std=c++17", "-fPIC", "-shared", "-ffp-contract=fast", "-fno-math-errno"),
    *("-pthread", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"),
)
# Floats of a vector -> flags for processors that have such vectors.
_WIDTHS = {
    16: ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"),
    8: ("-mavx2", "-mfma"),
    4: (),
}


class NoCompiler(Exception):
    """There is no C++ compiler, or it cannot compile the kernels; says what helps."""


def library_name(width: int) -> str:
    """Return the file name of the kernels for vectors of so many floats; 0 for what names the processor."""
    return f"kernels_{width}.so" if width else "processor.so"


def possible_widths() -> tuple[int, ...]:
    """Return the vector widths that processors of this kind may have, the widest first."""
    return tuple(_WIDTHS) if platform.machine().lower() in ("x86_64", "amd64") else (4,)


def source_hash() -> str:
    """Return a short name of the sources and flags, which differs as soon as one of them does."""
    digest = hashlib.sha256(repr((_FLAGS, _WIDTHS, platform.machine())).encode())
    for path in sorted((*SOURCES.glob("*.h"), *SOURCES.glob("*.cpp"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def find_compiler() -> list[str]:
    """Return the command of this machine's C++ compiler: ``CXX``, which may be several words, or the usual ones.

    Raises:
        NoCompiler: There is none.
    """
    wanted = shlex.split(os.environ.get("CXX", ""))
    if wanted and shutil.which(wanted[0]) is None:
        raise NoCompiler(f"CXX names {wanted[0]}, which is not there; set it to a C++ compiler, or unset it")
    usual = (name for name in ("c++", "g++", "clang++") if shutil.which(name))
    command = wanted or [*usual][:1]
    if not command:
        raise NoCompiler("there is no C++ compiler; install one, e.g. g++")
    return command


def compile_library(folder: Path, width: int, more: Iterable[str] = ()) -> Path:
    """Compile one library into a folder, where it appears whole or not at all.

    Args:
        folder: Folder to write.
        width: Floats of a vector; 0 for the library that names the processor.
        more: Further flags.

    Raises:
        NoCompiler: It cannot be compiled.
    """
    compiler = find_compiler()
    path = folder / library_name(width)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    source = SOURCES / ("kernels.cpp" if width else "processor.cpp")
    flags = [*_FLAGS, *(_WIDTHS[width] if width else ()), *([f"-DVW={width}"] if width else ()), *more]
    done = subprocess.run(
        [*compiler, *flags, "-o", str(partial), str(source)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        reason = next((line for line in lines if "error" in line), lines[0]).strip()
        raise NoCompiler(f"{' '.join(compiler)} cannot compile the kernels ({reason}); set CXX to another C++ compiler")
    os.replace(partial, path)
    return path


def compile_all(folder: Path) -> None:
    """Compile the kernels for every processor of this kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for width in (0, *possible_widths()):
        compile_library(folder, width)


if __name__ == "__main__":
    compile_all(Path(sys.argv[1]))
