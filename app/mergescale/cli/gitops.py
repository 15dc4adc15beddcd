"""``mergescale gitops``: the watched repository, a short command for each thing to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from mergescale.cli import credential, forge, notify, webhook
from mergescale.cli.errors import CommandFailed
from mergescale.cli.gitops_override import override, until
from mergescale.cli.gitops_status import named, show
from mergescale.cli.gitops_wait import wait
from mergescale.cli.groups import noun
from mergescale.cli.keys import Span
from mergescale.cli.options import Session, online, yes_option
from mergescale.cli.questions import confirm
from mergescale.cli.screen import NOTHING, moment, printable

app = noun("gitops", "The watched repository: which commit is in force, and what is wrong.")
app.add_command(credential.app)
app.add_command(webhook.app)
app.add_command(notify.app)
app.add_command(forge.app)
app.add_command(forge.pulls)
app.add_command(wait)
app.add_command(override)

#: LIMIT: seconds; a first fetch of a large history takes the server this long.
_SYNC_S: Final = 180.0
#: As ``policy plan`` ends when there is an effect.
_DIFFERS: Final = 2
_reason: Final = click.option(
    "--reason", required=True, metavar="TEXT", help="Why; kept, and shown with the status."
)


@app.command("status")
@online
def show_status(session: Session) -> None:
    """Show the commit in force, the newest one, and what is wrong with it.

    Exit code 0 if all is well, 3 if the newest commit is not in force, or the repository cannot or
    is not to be followed.
    """
    show(session, session.server.inside("GET", "gitops"))


@app.command("sync")
@click.option("--retry", is_flag=True, help="Try it even if the compiler did not survive it.")
@online
def sync(session: Session, *, retry: bool) -> None:
    """Look at the repository now, and judge its newest commit again.

    Exit code 0 if that commit is in force, 3 if not.
    """
    if session.screen.terminal:
        session.screen.hint("► looking at the repository")
    query = {"retry": "true"} if retry else {}
    show(session, session.server.inside("POST", "gitops", "sync", query=query, timeout_s=_SYNC_S))


@app.command("history")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@online
def history(session: Session, limit: int) -> None:
    """List the commits that were in force, newest first, and who put them there."""
    answer = session.server.inside("GET", "gitops", "history", query={"limit": str(limit)})
    if session.screen.is_json:
        session.screen.json(answer)
        return
    session.screen.table(
        (
            "COMMIT",
            "IN FORCE",
            "APPLIED",
            "BY",
            "UNTIL",
            "SUBJECT",
            "AUTHOR",
            "COMMITTED",
            "REASON",
        ),
        (
            (
                one["commit"][:12],
                "yes" if one["inForce"] else NOTHING,
                moment(one["applied"]),
                printable(one["appliedBy"] or "the branch"),
                moment(one["until"]),
                printable(one["subject"]),
                printable(one["author"]),
                moment(one["committed"]),
                printable(_why(one)),
            )
            for one in answer["deployments"]
        ),
    )


def _told(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that shows a plan ``--format`` and ``--redact``."""
    form = click.option(
        "--format",
        "form",
        type=click.Choice(("text", "json", "markdown")),
        help="What is printed; text and json are those of -o.",
    )
    redact = click.option(
        "--redact",
        type=click.Choice(("full", "names", "counts")),
        default="full",
        show_default=True,
        help="How much is told: all; no addresses; no names and no addresses.",
    )
    return form(redact(command))


@app.command("diff")
@click.argument("base", metavar="A")
@click.argument("head", metavar="B")
@_told
@online
def diff(session: Session, base: str, head: str, form: str | None, redact: str) -> None:
    """Say who reaches what under commit B and not under A, both of the history.

    Exit code 0 if nothing differs, 2 if something does.
    """
    query = {"base": base, "head": head, "redact": redact}
    found = session.server.inside("GET", "gitops", "diff", query=query)
    _show_plan(session, found, form)
    same = found["verdict"] == "no effect"
    click.get_current_context().exit(0 if same else _DIFFERS)


@app.command("plan")
@_told
@online
def plan(session: Session, form: str | None, redact: str) -> None:
    """Say what the newest commit of the branch would do now, gates included; nothing changes.

    Its hash is what `gitops approve --plan` takes. Exit code 0 if it has no effect or is in force, 2
    if it has one, 3 if a test of the policy fails, 4 if a gate refuses it.
    """
    import msgspec

    from mergescale.cli.plan import exit_code
    from mergescale.plan.model import Plan

    query = {"redact": redact}
    found = session.server.inside("GET", "gitops", "plan", query=query, timeout_s=_SYNC_S)["plan"]
    if found is None:
        if form == "json" or (form is None and session.screen.is_json):
            session.screen.json(None)
        else:
            session.screen.hint("the newest commit of the branch is in force already")
        return
    _show_plan(session, found, form)
    click.get_current_context().exit(exit_code(msgspec.convert(found, Plan)))


