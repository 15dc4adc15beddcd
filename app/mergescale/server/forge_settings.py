"""The forge of a watched repository, as it is configured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

#: What statuses may be called before the slash.
_Prefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
_Link = Annotated[str, Field(pattern=r"^(https?://[!-~]+)?$", max_length=1000)]


class Forge(BaseModel, frozen=True, extra="forbid"):
    """Where statuses and plans of a watched repository are told.

    Attributes:
        kind: whose API is spoken.
        api_url: where it begins; empty: that of the repository's host.
        project: its name there; empty: the path of the repository's URL.
        contexts: what statuses are called before the slash.
        forks: plan pull requests of forks too.
        redact: how much of a plan is told.
        plan_url: where a status leads; ``{commit}`` stands for the commit.
        poll_s: seconds between looks at the open pull requests that nothing else causes.
        replan_s: seconds between two plans of one head, at least.
        loopback_http: let ``http://`` to this machine pass, for tests and demonstrations.
    """

    kind: Literal["github", "gitlab", "gitea", "forgejo"]
    api_url: str = ""
    project: str = ""
    contexts: _Prefix = "mergescale"
    forks: bool = False
    redact: Literal["full", "names", "counts"] = "full"
    plan_url: _Link = ""
    poll_s: float = Field(default=60.0, ge=1.0, le=86_400)
    replan_s: float = Field(default=60.0, ge=0.0, le=86_400)
    loopback_http: bool = False
