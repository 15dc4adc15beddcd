"""Git's words and ours."""

from __future__ import annotations

import pytest

from mergescale.gitops.git.sayings import BAD_OBJECTS, blamed, classified

CANARY = "https://ana:hunter2@git.example.com/x"


@pytest.mark.parametrize(
    ("stderr", "reason", "retry"),
    [
        ("fatal: couldn't find remote ref refs/heads/main", "RefMissing", False),
        ("Host key verification failed.\nfatal: Could not read from remote", "HostKey", False),
        ("git@h: Permission denied (publickey).\nfatal: Could not read", "Denied", False),
        (f"fatal: Authentication failed for '{CANARY}'", "Denied", False),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", "Denied", False),
        (f"fatal: unable to access '{CANARY}/': The requested URL returned error: 403", "Denied", False),
        (f"fatal: unable to access '{CANARY}/': The requested URL returned error: 503", "Unreachable", True),
        (f"fatal: unable to access '{CANARY}/': Could not resolve host: h", "Unreachable", True),
        ("ssh: connect to host h port 22: Connection refused", "Unreachable", True),
        ("fatal: '/srv/x' does not appear to be a git repository", "RemoteMissing", True),
        (f"remote: Repository not found.\nfatal: repository '{CANARY}/' not found", "RemoteMissing", True),
        ("fatal: Out of memory, malloc failed", "TooLarge", False),
        ("fatal: remote error: upload-pack: not our ref 0123", "RefMissing", False),
        ("error: shallow update not allowed", "Shallow", False),
        ("fatal: mismatched algorithms: client sha1; server sha256", "ObjectFormat", False),
        ("fatal: early EOF\nfatal: fetch-pack: invalid index-pack output", "Unreachable", True),
        (f"fatal: unable to access '{CANARY}/': The requested URL returned error: 302", "Redirected", False),
        (f"fatal: unable to access '{CANARY}/': The requested URL returned error: 429", "RateLimited", True),
        (f"fatal: unable to access '{CANARY}/': SSL certificate problem: unable to get local issuer", "Certificate", False),
        ("fatal: unable to access 'x': server certificate verification failed. CAfile: /x", "Certificate", False),
        (f"fatal: {CANARY}/info/refs not valid: is this a git repository?", "BadAnswer", True),
        ("fatal: protocol error: bad line length character: <htm", "BadAnswer", True),
        ("git is not installed", "NoGit", True),
    ],
)  # fmt: skip
def test_what_to_do_next_follows_from_what_git_says(stderr: str, reason: str, retry: bool) -> None:
    """Each kind of failure has a word, an advice, and nothing of git's own text."""
    said = classified(stderr)
    assert said is not None
    assert (said.reason, said.retry) == (reason, retry)
    assert said.message
    assert said.help
    assert "hunter2" not in said.message + said.help


@pytest.mark.parametrize(
    "stderr",
    [
        "fatal: fsck error in packed object\nfatal: the remote end hung up unexpectedly",
        f"error: object {'0' * 40}: zeroPaddedFilemode: contains zero-padded file modes",
        "fatal: loose object 01234567 (stored in objects/01/23) is corrupt",
        "fatal: not a git repository: '/var/lib/policy.git'",
        "something that nobody has seen yet",
    ],
)
def test_what_may_be_the_stores_own_fault_is_left_to_a_fresh_store(stderr: str) -> None:
    """Also where git says at the same time that the connection broke."""
    assert classified(stderr) is None


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("fatal: fsync error on 'objects/pack/tmp_idx_x': Input/output error", "StoreUnwritable"),
        (
            "fatal: write error: No space left on device\nfatal: index-pack failed",
            "StoreUnwritable",
        ),
        ("error: index-pack died of signal 9\nfatal: index-pack failed", "GitEnded"),
        ("ended by signal 9", "GitEnded"),
        ("fatal: early EOF", "Unreachable"),
        ("fatal: fetch-pack: invalid index-pack output\n", "GitEnded"),
        ("error: cannot lock ref 'refs/mergescale/tip'", "StoreUnwritable"),
    ],
)
def test_what_the_machine_does_is_tried_again(stderr: str, reason: str) -> None:
    """A first failure may be the store's; with a fresh one it is the disk or the memory."""
    said = blamed(stderr)
    assert (said.reason, said.retry) == (reason, True)


def test_what_else_a_fresh_store_refuses_is_the_objects_fault() -> None:
    """It needs another commit."""
    assert blamed("fatal: fsck error in packed object") is BAD_OBJECTS
