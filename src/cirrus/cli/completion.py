"""`completion` and `version`: what a shell and a person want to know about the program itself."""

import click
from click.shell_completion import get_completion_class

from cirrus import __version__
from cirrus.cli.output import Output, common

VARIABLE = "_CIRRUS_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    \b
    bash: cirrus completion bash >> ~/.bashrc
    zsh:  cirrus completion zsh >> ~/.zshrc
    fish: cirrus completion fish > ~/.config/fish/completions/cirrus.fish
    """  # noqa: D301  (click takes the backspace as "do not wrap")
    kind = get_completion_class(shell)
    assert kind is not None, shell
    click.echo(kind(ctx.find_root().command, {}, "cirrus", VARIABLE).source())


@click.command()
@common
@click.pass_obj
def version(output: Output) -> None:
    """Print the version."""
    if output.json:
        output.document({"version": __version__})
    else:
        click.echo(f"cirrus {__version__}")
