"""Commands that measure devices and analyse searches."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError, suggest
from ..storage import check_writable
from .command import Command, add_data, add_trust, recipe_words
from .output import print_json, print_table, print_text, progress_console, repeatable


class LatencyTable(Command):
    """Latency of a space's operations."""

    name = "latency-table"
    help = "Time every operation of a mobile space on this device, and check the predictions for whole networks"
    example = "tunas_proxyless --width 0.5 --size 64 64 --classes 10"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("space", metavar="SPACE", help="Space: tunas_proxyless, tunas_mobilenetv3, ...")
        parser.add_argument("--out", metavar="FILE", help="File to write (default: latency-SPACE.json)")
        network = parser.add_argument_group("network")
        network.add_argument("--width", type=float, default=1.0, help="Factor of all widths (default: 1)")
        network.add_argument(
            "--size",
            type=int,
            nargs=2,
            default=(224, 224),
            metavar=("HEIGHT", "WIDTH"),
            help="Size of images in pixels (default: 224 224)",
        )
        network.add_argument("--classes", type=int, default=1000, help="Outputs of the network (default: 1000)")
        network.add_argument("--channels", type=int, default=3, help="Channels of images (default: 3)")
        network.add_argument("--strides", type=int, nargs="+", metavar="STRIDE", help="Strides of the blocks, 1 or 2")
        network.add_argument(
            "--padding", choices=("same_tf", "symmetric"), default="same_tf", help="Padding (default: same_tf)"
        )
        network.add_argument(
            "--head", default="classification", help="Head: classification or detection (default: classification)"
        )
        timing = parser.add_argument_group("timing")
        timing.add_argument("--runtime", default="torch", help="Runtime: torch or onnxruntime (default: torch)")
        timing.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
        timing.add_argument("--repeats", type=int, default=60, help="Timing repetitions (default: 60)")
        timing.add_argument("--networks", type=int, default=50, help="Whole networks of the check (default: 50)")

    def run(self, options: argparse.Namespace) -> None:
        from ..cost.latency_table import TableSettings
        from ..deploy import measure_latency_table
        from ..models import create_mobile
        from ..models.factory import list_spaces

        if options.space not in list_spaces():
            raise UserError(f"unknown space '{options.space}'{suggest(options.space, list_spaces())}")
        settings = {"width": options.width, "head": options.head, "num_classes": options.classes}
        settings |= {"in_channels": options.channels, "padding": options.padding}
        settings |= {"strides": options.strides} if options.strides else {}
        spec = create_mobile(options.space, image_size=tuple(options.size), **settings)
        out = Path(options.out or f"latency-{options.space}.json")
        if out.is_dir() or not out.parent.is_dir():
            raise UserError(f"{out} cannot be written; choose another --out")
        check_writable(out)  # before minutes of measuring
        timing = {name: getattr(options, name) for name in ("runtime", "threads", "repeats", "networks")}
        with progress_console().status(f"measuring {options.space} on this device") as status:
            table = measure_latency_table(spec, TableSettings(**timing), status.update)
        table.save(out)
        if options.json:
            print_json(table.to_json())
            return
        check, device = table.check, f"{table.device}, {table.runtime}, {table.threads} thread(s)"
        print_text(f"wrote {out}: {len(table.ms)} operations on {device}")
        print_text(
            f"checked: of {check['networks']} other networks of {check['fastest_ms']:.2f} to "
            f"{check['slowest_ms']:.2f} ms, half are predicted within {check['median_error']:.1%}, "
            f"all within {check['largest_error']:.1%}; rank correlation {check['spearman']:.3f}"
        )


class Schemes(Command):
    """Connection schemes of attention modules (LTH4SA)."""

    name = "schemes"
    help = "Summarize the connection schemes that a search judged; with --train check whether one is a ticket"
    example = "runs/cifar100_resnet38 --train --epochs 100"
    takes_settings = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("run_dir", metavar="RUN", help="Directory of a search for connections")
        parser.add_argument(
            "--train", action="store_true", help="Train the search's candidates, all connections and none"
        )
        parser.add_argument("--times", type=int, default=0, help="Schemes of every ratio to time (default: 0)")
        add_data(parser)
        add_trust(parser)
        timing = parser.add_argument_group("timing")
        timing.add_argument("--batch", type=int, default=10, help="Images per call (default: 10)")
        timing.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
        timing.add_argument("--repeats", type=int, default=30, help="Timing repetitions (default: 30)")

    def run(self, options: argparse.Namespace) -> None:
        if options.settings and not options.train:
            raise UserError(f"{options.settings[0]} is for trainings; add --train, or leave it out")
        if options.times and options.train:
            raise UserError("--times measures what was judged; leave it out, --train measures what it trains")
        for name, least in (("times", 0), ("batch", 1), ("threads", 1), ("repeats", 2)):
            if getattr(options, name) < least:
                raise UserError(f"--{name} is {getattr(options, name)}; the nearest possible is {least}")
        timing = {name: getattr(options, name) for name in ("batch", "threads", "repeats")}
        (self._train if options.train else self._summarize)(options, timing)

    def _train(self, options: argparse.Namespace, timing: dict[str, int]) -> None:
        from ..analysis.scheme_trial import train_candidates, trial_table

        with repeatable():
            trial = train_candidates(Path(options.run_dir), recipe_words(options), **timing, trust=options.trust)
        if options.json:
            print_json(trial)
            return
        print_table(trial_table(trial))

    def _summarize(self, options: argparse.Namespace, timing: dict[str, int]) -> None:
        from ..analysis.connection_schemes import read_scheme_search, schemes_table, summarize_schemes, time_schemes
        from ..visualization.scheme_figure import draw_scheme_figure

        run = Path(options.run_dir)
        search = read_scheme_search(run, options.trust)
        check_writable(run / "schemes.png", "RUN, or make it writable")
        times = time_schemes(search, options.times, **timing) if options.times else {}
        summary = summarize_schemes(search, times)
        draw_scheme_figure(run / "schemes.png", search, summary, times)
        if options.json:
            print_json(summary)
            return
        print_table(schemes_table(summary))
        print_text(f"figure   {run / 'schemes.png'}")


COMMANDS: tuple[Command, ...] = (LatencyTable(), Schemes())
