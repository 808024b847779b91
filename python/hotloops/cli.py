"""The terminal commands ``hotloops tour``, ``hotloops info`` and ``hotloops bench``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import hotloops
from hotloops._report import text
from hotloops._runtime.dispatch import BACKENDS

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        What stands after ``hotloops`` in the terminal; by default that of this process.

    Returns
    -------
    int
        0 for success, 1 for a failed benchmark, 2 for wrong arguments or a missing backend, 130
        after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    options.command_line = shlex.join(["hotloops", *arguments])
    try:
        return int(options.run(options))
    except (hotloops.BackendUnavailable, TypeError, ValueError, OSError) as error:
        text.show(f"hotloops {options.command}: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        text.show(f"\nhotloops {options.command}: stopped", sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hotloops", description="Hot loops over many rows at once, on every core."
    )
    parser.add_argument("--version", action="version", version=f"hotloops {hotloops.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    tour = commands.add_parser("tour", help="run the main job on packaged data, write a report")
    tour.add_argument("--quick", action="store_true", help="fewer chains and steps")
    tour.add_argument(
        "--output",
        type=Path,
        default=Path("hotloops-tour"),
        metavar="DIR",
        help="folder for index.html (default: %(default)s)",
    )
    tour.add_argument("--num-threads", type=int, metavar="N", help="threads (default: all)")
    tour.add_argument("--backend", choices=BACKENDS, help="default: the fastest that is there")
    tour.set_defaults(run=_tour)

    info = commands.add_parser("info", help="print versions, backends, instruction set, threads")
    info.set_defaults(run=_info)

    bench = commands.add_parser("bench", help="run the benchmarks beside their peers")
    bench.add_argument("family", nargs="?", help="only this family, for instance sgd")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    bench.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    bench.add_argument("--quick", action="store_true", help="fewer repetitions")
    bench.set_defaults(run=_bench)
    return parser


def _tour(options: argparse.Namespace) -> int:
    from hotloops._report import page, tour, tour_cells, tour_consensus, tour_page, tour_portfolio
    from hotloops._runtime.info import runtime_info

    options.output.mkdir(parents=True, exist_ok=True)  # fails before the work, not after it
    text.show("Regularised logistic regression by SGD ensembles, minibatch 1, two step sizes")
    text.show(
        "on the same draws; Polyak–Ruppert averages and their Richardson–Romberg combination."
    )
    outcomes = []
    for plan in tour.experiments(options.quick):
        text.show(f"\n{plan.title}: {plan.num_chains:,} chains of {2 * plan.num_steps:,} steps")
        outcomes.append(
            tour.run_experiment(plan, num_threads=options.num_threads, backend=options.backend)
        )
    text.show()
    text.show_table(tour.table(outcomes), rule_after=(0,))
    text.show("\nA portfolio of three stocks with two wells, by multiplicative weights without and")
    text.show("with Langevin noise.\n")
    portfolio = tour_portfolio.run(
        options.quick, num_threads=options.num_threads, backend=options.backend
    )
    text.show_table(tour_portfolio.table(portfolio), rule_after=(0,))
    text.show()
    text.show("One model for four clients of one label each, by FedAvg and by consensus ADMM.\n")
    rounds = 60 if options.quick else 150
    consensus = tour_consensus.run_consensus(rounds, num_threads=options.num_threads)
    text.show_table(tour_consensus.table(consensus), rule_after=(0,))
    text.show()
    text.show("New blood cells from a generator, against cells that it never saw.\n")
    cells = tour_cells.run(options.quick, num_threads=options.num_threads, backend=options.backend)
    text.show_table(tour_cells.table(cells), rule_after=(0,))
    text.show_table(tour_cells.facts(cells)[1:])
    text.show()
    target = options.output / "index.html"
    sections = [
        tour_portfolio.section(portfolio),
        tour_consensus.section(consensus),
        tour_cells.section(cells),
    ]
    page.write_text(
        target, tour_page.build(outcomes, runtime_info(), options.command_line, sections)
    )
    text.show(f"Pictures and explanations: {target}")
    return 0


def _info(options: argparse.Namespace) -> int:
    hotloops.show_runtime()
    return 0


def _bench(options: argparse.Namespace) -> int:
    from hotloops._report import bench

    return bench.run(options.family, options.json, options.html, quick=options.quick)
