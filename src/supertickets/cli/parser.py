"""The words of the command line: a command's own options, and settings of its recipe."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from ..errors import UserError, suggest
from .command import Command


def parse_words(words: Sequence[str], commands: Iterable[Command]) -> argparse.Namespace:
    """Return what the words of a command line ask for.

    Args:
        words: Words behind the program's name.
        commands: All commands there are.

    Returns:
        Values of the command's own arguments, the command itself as ``command``, and as ``settings`` the words for
        settings of a recipe.

    Raises:
        UserError: There is no such command or option, or a value cannot be read.
    """
    parser, parsers = _make_parsers(commands)
    first, rest, settings = next(iter(words), ""), list(words[1:]), list[str]()
    if first and not first.startswith("-") and first not in parsers:
        raise UserError(f"unknown command '{first}'{suggest(first, parsers)}")
    takes_settings = first in parsers and parsers[first].get_default("command").takes_settings
    if takes_settings:
        rest, settings = take_settings(rest, parsers[first])
    options, unknown = parser.parse_known_args([first, *rest] if first else [])
    if unknown and not takes_settings:
        raise UserError(f"unknown option '{unknown[0]}' for {first}; see supertickets {first} --help")
    options.settings = settings + unknown  # reading the recipe names what is unknown
    return options


def take_settings(words: Sequence[str], parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Part a command's own words from the settings of a recipe (``--name VALUE``), which may stand anywhere.

    Args:
        words: Words behind the command's name.
        parser: Parser of the command, whose own options go before settings of the same name.

    Returns:
        The command's own words, and the words for settings.
    """
    from ..config.recipe import setting_names

    names = {f"--{name}" for name in setting_names()} - set(parser._option_string_actions)
    own, settings, queue = [], [], list(words)
    while queue:
        word = queue.pop(0)
        name, equals, _ = word.partition("=")
        # One with a dot is a setting, though none that there is: reading the recipe names it.
        if name not in names and not (name.startswith("--") and "." in name):
            own.append(word)
        elif equals:
            settings.append(word)
        else:
            settings += [word, *queue[:1]]
            queue = queue[1:]
    return own, settings


def _make_parsers(commands: Iterable[Command]) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser of all commands, and each command's own by name."""
    parser = _Parser(
        prog="supertickets",
        description="Draw small vision networks, searched and pruned in one training run.",
        epilog="supertickets COMMAND --help explains a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="Show the version and exit")
    parsers = parser.add_subparsers(title="commands", dest="word", required=True, metavar="COMMAND")
    every = {}
    for command in commands:
        own = every[command.name] = parsers.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help}.",
            epilog=f"example: supertickets {command.name} {command.example}".rstrip(),
            allow_abbrev=False,
        )
        own.set_defaults(command=command)
        own.add_argument("--json", action="store_true", help="Print JSON")
        command.add_arguments(own)
        if command.takes_settings:
            group = own.add_argument_group(
                "settings of the recipe", "Every setting is an option too, e.g. --budget.macs 4e6 --minutes 10 --seed 3"
            )
            group.add_argument("--help-settings", action=_ShowSettings, nargs=0, help="Show all settings and exit")
    return parser, every


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from .. import __version__

        print(__version__)
        raise SystemExit(0)


class _ShowSettings(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from ..config.settings_help import settings_help

        print(settings_help())
        raise SystemExit(0)
