"""What may be followed: addresses, refs, folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergescale.gitops.git.source import LOCAL_POLL_S, REMOTE_POLL_S, Source, Transport
from mergescale.kernel.errors import Invalid

SECRET = "hunter2-canary"


@pytest.mark.parametrize(
    ("text", "transport", "url"),
    [
        ("https://git.example.com/net/policy.git", Transport.HTTPS, None),
        ("https://git.example.com:8443/net/policy", Transport.HTTPS, None),
        ("ssh://git@git.example.com:22/net/policy.git", Transport.SSH, None),
        ("git@git.example.com:net/policy.git", Transport.SSH, None),
        ("git.example.com:~ana/policy", Transport.SSH, None),
        ("/srv/git/policy.git", Transport.FILE, None),
        ("/srv/git/$HOME/~x/%ENV%", Transport.FILE, None),
        ("file:///srv/git/policy.git", Transport.FILE, "/srv/git/policy.git"),
    ],
)
def test_https_ssh_and_paths_are_taken_literally(
    text: str, transport: Transport, url: str | None
) -> None:
    """Git is given what was written; nothing is expanded."""
    source = Source.parse(text)
    assert (source.transport, source.url) == (transport, url or text)


def test_a_relative_path_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The worker has another working folder."""
    monkeypatch.chdir(tmp_path)
    assert Source.parse("./policy").local == tmp_path / "policy"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " /srv/git",
        "-/srv/git",
        "--upload-pack=touch /tmp/x",
        "--upl=x",
        "-ux",
        "policy",
        "~/policy",
        "$HOME/policy",
        "%ENV%/policy",
        "ext::sh -c touch% x",
        "EXT::sh",
        "ext://x/y",
        "fd::17/x",
        "git://git.example.com/policy",
        "http://git.example.com/policy",
        "ftp://git.example.com/policy",
        "ssh://-oProxyCommand=touch/x",
        "ssh://git@-oProxyCommand=touch/x",
        "-oProxyCommand=touch:x",
        "git@-oProxyCommand=touch:x",
        "git@host:-x",
        "ssh://host/a b",
        "ssh://host/$(id)",
        "https://host",
        "https://host/a?token=x",
        "https://host/a#b",
        "https://host/$HOME",
        "https://host/a%0ab",
        "https://host/a%00",
        "https://host/a%7F",
        "https://host/a%2",
        "https://host/%zz",
        "https://-host/a",
        "file://host/srv/git",
        "file:///srv/%2e%2e/git",
        "file:relative",
        "/srv/git\nx",
        "/srv/git\0x",
        "/srv/\u202egit",
        "/" + "x" * 2000,
    ],
)
def test_everything_else_is_refused_before_git_is_called(text: str) -> None:
    """Options, other transports, expansions, control characters: none passes the grammar."""
    with pytest.raises(Invalid):
        Source.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        f"https://ana:{SECRET}@git.example.com/policy",
        f"https://{SECRET}@git.example.com/policy",
        f"https://git.example.com/policy?token={SECRET}",
        f"http://ana:{SECRET}@git.example.com/policy",
        f"ssh://ana:{SECRET}@git.example.com/policy",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_echoed(text: str) -> None:
    """They would stand in process lists and messages."""
    with pytest.raises(Invalid) as refused:
        Source.parse(text)
    assert SECRET not in refused.value.message + refused.value.help + repr(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ssh://git@host", "the ssh address has no path or holds characters"),
        ("SSH://git@host/x", "the ssh address has no path or holds characters"),
        ("ssh://git@host/x?y", "the ssh address has no path or holds characters"),
        ("https://host", "the https address has no path or holds characters"),
        ("ssh+git://host/x", "not fetched over `ssh\\+git`"),
        ("~/policy", "neither an https or ssh address nor a path"),
    ],
)
def test_a_refusal_says_what_is_wrong_with_the_address(text: str, said: str) -> None:
    """Who wrote an ssh address is not told to use ssh."""
    with pytest.raises(Invalid, match=said):
        Source.parse(text)


@pytest.mark.parametrize(
    ("ref", "full"),
    [
        ("main", "refs/heads/main"),
        ("team/net-1.x", "refs/heads/team/net-1.x"),
        ("refs/tags/v1", "refs/tags/v1"),
        ("refs/pull/420/head", "refs/pull/420/head"),
    ],
)
def test_a_short_name_is_a_branch(ref: str, full: str) -> None:
    """Anything else is named in full."""
    assert Source.parse("/srv/git", ref=ref).followed.ref == full


@pytest.mark.parametrize(
    "ref",
    [
        "", "HEAD", "-x", "--upload-pack=x", "+main", "main:refs/heads/x", "^main", "a..b", "a b",
        "a~1", "a^{commit}", "a@{1}", "a//b", "a/", "/a", "a.", "a.lock", "a.lock/b", ".a", "a/.b",
        "../x", "refs/../x", "a\nb", "a\0b", "a*", "a?", "a[", "a\\b", "x" * 300,
    ],
)  # fmt: skip
def test_a_ref_that_is_no_name_is_refused(ref: str) -> None:
    """Revisions, refspecs, options and paths are not names."""
    with pytest.raises(Invalid):
        Source.parse("/srv/git", ref=ref)


@given(st.text(max_size=30))
def test_whatever_passes_is_no_option_and_no_refspec(text: str) -> None:
    """The grammar admits nothing that git reads as something else."""
    try:
        source = Source.parse("/srv/git", ref=text, folder="")
    except Invalid:
        return
    assert source.followed.ref.startswith("refs/")
    assert not set(source.followed.ref) & set(" ~^:?*[\\\n\0+") - {"+"}


@pytest.mark.parametrize(
    ("folder", "plain"),
    [("", ""), (".", ""), ("/", ""), ("net/", "net"), ("./net", "net"), ("a/b-c", "a/b-c")],
)
def test_a_folder_has_no_slashes_at_its_ends(folder: str, plain: str) -> None:
    """So that it can stand behind a commit's id."""
    assert Source.parse("/srv/git", folder=folder).folder == plain


@pytest.mark.parametrize(
    "folder", ["..", "a/../b", "/etc", "-x", "a//b", "a b", ".git", "a/.git", "a\n", "a:b"]
)
def test_a_folder_outside_or_odd_is_refused(folder: str) -> None:
    """A folder is a plain path below the root of the tree."""
    with pytest.raises(Invalid):
        Source.parse("/srv/git", folder=folder)


def test_intervals_depend_on_the_transport() -> None:
    """Looking at local files is cheap; a forge is asked twice a minute."""
    assert Source.parse("/srv/git").poll_s == LOCAL_POLL_S
    assert Source.parse("https://h.example/x").poll_s == REMOTE_POLL_S
    assert Source.parse("/srv/git", poll_s=5, timeout_s=9).poll_s == 5


@pytest.mark.parametrize("poll_s", [0, -1, float("nan"), float("inf")])
def test_an_interval_that_is_none_is_refused(poll_s: float) -> None:
    """A loop without pauses would keep the machine busy."""
    with pytest.raises(Invalid):
        Source.parse("/srv/git", poll_s=poll_s)
