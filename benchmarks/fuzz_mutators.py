"""Damage to small valid examples: bytes, words and plain values; a number makes the same damage again."""

from __future__ import annotations

import copy
import json
import random
import struct
from typing import Any

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 99, 0.5, -0.0, 1e300, -1e300, 10**400, -(10**400), 2**63, 2**31, 1e-300),
    *(float("nan"), float("inf"), "", "1", "0", "a", "1.5", "é", "\ud800", "\0", "../../x", "/", "x" * 5000),
    *([], [[]], {}, [None], [1, 2, 3], [1, 2, 3, 4], [1e308] * 4, [10**400] * 4, ["left"], {"a": 1}, [[1, 2]]),
]
_NUMBERS = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0")
# What YAML has and JSON has not; the last ones grow when they are read.
YAML_ODD = (
    *("~", "*a", "&a [*a]", "&a {b: *a}", "{<<: *a}", "!!python/object:os.system {}", "!!binary ====", "!!set {a, b}"),
    *("2001-01-01", "2001-99-99", "0x_", "0b", "1:99:99", "0o9", ".inf", ".nan", "=", "<<: 3", "? [a]", "- a", "%YAML"),
    *("9" * 5000, "1e999", "1e-999", "0." + "1" * 9999, "[" * 3000, "{a: " * 3000, "- " * 3000, "\t", "\0", "é", "'"),
    "!!timestamp x",
    "[&a [1, 2], &b [*a, *a, *a], *b]",
    "\n".join(["a0: &a0 [x, x]", *(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(30))]),
    "\n".join(["m0: &m0 {x: 1}", *(f"m{i + 1}: &m{i + 1} {{p: *m{i}, q: *m{i}}}" for i in range(30))]),
)


def damage_bytes(source: random.Random, raw: bytes) -> bytes:
    """Return bytes with some changed, put in, repeated or cut off."""
    data = bytearray(raw)
    for _ in range(source.randint(1, 6)):
        place = source.randrange(max(1, len(data)))
        match source.randrange(5):
            case 0 if data:
                data[place] = source.randrange(256)
            case 1:
                data[place:place] = source.randbytes(source.randrange(9))
            case 2:
                data[place:place] = data[place : place + source.randrange(65)]
            case 3:
                del data[place : place + source.randrange(65)]
            case _:
                data[place : place + 4] = source.choice(_NUMBERS)
    return bytes(data)


def disturb(source: random.Random, value: Any) -> Any:
    """Return a copy of plain values with an odd value, or none, at a random place."""
    changed = copy.deepcopy(value)
    place = changed
    while True:
        if not isinstance(place, dict | list) or not place:
            return odd(source)
        key = source.choice(list(place)) if isinstance(place, dict) else source.randrange(len(place))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and source.random() < 0.85:
            place = inner
            continue
        if source.random() < 0.15:
            del place[key]
        elif type(inner) is int and source.random() < 0.4:
            place[key] = inner + source.choice((-2, -1, 1, 2, 7, 10**4, 10**6, 10**9))
        elif isinstance(place, dict) and source.random() < 0.1:
            place[str(odd(source))] = inner
        else:
            place[key] = odd(source)
        return changed


def odd(source: random.Random) -> Any:
    """Return an odd value of any type; one of its own, which nobody else changes."""
    if source.random() < 0.01:
        return json.loads("[" * 300 + "]" * 300)
    return copy.deepcopy(source.choice(ODD))


def damage_json(source: random.Random, value: Any, changes: int = 4) -> bytes:
    """Return JSON with other values in it; one in ten is no JSON, or not of this depth."""
    for _ in range(source.randint(1, changes)):
        value = disturb(source, value)
    text = json.dumps(value).encode()
    if source.random() < 0.9:
        return text
    return source.choice((damage_bytes(source, text), b"[" * 10**5, b'{"a":' * 10**5, text.replace(b"1", b"1" * 5000)))


def damage_yaml(source: random.Random, value: Any) -> bytes:
    """Return YAML with other values, or with what only YAML has, in it."""
    for _ in range(source.randint(0, 3)):
        value = disturb(source, value)
    lines = _yaml_lines(value)
    for _ in range(source.choice((0, 0, 1, 2))):
        place = source.randrange(len(lines) + 1)
        text = source.choice(YAML_ODD)
        if place < len(lines) and ": " in lines[place] and source.random() < 0.7:
            lines[place] = f"{lines[place].split(': ')[0]}: {text}"
        else:
            lines.insert(place, text)
    raw = "\n".join(lines).encode("utf-8", "surrogatepass")
    return damage_bytes(source, raw) if source.random() < 0.1 else raw


def _yaml_lines(value: Any, indent: str = "") -> list[str]:
    """Return lines of a mapping, and of those in it; what else there is, as JSON, which YAML reads."""
    if not isinstance(value, dict) or not value:
        return [indent + json.dumps(value)]
    lines = []
    for key, inner in value.items():
        name = indent + (key if key.isidentifier() else json.dumps(key))
        if isinstance(inner, dict) and inner:
            lines += [f"{name}:", *_yaml_lines(inner, indent + "  ")]
        else:
            lines.append(f"{name}: {json.dumps(inner)}")
    return lines


def damage_safetensors(source: random.Random, raw: bytes) -> bytes:
    """Return a file of tensors with another header, or with damaged bytes."""
    if source.random() < 0.3:
        return damage_bytes(source, raw[: 8 + source.randrange(len(raw))])
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length])
    if source.random() < 0.3:
        entry = header[source.choice([name for name in header if name != "__metadata__"])]
        entry["dtype"] = source.choice(("F64", "F32", "F16", "BF16", "I64", "I8", "BOOL", "F8_E4M3", "U64", "F4", "x"))
    head = damage_json(source, header, 2) if source.random() < 0.8 else json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + raw[8 + length :]
