"""``mergescale policy``: checks a policy before anybody merges it; needs no server."""

from __future__ import annotations

import click

from mergescale.cli.fmt import fmt
from mergescale.cli.groups import noun
from mergescale.cli.options import offline
from mergescale.cli.plan import plan
from mergescale.cli.policy_files import count, path_argument, read_policy, refused
from mergescale.cli.policy_nodes import compile_node, explain
from mergescale.cli.policy_questions import can, who_can
from mergescale.cli.policy_tests import run_tests
from mergescale.cli.reporting import checked, form_of, format_option, tell
from mergescale.cli.screen import Screen
from mergescale.policy.reports import ReportForm

app = noun("policy", "Policy files, before they are merged; no server is needed.")
app.add_command(fmt)
app.add_command(run_tests)
app.add_command(plan)
app.add_command(can)
app.add_command(who_can)
app.add_command(compile_node)
app.add_command(explain)


@app.command("check")
@path_argument
@format_option
@offline
def check(screen: Screen, path: str, form: str | None) -> None:
    """Say everything that is wrong with a policy and the files beside it.

    PATH is a folder with a policy.hujson, one of its files, a policy alone, or - for a policy on
    standard input; this folder if nothing is said.

    Does not run the policy's tests; `mergescale policy test` does. `mergescale policy codes` lists
    the codes that json, sarif, junit and github tell. Exit code 1 if the policy is refused.
    """
    files = read_policy(path)
    declaration, found = files.declare()
    chosen = form_of(screen, form)
    tell(screen, chosen, checked(files, found))
    if declaration is None:
        raise refused(found)
    if chosen is ReportForm.TEXT:
        names = ", ".join(files.shown[name] for name in sorted(files.texts))
        warnings = f", {count(len(found), 'warning')}" if found else ""
        screen.done(f"{names}: no errors{warnings}")


@app.command("codes")
@click.argument("code", required=False)
@offline
def codes(screen: Screen, code: str | None) -> None:
    """List the codes of what `check` and `test` find, or what one CODE means."""
    from mergescale.cli.errors import CommandFailed
    from mergescale.policy.codes import CODES
    from mergescale.policy.diagnostics import nearest

    if code is not None and code not in CODES:
        close = nearest(code, CODES)
        raise CommandFailed(
            f'there is no code "{code}"', help=f'did you mean "{close}"?' if close else ""
        )
    told = {one: meaning for one, meaning in CODES.items() if code in {None, one}}
    if screen.is_json:
        screen.json(told)
    else:
        screen.table(("CODE", "MEANING"), told.items())