@app.command("suspend")
@_reason
@click.option("--for", "lasting_s", type=Span(), help="As in 2h or 3d; until `resume` if not said.")
@online
def suspend(session: Session, reason: str, lasting_s: int | None) -> None:
    """Let no commit come into force by itself, until `resume` or for a while."""
    body = {"reason": reason, "expirySeconds": lasting_s or 0}
    done = session.server.inside("POST", "gitops", "suspend", body=body)
    _said(session, done)
    session.screen.done(f"following is suspended{until(done['suspended'])}")


@app.command("pin")
@click.argument("commit", required=False)
@click.option("--reason", metavar="TEXT", help="Why; kept, and shown with the status.")
@click.option("--off", is_flag=True, help="Follow the branch again; the same as `resume`.")
@yes_option
@online
def pin(session: Session, commit: str | None, reason: str | None, *, off: bool, yes: bool) -> None:
    """Put COMMIT in force and keep it there; newer ones wait until `resume` or `pin --off`.

    COMMIT is one that was in force, or any of the branch's history.
    """
    if off:
        go_on(session, yes=yes)
        return
    if commit is None or reason is None:
        raise click.UsageError("give COMMIT and --reason, or --off", click.get_current_context())
    confirm(f"Put {commit} in force and keep it there?", yes=yes)
    body = {"commit": commit, "reason": reason}
    done = session.server.inside("POST", "gitops", "pin", body=body, timeout_s=_SYNC_S)
    _said(session, done)
    session.screen.done(f"{named(done['current'])} is in force, and stays")


@app.command("resume")
@yes_option
@online
def resume(session: Session, *, yes: bool) -> None:
    """Follow the branch again; shows what that does first.

    Exit code 3 if the newest commit is not in force after it.
    """
    go_on(session, yes=yes)


def go_on(session: Session, *, yes: bool) -> None:
    """Show what the branch would do, ask, and follow it again."""
    if not session.screen.is_json:
        _show_next(session)
    confirm("Follow the branch again?", yes=yes)
    show(session, session.server.inside("POST", "gitops", "resume", timeout_s=_SYNC_S))


@app.command("rollback")
@click.argument("commit")
@_reason
@yes_option
@online
def rollback(session: Session, commit: str, reason: str, *, yes: bool) -> None:
    """Put COMMIT of the history in force at once, and suspend following.

    The remote is not asked. What it replaces is skipped until it is accepted.
    """
    confirm(f"Put {commit} in force and suspend following?", yes=yes)
    body = {"commit": commit, "reason": reason}
    done = session.server.inside("POST", "gitops", "rollback", body=body)
    _said(session, done)
    session.screen.done(f"{named(done['after'])} is in force; following is suspended")
    if done["revert"]:
        session.screen.hint(f"make the branch say so too: {done['revert']}")
        session.screen.hint("then: mergescale gitops resume")


@app.command("accept")
@click.argument("commit")
@online
def accept(session: Session, commit: str) -> None:
    """Let COMMIT come into force although it rewrites the history or is skipped; only this one.

    Exit code 3 if it is not in force after it.
    """
    body = {"commit": commit}
    show(session, session.server.inside("POST", "gitops", "accept", body=body, timeout_s=_SYNC_S))


@app.command("approve")
@click.argument("commit")
@_reason
@click.option(
    "--plan",
    default="",
    metavar="HASH",
    help="Of the plan that was looked at: if the commit does something else by then, it waits.",
)
@online
def approve(session: Session, commit: str, reason: str, plan: str) -> None:
    """Let COMMIT come into force although a gate refuses it or a freeze window holds.

    Only this commit, whatever its gates are; who approved it and why stays with it. Exit code 3 if
    it is not in force after it.
    """
    body = {"commit": commit, "reason": reason, "plan": plan}
    show(session, session.server.inside("POST", "gitops", "approve", body=body, timeout_s=_SYNC_S))


def _why(one: dict[str, Any]) -> str:
    """Return why a deployment came into force, where somebody said so."""
    approved = f"approved by {one['approvedBy']}: {one['approvedBecause']}"
    signed = f"signed by {', '.join(who.rpartition(' (')[0] for who in one['verifiedBy'])}"
    words = [
        one["reason"],
        approved if one["approvedBy"] else None,
        signed if one["verifiedBy"] else None,
    ]
    return "; ".join(filter(None, words)) or NOTHING


def _said(session: Session, answer: dict[str, Any]) -> None:
    if session.screen.is_json:
        session.screen.json(answer)


def _show_next(session: Session) -> None:
    """Show what the branch would do; that nothing can come of it now is no reason not to."""
    try:
        found = session.server.inside("GET", "gitops", "plan", timeout_s=_SYNC_S)["plan"]
    except CommandFailed as error:
        session.screen.hint(printable(f"nothing comes into force now: {error}"))
        return
    if found is None:
        session.screen.hint("the newest commit of the branch is in force already")
    else:
        _show_plan(session, found)


def _show_plan(session: Session, found: dict[str, Any], form: str | None = None) -> None:
    import msgspec

    from mergescale.plan.model import Plan
    from mergescale.plan.rendering import Review, rendered

    chosen = form or ("json" if session.screen.is_json else "text")
    if chosen == "json":
        session.screen.json(found)
    else:
        review = Review(msgspec.convert(found, Plan), (), (), {})
        session.screen.out.write(rendered(review, chosen))
