"""The texts of a C program: its steps, its header, its instructions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...runtime.activations import ACTIVATION_NAMES
from .calls import Call, in_braces

Part = tuple[Call, int, int]
PROGRAM = "network"
COMMAND = f"cc -O3 -march=native -o {PROGRAM} main.c network.c -lm"
_PREAMBLE = """/* The network: its steps in order, and their memory. The kernels are those of the headers. */
#include "network.h"

#include <math.h>
#include <string.h>

#define USED_ACTIVATIONS {activations}
#pragma GCC diagnostic ignored "-Wunused-function"
#include "convolution.h"
#include "maps.h"
#include "products.h"
#include "weights.h"

static _Alignas(64) float memory[{floats}];
static _Alignas(64) int32_t inside[{integers}];

static void mark_inside(int32_t *mask, int height, int width, int pitch) {{
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) mask[y * pitch + x] = -1;
}}

static void fill_floats(float *values, int count, float value) {{
  for (int i = 0; i < count; i++) values[i] = value;
}}

"""
_RUN = """
static const struct {{
  void (*run)(const void *arguments, int first, int last);
  const void *arguments;
  int first, last; /* vectors of 16 floats, of the kinds that run in parts */
}} steps[] = {{
{steps}
}};

void network_run(const float *images, float *scores) {{
  static int ready;
  if (!ready) {{
{prepare}
    ready = 1;
  }}
{before}
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {{
    steps[i].run(steps[i].arguments, steps[i].first, steps[i].last);
  }}
{after}
}}
"""
_HEADER = """/* A network for images of {channels} x {height} x {width} (channels, rows, columns). */
#ifndef NETWORK_H
#define NETWORK_H

enum {{
  NETWORK_CHANNELS = {channels},
  NETWORK_HEIGHT = {height},
  NETWORK_WIDTH = {width},
  NETWORK_SCORES = {scores}, /* {shapes} */
  NETWORK_MEMORY = {memory}, /* bytes that it writes, besides images and scores; about 1 kB of stack */
  NETWORK_CONSTANTS = {constants} /* bytes that it only reads */
}};

/* What images are normalised with: (pixel / 255 - mean) / std. */
static const float network_mean[NETWORK_CHANNELS] = {{{mean}}};
static const float network_std[NETWORK_CHANNELS] = {{{std}}};
{classes}
/* Scores of one preprocessed image. Memory is static: one call at a time. */
#ifdef __cplusplus
extern "C"
#endif
void network_run(const float *images, float *scores);

#endif
"""
_README = """# Network in C

    {command}
    ./network image.ppm

The image has {height} rows and {width} columns, in the format PNM ({kind}). Files of preprocessed float32
({channels} x {height} x {width} numbers per image, in the order of the machine) do as well, and standard input.
One line of {scores} scores is printed per image. `--time 100` in front of the files measures.

- `network.h` is all that your program includes; `network.c` and the headers beside it are all that it compiles.
- GCC or Clang with C11 and vector extensions; no library but those of C. `-march` chooses the vectors: AVX-512, AVX,
  else four floats (NEON, SSE). With other flags scores differ by rounding.
- {memory:,} bytes of static memory are written, {constants:,} bytes of constants read. Nothing is allocated.
- It may be included from C++. Several networks in one program: export each with its own `--name` into its own folder.
- Zeros of the weights are neither stored nor multiplied.
"""


def network_source(
    sizes: Mapping[str, int], prepare: Sequence[str], parts: Sequence[Part], before: Sequence[str], after: Sequence[str]
) -> str:
    """Return the C of a network.

    Args:
        sizes: Number of floats and of integers of its memory.
        prepare: Lines that run once.
        parts: Its calls in order, each with its first and last vector.
        before: Lines that run before them.
        after: Lines that run behind them.
    """
    names: dict[int, str] = {}
    structures, table = [], []
    for call, first, last in parts:
        function, kind, fields = call
        if id(call) not in names:
            name = names[id(call)] = f"a{len(names)}"
            structures.append(f"static const {kind} {name} = {in_braces(fields)};")
        table.append(f"    {{{function}, &{names[id(call)]}, {first}, {last}}},")
    text = "\n".join(structures)
    used = [f"1 << {name.upper()}" for name in ACTIVATION_NAMES if f".kind = {ACTIVATION_NAMES.index(name)}," in text]
    preamble = _PREAMBLE.format(activations=f"({' | '.join(used) or '0'})", **sizes)
    lines = {"prepare": _indent(prepare, 4), "before": _indent(before, 2), "after": _indent(after, 2)}
    return preamble + text + "\n" + _RUN.format(steps="\n".join(table), **lines)


def network_header(numbers: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Return the header of a network from its sizes and the entries of its ticket."""
    names = about.get("classes") or []
    classes = ""
    if len(names) == numbers["scores"]:
        quoted = ", ".join('"' + "".join(_escape(c) for c in name) + '"' for name in names)
        classes = f"static const char *const network_classes[NETWORK_SCORES] = {{{quoted}}};\n"
    how = about["preprocessing"]
    mean, std = (", ".join(f"{value:.9g}" for value in how[key]) for key in ("mean", "std"))
    return _HEADER.format(**numbers, mean=mean, std=std, classes=classes)


def network_readme(numbers: Mapping[str, Any]) -> str:
    """Return the instructions."""
    kind = {1: "P5, grey", 3: "P6, RGB"}.get(numbers["channels"], "none for so many channels")
    return _README.format(command=COMMAND, kind=kind, **numbers)


def rename(text: str, name: str) -> str:
    """Return a source with another word at the beginning of all names that other sources see."""
    text = re.sub(r"\bnetwork_(?=(run|mean|std|classes)\b)", f"{name}_", text)
    return re.sub(r"\bNETWORK_(?=[A-Z])", f"{name.upper()}_", text)


def makefile() -> str:
    """Return the rule that compiles the program."""
    return f"network: main.c network.c network.h weights.h\n\t{COMMAND}\n"


def _indent(lines: Sequence[str], spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in lines)


def _escape(letter: str) -> str:
    """Return a letter of a C string; all but plain ones in three octal digits per byte."""
    plain = letter.isascii() and letter.isprintable() and letter not in '"\\?'
    return letter if plain else "".join(f"\\{byte:03o}" for byte in letter.encode())
