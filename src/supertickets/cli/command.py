"""A command of the command line as one object, and the options that several commands share."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..errors import UserError

if TYPE_CHECKING:
    from ..ticket import Ticket


class Command(ABC):
    """One command: its words, its own options, and the work it does.

    Modules of commands are imported for every command, so that they import the library inside `run` alone.

    Attributes:
        name: Word that calls it.
        help: One line on what a person gets, in the imperative.
        example: Words of a typical call, behind the command's name.
        takes_settings: Whether every setting of a recipe is an option too.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    example: ClassVar[str] = ""
    takes_settings: ClassVar[bool] = False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:  # noqa: B027 (a command may have none)
        """Add the command's own arguments, grouped."""

    @abstractmethod
    def run(self, options: argparse.Namespace) -> None:
        """Do the work and print what came out.

        Args:
            options: Values of the command's own arguments; ``settings`` holds the words for the recipe's.
        """


def add_recipe(parser: argparse.ArgumentParser, *, default: str | None = None, target: bool = False) -> None:
    """Add the recipe that a command works by.

    Args:
        parser: Parser of the command.
        default: Recipe to take if none is given; None asks for one.
        target: Whether the recipe is that of a transfer's target.
    """
    text = f"{'Recipe of the target' if target else 'Recipe'}: a shipped name or a YAML file"
    if default is None:
        parser.add_argument("recipe", metavar="RECIPE", help=text)
    else:
        parser.add_argument("recipe", metavar="RECIPE", nargs="?", default=default, help=f"{text} (default: {default})")


def add_ticket(parser: argparse.ArgumentParser) -> None:
    """Add the ticket that a command reads, and the modules that it may import code from."""
    parser.add_argument("ticket", metavar="TICKET", help="Folder of a ticket, or of a run")
    add_trust(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the modules that a ticket or a run may import code from."""
    parser.add_argument(
        "--trust",
        metavar="MODULE",
        action="append",
        default=[],
        help="Module that code named by a ticket or a run may be imported from; may be repeated",
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the folder of the data set."""
    parser.add_argument("--data", metavar="DIR", help="Folder with the data set")


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the directory of a run.

    Args:
        parser: Parser of the command.
        default: Text on the directory that is taken if none is given.
    """
    parser.add_argument("--out", metavar="DIR", help=f"Directory of the run (default: {default})")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the device that a ticket runs on."""
    parser.add_argument("--device", default="auto", help="Device: auto, cpu, cuda, cuda:1 or mps (default: auto)")


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add the runtime that a ticket's network runs in."""
    parser.add_argument(
        "--runtime",
        choices=("torch", "onnxruntime", "openvino", "sparse"),
        default="torch",
        help="Runtime of the network; all but torch are for the CPU (default: torch)",
    )


def recipe_words(options: argparse.Namespace) -> list[str]:
    """Return the words for settings of a recipe, ``--data`` among them."""
    return [*options.settings, *(["--data.dir", options.data] if options.data else [])]


def load_ticket(path: str | Path, options: argparse.Namespace) -> Ticket:
    """Load a ticket.

    Raises:
        UserError: It cannot be read, or it names code to import that ``--trust`` does not allow.
    """
    from ..ticket import load

    return load(path, tuple(options.trust))


def load_for_runtime(path: str | Path, options: argparse.Namespace) -> Ticket:
    """Load a ticket whose network runs in ``--runtime``; with another than PyTorch, the device becomes the CPU.

    Raises:
        UserError: As `load_ticket`; or the runtime is not installed, cannot run the network, or has no such device.
    """
    ticket = load_ticket(path, options)
    if options.runtime == "torch":
        return ticket
    from ..deploy.runtime_network import on_runtime

    if options.device not in ("auto", "cpu"):
        raise UserError(f"--runtime {options.runtime} runs on the CPU, not on {options.device}; leave --device out")
    options.device = "cpu"
    return on_runtime(ticket, options.runtime)
