"""A noun: a group of verbs that shows its help when no verb is given."""

from __future__ import annotations

import click

from mergescale.cli.errors import ExitCode


def noun(name: str, help: str) -> click.Group:  # noqa: A002 - click's word
    """Return the group of a noun's verbs."""

    @click.group(name, help=help, invoke_without_command=True)
    @click.pass_context
    def group(context: click.Context) -> None:
        show_help_without_command(context)

    return group


def show_help_without_command(context: click.Context) -> None:
    """Show what there is if nothing was chosen; not done is not well done."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(ExitCode.USAGE)
