"""`up` and `dispatcher`: the commands that stay."""

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from cirrus.cli.loglines import log_to_stderr
from cirrus.config import DispatcherSettings, Settings, read_settings
from cirrus.errors import CirrusError

P = ParamSpec("P")
R = TypeVar("R")


def _shared(command: Callable[P, R]) -> Callable[P, R]:
    """The options of both; what is not given comes from the environment or the file."""
    for option in (
        click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error."),
        click.option(
            "--log-keep-bytes", metavar="N", help="Kept of each attempt's log.  [16777216]"
        ),
        click.option("--slots", metavar="N", help="Attempts at once; 0: two for each core.  [0]"),
        click.option(
            "--data-dir",
            metavar="FOLDER",
            help="Where everything is kept.  [/var/lib/cirrus for root, ~/.local/state/cirrus]",
        ),
        click.option(
            "--config",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Settings in TOML.  [cirrus.toml in the data directory, if there]",
        ),
    ):
        command = option(command)
    return command


@click.command()
@_shared
@click.option("--host", metavar="ADDRESS", help="A loopback address.  [127.0.0.1]")
@click.option("--port", metavar="N", help="For the HTTP API.  [7000]")
@click.option("--monitor-port", metavar="N", help="For the monitor.  [3000]")
@click.option(
    "--dispatch", metavar="URL", help="Let further dispatchers in, at tcp://127.0.0.1:7777."
)
@click.option("--no-dispatcher", is_flag=True, default=None, help="Start no local dispatcher.")
@click.option("--lost-after-seconds", metavar="N", help="Silence that loses an attempt.  [600]")
@click.option("--crash-limit", metavar="N", help="Tries that the machine may spoil.  [5]")
@click.option("--chain-depth", metavar="N", help="Causes in a row, at most.  [10000]")
@click.option("--chain-length", metavar="N", help="Occurrences from one, at most.  [100000]")
def up(config: Path | None, **options: object) -> None:
    """Start Cirrus: coordinator, monitor and a local dispatcher.

    Every option can also be a line of the TOML file (`monitor_port = 3000`) or a variable
    (CIRRUS_MONITOR_PORT); the command line wins over the environment, that over the file.
    Ctrl-C ends it; containers that run stay, and are found again at the next start.
    """
    settings = read_settings(Settings, options, os.environ, config=config)
    log_to_stderr(settings.log_level)
    run_up(settings)


@click.command()
@_shared
@click.option("--coordinator", metavar="URL", help="tcp://…; by default the local coordinator.")
@click.option("--name", metavar="NAME", help="What it is called.  [the machine's name]")
@click.option(
    "--executor",
    "executors",
    metavar="NAME",
    multiple=True,
    help="process, docker or swarm; may be repeated.  [whatever answers]",
)
@click.option("--with-parent", is_flag=True, hidden=True, help="End when standard input ends.")
def dispatcher(
    config: Path | None, executors: tuple[str, ...], *, with_parent: bool, **options: object
) -> None:
    """Start one more dispatcher for a coordinator on this machine.

    Options may also stand in the table [dispatcher] of the TOML file, or in the environment.
    """
    options["executors"] = list(executors) or None
    settings = read_settings(DispatcherSettings, options, os.environ, config=config)
    log_to_stderr(settings.log_level)
    run_dispatcher(settings, with_parent=with_parent)


def run_up(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM. Raises SetupError."""
    from cirrus.coordinator.serve import serve

    _run(serve(settings))


def run_dispatcher(settings: DispatcherSettings, *, with_parent: bool) -> None:
    """Serve until SIGINT or SIGTERM, or until standard input ends. Raises SetupError."""
    from cirrus.dispatcher.serve import serve

    _run(serve(settings, with_parent=with_parent))


def _run(service: Coroutine[object, object, None]) -> None:
    """Raises the service's own error, also where its task group wrapped it."""
    import uvloop

    try:
        uvloop.run(service)
    except BaseExceptionGroup as group:
        known, others = group.split(CirrusError)
        cause: BaseException | None = known
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if cause is None or others is not None:
            raise
        raise cause from group
