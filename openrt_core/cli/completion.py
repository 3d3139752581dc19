"""``openrt completion``."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), metavar="|".join(SHELLS))
def command(shell: str) -> None:
    """Print the script that has a shell complete openrt's words.

    Commands, options and the names of installed runtimes are completed.

    \b
    Examples, each done once:
      openrt completion bash > ~/.local/share/bash-completion/completions/openrt
      openrt completion zsh > ~/.zfunc/_openrt     with ~/.zfunc in fpath, before compinit
      openrt completion fish > ~/.config/fish/completions/openrt.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    from openrt_core.cli.main import openrt

    kind = get_completion_class(shell)
    assert kind is not None
    # Bash's own source() starts a bash to ask for its version; the script is the same.
    click.echo(ShellComplete.source(kind(openrt, {}, "openrt", "_OPENRT_COMPLETE")))
