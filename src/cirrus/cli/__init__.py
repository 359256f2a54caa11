"""The command line: arguments in, exit codes out. Each group of commands is loaded when used."""

import os
from importlib import import_module
from typing import Final, NoReturn

import click

from cirrus import __version__
from cirrus.cli.output import Output, common
from cirrus.errors import CirrusError, Refused, SetupError, StoreBroken, Unavailable

COMMANDS: Final = {
    "up": ("serve", "Start Cirrus: coordinator, monitor and a local dispatcher."),
    "dispatcher": ("serve", "Start one more dispatcher for a coordinator."),
    "apply": ("define", "Register the definitions in files or folders, all or nothing."),
    "check": ("define", "Look for mistakes in files of definitions, without a coordinator."),
    "trigger": ("trigger", "Let EVENT occur, and say what became of it."),
    "status": ("status", "Show what is there: dispatchers, jobs, joins that wait."),
    "jobs": ("jobs", "List jobs, the newest first, or show one with its attempts."),
    "logs": ("jobs", "Print the log of a job."),
    "cancel": ("jobs", "End a job that has not ended; nothing is triggered."),
    "retry": ("jobs", "Run an ended job again, as its rule's next generation."),
    "pause": ("status", "Let a rule's jobs wait until it is resumed."),
    "resume": ("status", "Let the jobs of a paused rule start again."),
    "reset": ("status", "Let nothing stand any more under a key."),
    "doctor": ("doctor", "Say what is wrong with this machine, and how to mend it."),
    "completion": ("completion", "Print the script that completes commands in a shell."),
    "version": ("completion", "Print the version."),
}
"""Each command: the module that holds it, and its line in `cirrus --help`."""

INTERRUPTED: Final = 130

EXIT_CODES: Final = """\b
Exit codes:
  0  done
  1  what was asked about failed: a job, a check
  2  wrong usage
  3  no coordinator answers
  4  the coordinator refused
  5  the machine or the configuration needs mending
"""


class Group(click.Group):
    """Commands by name, from COMMANDS. Errors become one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, line = COMMANDS[cmd_name]
        command = getattr(import_module(f"cirrus.cli.{module}"), cmd_name)
        assert isinstance(command, click.Command)
        command.short_help = line
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except CirrusError as error:
            ctx.ensure_object(Output).error(error)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(INTERRUPTED)


def exit_code(error: CirrusError) -> int:
    codes = {Unavailable: 3, Refused: 4, SetupError: 5, StoreBroken: 5}
    return next((code for kind, code in codes.items() if isinstance(error, kind)), 1)


@click.command(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="cirrus", message="%(prog)s %(version)s")
@common
@click.pass_context
def cirrus(ctx: click.Context) -> None:
    """Cirrus runs jobs when the events that they wait for have occurred."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False
    output = ctx.ensure_object(Output)
    output.url = output.url or os.environ.get("CIRRUS_URL") or "http://127.0.0.1:7000"


def main() -> NoReturn:
    raise SystemExit(cirrus(prog_name="cirrus"))
