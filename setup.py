"""Compile the kernels of the sparse runtime while the package is built; everything else is in pyproject.toml."""

import importlib.util
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

KERNELS = Path("src/supertickets/runtime/kernels")


class BuildWithKernels(build_py):
    """Copy the modules, and compile the kernels beside theirs; without a compiler one line says what is missing."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # nothing is copied; the kernels are compiled at first use
            return
        spec = importlib.util.spec_from_file_location("build_kernels", KERNELS / "build.py")
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        try:
            build.compile_all(Path(self.build_lib, *KERNELS.parts[1:]))
        except build.NoCompiler as error:
            self.warn(f"the sparse runtime will compile its kernels at first use, or compute with numpy: {error}")


class PlatformDistribution(Distribution):
    """A distribution for one kind of processor."""

    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_py": BuildWithKernels}, distclass=PlatformDistribution)
