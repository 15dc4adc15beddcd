"""Whose commits are let in: real repositories, signed by the real programs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from mergescale.gitops.git.bare import GitFailed, Store
from mergescale.gitops.git.hardening import child_environment
from mergescale.gitops.trust import signatures
from mergescale.gitops.trust.demands import Demands, Signatures, Verdict
from mergescale.gitops.trust.signatures import verify
from support.repositories import Repository
from support.signing import GpgHome, GpgKey, SshKey, sign

ANA = "ana@example.com"
FILES = {"policy.hujson": "{}"}
#: After what the repositories are dated with.
TODAY = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass(slots=True)
class World:
    """A repository, a folder of the server, and a key that it may trust."""

    folder: Path
    repository: Repository
    ana: SshKey
    eve: SshKey

    def verdict(
        self,
        commit: str,
        mode: Signatures = Signatures.HEAD,
        *,
        applied: str = "",
        signers: str | None = None,
        keys: bytes | None = None,
        committers: tuple[str, ...] = (),
        authors: tuple[str, ...] = (),
    ) -> Verdict:
        """Verify a commit with these signers; ana's key if none are given."""
        (self.folder / "signers").write_text(self.ana.signer() if signers is None else signers)
        (self.folder / "keys").write_bytes(keys or b"")
        demands = Demands(
            signatures=mode,
            ssh_signers=str(self.folder / "signers"),
            gpg_keys=str(self.folder / "keys") if keys is not None else "",
            committers=committers,
            authors=authors,
        )
        return self.demanding(demands, commit, applied)

    def demanding(self, demands: Demands, commit: str, applied: str = "") -> Verdict:
        scratch = self.folder / "scratch"
        store = Store(self.repository.path, "file")
        try:
            return verify(
                store, commit, applied=applied, demands=demands, scratch=scratch, now=TODAY
            )
        finally:
            assert not scratch.exists()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The environment is that of the worker."""
    home = tmp_path / "home"
    home.mkdir()
    for name, value in child_environment(home, "file", "/").items():
        monkeypatch.setenv(name, value)
    repository = Repository(tmp_path / "repo")
    return World(tmp_path, repository, SshKey(tmp_path / "ana"), SshKey(tmp_path / "eve"))


@pytest.fixture(scope="module")
def gpg() -> Iterator[GpgHome]:
    """A home with secret keys."""
    with GpgHome.made() as home:
        yield home


@pytest.fixture(scope="module")
def bea(gpg: GpgHome) -> GpgKey:
    """A key of the home."""
    return gpg.key("Bea <bea@example.com>")


def test_off_asks_for_nothing(world: World) -> None:
    """An unsigned commit is as good as any, whatever is trusted."""
    commit = sign(world.repository, FILES, None)
    assert world.verdict(commit, Signatures.OFF) == Verdict(signatures=Signatures.OFF)


def test_a_signer_of_the_servers_file_is_named(world: World) -> None:
    """By the name in the file and the key's fingerprint."""
    commit = sign(world.repository, FILES, world.ana)
    assert world.verdict(commit) == Verdict(
        signatures=Signatures.HEAD, by=(f"{ANA} ({world.ana.fingerprint})",), first=True
    )


def test_an_unsigned_commit_is_refused(world: World) -> None:
    """It says which, and that it is not signed."""
    commit = sign(world.repository, FILES, None)
    verdict = world.verdict(commit)
    assert (verdict.reason, verdict.by) == ("Unsigned", ())
    assert verdict.message == f"commit {commit[:12]} is not signed"


def test_a_key_that_the_server_does_not_name_is_refused(world: World) -> None:
    """However good its signature is."""
    commit = sign(world.repository, FILES, world.eve)
    assert world.verdict(commit).reason == "UntrustedKey"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ('namespaces="git"', ""),
        ('namespaces="file,git"', ""),
        ('namespaces="file"', "UntrustedKey"),
        ('valid-after="20250101"', ""),
        ('valid-before="20270101"', ""),
        # The commit is of January 2026, today is in June.
        ('valid-after="20260501"', "ExpiredKey"),
        ('valid-before="20251231"', "ExpiredKey"),
        ('valid-before="20260501Z"', "ExpiredKey"),
        ('valid-after="20270101"', "ExpiredKey"),
    ],
)
def test_what_the_file_says_of_a_key_is_kept(world: World, options: str, reason: str) -> None:
    """A key must be for commits, and be good both at the commit's date and today."""
    commit = sign(world.repository, FILES, world.ana)
    assert world.verdict(commit, signers=world.ana.signer(ANA, options)).reason == reason


def test_a_certificate_of_a_trusted_authority_is_good(world: World) -> None:
    """As git and OpenSSH have it; for the principals that it names only."""
    sealed = [
        *("ssh-keygen", "-q", "-s", str(world.ana.path), "-I", "x", "-n", "eve@example.com"),
        str(world.eve.path.with_suffix(".pub")),
    ]
    subprocess.run(sealed, check=True, capture_output=True)
    commit = sign(world.repository, FILES, world.eve)
    options = [f"-c user.signingKey={world.eve.path}-cert.pub"]
    signed = world.repository.git(
        *("-c", "gpg.format=ssh", *options[0].split(), "commit-tree", "-S", "-m", "x"),
        f"{commit}^{{tree}}",
    )
    authority = world.ana.signer("*@example.com", "cert-authority")
    assert world.verdict(signed, signers=authority).by[0].startswith("eve@example.com (SHA256:")
    assert world.verdict(commit, signers=authority).reason == "UntrustedKey"
    elsewhere = world.ana.signer("*@example.net", "cert-authority")
    assert world.verdict(signed, signers=elsewhere).reason == "UntrustedKey"


def tampered(repository: Repository, commit: str, before: bytes, after: bytes) -> str:
    """Return a copy of a commit with something in it replaced."""
    raw = subprocess.run(
        ["git", f"--git-dir={repository.path}", "cat-file", "commit", commit],
        check=True,
        capture_output=True,
    ).stdout
    assert before in raw
    made = raw.replace(before, after)
    return repository.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=made)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"change the policy", b"change the police"),
        (b"<ana@example.com>", b"<eve@example.com>"),
        (b"SSH SIGNATURE", b"ODD SIGNATURE"),
        (b"U1NIU0lH", b"U1NIU0lI"),
    ],
)
def test_a_signature_of_something_else_is_refused(
    world: World, before: bytes, after: bytes
) -> None:
    """Of another commit, of no kind that git knows, or not one at all."""
    commit = sign(world.repository, FILES, world.ana)
    changed = tampered(world.repository, commit, before, after)
    assert world.verdict(changed).reason == "BadSignature"


def test_a_certificate_is_called_what_it_is(world: World) -> None:
    """Who signs with gpgsm or gitsign did sign, but nothing here says who that is."""
    plain = sign(world.repository, FILES, None)
    signature = b"\ngpgsig -----BEGIN SIGNED MESSAGE-----\n MIIE\n -----END SIGNED MESSAGE-----"
    verdict = world.verdict(
        tampered(world.repository, plain, b"\n\nchange", signature + b"\n\nchange")
    )
    assert verdict.reason == "UntrustedKey"
    assert "is signed with an X.509 certificate, which is not verified" in verdict.message
    # In its message it is a message.
    quoted = sign(world.repository, FILES | {"notes": "x"}, None)
    commit = tampered(world.repository, quoted, b"\n\nchange", b"\n\nchange\n" + signature)
    assert world.verdict(commit).reason == "Unsigned"


def test_a_signature_that_says_of_itself_that_it_is_good_is_not(world: World) -> None:
    """Git repeats a signature that it does not understand, and the committer wrote that."""
    good = f'Good "git" signature for {ANA} with ED25519 key {world.ana.fingerprint}'
    status = (
        "[GNUPG:] GOODSIG C38B7BC8C84ECA19 Ana\n [GNUPG:] VALIDSIG "
        + "A" * 40 + " 2026-01-01 1 0 4 0 22 8 00 " + "A" * 40
    )  # fmt: skip
    plain = sign(world.repository, FILES, None)
    for said in (good, status):
        forged = f"gpgsig {said}\n\nchange".encode()
        commit = tampered(world.repository, plain, b"\n\nchange", b"\n" + forged)
        # Git takes what has no known beginning for no signature at all.
        assert world.verdict(commit).reason in {"Unsigned", "BadSignature"}


@pytest.mark.parametrize("mode", [Signatures.HEAD, Signatures.STRICT])
def test_strict_looks_at_every_commit_since_the_one_in_force(
    world: World, mode: Signatures
) -> None:
    """A signed commit on top of an unsigned one is good for `head` only."""
    applied = sign(world.repository, FILES, None)
    between = sign(world.repository, FILES | {"a": "1"}, None)
    commit = sign(world.repository, FILES | {"a": "2"}, world.ana)
    verdict = world.verdict(commit, mode, applied=applied)
    if mode is Signatures.HEAD:
        assert (verdict.reason, verdict.commits) == ("", 1)
    else:
        assert (verdict.reason, verdict.message) == (
            "Unsigned",
            f"commit {between[:12]} is not signed",
        )


def test_strict_does_not_ask_what_is_in_force_already(world: World) -> None:
    """The unsigned past ends with the commit in force; everyone since then is named once."""
    sign(world.repository, FILES, None)
    applied = sign(world.repository, FILES | {"a": "1"}, None)
    for number, key in enumerate((world.ana, world.eve, world.ana)):
        commit = sign(world.repository, {"b": str(number)}, key)
    signers = world.ana.signer() + world.eve.signer("eve@example.com")
    assert world.verdict(commit, Signatures.STRICT, applied=applied, signers=signers) == Verdict(
        signatures=Signatures.STRICT,
        by=(
            f"{ANA} ({world.ana.fingerprint})",
            f"eve@example.com ({world.eve.fingerprint})",
        ),
        commits=3,
    )


def test_strict_looks_at_both_sides_of_a_merge(world: World) -> None:
    """A signed merge does not vouch for what it brings in."""
    applied = sign(world.repository, FILES, None)
    side = sign(world.repository, {"side": "1"}, None)
    world.repository.move(applied)
    sign(world.repository, {"main": "1"}, world.ana)
    merge = sign(world.repository, {"side": "1"}, world.ana, merged=side)
    verdict = world.verdict(merge, Signatures.STRICT, applied=applied)
    assert (verdict.reason, verdict.message) == ("Unsigned", f"commit {side[:12]} is not signed")
    assert world.verdict(merge, Signatures.HEAD, applied=applied).reason == ""


def test_strict_takes_a_merge_of_signed_sides(world: World) -> None:
    """Three commits: two sides and the merge, by whoever signed them."""
    applied = sign(world.repository, FILES, None)
    side = sign(world.repository, {"side": "1"}, world.eve)
    world.repository.move(applied)
    sign(world.repository, {"main": "1"}, world.ana)
    merge = sign(world.repository, {"side": "1"}, world.ana, merged=side)
    both = world.ana.signer() + world.eve.signer("eve@example.com")
    verdict = world.verdict(merge, Signatures.STRICT, applied=applied, signers=both)
    assert (verdict.reason, verdict.commits, len(verdict.by)) == ("", 3, 2)


@pytest.mark.parametrize("applied", ["", "f" * 40])
def test_with_nothing_in_force_strict_looks_at_the_newest_only_and_says_so(
    world: World, applied: str
) -> None:
    """A history that began before anybody signed can be taken over; so with one in force elsewhere."""
    sign(world.repository, FILES, None)
    commit = sign(world.repository, FILES | {"a": "1"}, world.ana)
    verdict = world.verdict(commit, Signatures.STRICT, applied=applied)
    assert (verdict.reason, verdict.commits, verdict.first) == ("", 1, True)


def test_more_commits_than_are_looked_at_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than letting some in unseen."""
    monkeypatch.setattr(signatures, "MAX_COMMITS", 2)
    applied = sign(world.repository, FILES, None)
    commits = [sign(world.repository, {"a": str(number)}, world.ana) for number in range(3)]
    assert [world.verdict(one, Signatures.STRICT, applied=applied).reason for one in commits] == [
        "",
        "",
        "TooManyCommits",
    ]


@pytest.mark.parametrize("mode", list(Signatures))
@pytest.mark.parametrize("role", ["committer", "author"])
def test_who_is_not_on_the_list_is_refused_in_every_mode(
    world: World, mode: Signatures, role: str
) -> None:
    """Committer and author each have their list; case does not matter."""
    eve = {f"GIT_{role.upper()}_EMAIL": "Eve@Elsewhere.example"}
    commit = sign(world.repository, FILES, world.ana, **eve)
    only = ("*@EXAMPLE.com", "bob@elsewhere.example")
    committers, authors = (only, ()) if role == "committer" else ((), only)
    verdict = world.verdict(commit, mode, committers=committers, authors=authors)
    assert (verdict.reason, verdict.message) == (
        "CommitterNotAllowed",
        f'the {role} of commit {commit[:12]}, "Eve@Elsewhere.example", is not on the list',
    )
    other = sign(world.repository, FILES | {"a": "1"}, world.ana)
    verdict = world.verdict(other, mode, committers=committers, authors=authors)
    assert verdict.reason == ""


def test_the_list_is_for_the_commits_that_the_mode_looks_at(world: World) -> None:
    """Strict asks of every commit since the one in force, the others of the newest."""
    applied = sign(world.repository, FILES, world.ana)
    sign(world.repository, {"a": "1"}, world.ana, GIT_COMMITTER_EMAIL="eve@example.net")
    commit = sign(world.repository, {"a": "2"}, world.ana)
    reasons = {
        mode: world.verdict(commit, mode, applied=applied, committers=(ANA,)).reason
        for mode in Signatures
    }
    assert reasons == {
        Signatures.OFF: "",
        Signatures.HEAD: "",
        Signatures.STRICT: "CommitterNotAllowed",
    }


def test_a_commit_without_an_email_hides_no_other(world: World) -> None:
    """An empty committer is nobody's, and does not shift what is read of the next commit."""
    applied = sign(world.repository, FILES, world.ana)
    nobody = sign(world.repository, {"a": "1"}, None, GIT_COMMITTER_EMAIL="", GIT_AUTHOR_EMAIL="")
    commit = sign(world.repository, {"a": "2"}, world.ana)
    verdict = world.verdict(commit, Signatures.STRICT, applied=applied)
    assert verdict.message == f"commit {nobody[:12]} is not signed"
    listed = world.verdict(nobody, Signatures.OFF, committers=("*@example.com",))
    assert listed.reason == "CommitterNotAllowed"


def test_an_encoding_does_not_change_who_committed(world: World) -> None:
    """In UTF-7 "+AEA-" is an at sign; git would convert what it prints."""
    commit = sign(world.repository, FILES, None, GIT_COMMITTER_EMAIL="eve+AEA-example.com")
    coded = tampered(world.repository, commit, b"\n\nchange", b"\nencoding UTF-7\n\nchange")
    assert (
        world.verdict(coded, Signatures.OFF, committers=("*@example.com",)).reason
        == "CommitterNotAllowed"
    )


def test_a_message_that_looks_like_a_header_is_a_message(world: World) -> None:
    """It neither makes somebody a committer nor stops a good commit."""
    plain = sign(world.repository, FILES, None, GIT_COMMITTER_EMAIL="eve@example.net")
    lines = b"\n\ncommitter Ana <ana@example.com> 1767225600 +0000\nchange"
    claimed = tampered(world.repository, plain, b"\n\nchange", lines)
    assert world.verdict(claimed, Signatures.OFF, committers=(ANA,)).reason == "CommitterNotAllowed"
    eve = ("eve@example.net",)
    assert world.verdict(claimed, Signatures.OFF, committers=eve).reason == ""


@pytest.mark.parametrize("missing", ["ssh_signers", "gpg_keys"])
def test_without_its_files_the_server_trusts_nobody(world: World, missing: str) -> None:
    """A file that is not there is no reason to let commits in."""
    commit = sign(world.repository, FILES, world.ana)
    (world.folder / "signers").write_text(world.ana.signer())
    gone = str(world.folder / "gone")
    demands = Demands(signatures=Signatures.HEAD, ssh_signers=str(world.folder / "signers"))
    verdict = world.demanding(msgspec.structs.replace(demands, **{missing: gone}), commit)
    assert verdict.reason == "TrustUnreadable"
    assert f'"{gone}" cannot be read: no such file or directory' in verdict.message


@pytest.mark.parametrize(
    ("signers", "why"),
    [
        ("", "it names no key"),
        ("# ana left\n", "it names no key"),
        ("ana@example.com\n", "line 1 is not: principals, options, key type, key"),
        ('\n{key} until="2026"', "line 2 is not"),
    ],
)
def test_a_file_of_signers_with_a_line_that_is_none_is_no_good(
    world: World, signers: str, why: str
) -> None:
    """Ssh-keygen would skip the line, and the operator wonder why a key is not trusted."""
    commit = sign(world.repository, FILES, world.ana)
    verdict = world.verdict(commit, signers=signers.format(key="ana@example.com"))
    assert verdict.reason == "TrustUnreadable"
    assert why in verdict.message


def test_a_gpg_key_of_the_servers_file_is_named(world: World, gpg: GpgHome, bea: GpgKey) -> None:
    """By the user id and the primary key's fingerprint; no agent is left behind."""
    commit = sign(world.repository, FILES, bea)
    assert world.verdict(commit, keys=gpg.public(bea)).by == (
        f"Bea <bea@example.com> ({bea.fingerprint})",
    )
    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True)
    assert str(world.folder) not in listed.stdout


def test_a_signing_subkey_stands_for_its_primary_key(world: World, gpg: GpgHome) -> None:
    """As people who keep their primary key offline sign."""
    cleo = gpg.key("Cleo <cleo@example.com>")
    gpg.gpg("--quick-add-key", cleo.fingerprint, "ed25519", "sign", "never")
    commit = sign(world.repository, FILES, cleo)
    assert world.verdict(commit, keys=gpg.public(cleo)).by == (
        f"Cleo <cleo@example.com> ({cleo.fingerprint})",
    )


def test_gpg_keys_and_signatures_that_are_no_good_are_refused(
    world: World, gpg: GpgHome, bea: GpgKey
) -> None:
    """A stranger's, a revoked key's, an expired key's, and one of another commit."""
    dan, old = gpg.key("Dan <dan@example.com>"), gpg.key("Old <old@example.com>", long_ago=True)
    keys = gpg.public(bea, old) + gpg.revocation(bea)
    by_bea = sign(world.repository, FILES, bea)
    commits = {
        "stranger": sign(world.repository, FILES, dan),
        "revoked": by_bea,
        "expired": sign(world.repository, FILES, old),
    }
    found = {name: world.verdict(one, keys=keys) for name, one in commits.items()}
    assert {name: one.reason for name, one in found.items()} == {
        "stranger": "UntrustedKey",
        "revoked": "UntrustedKey",
        "expired": "ExpiredKey",
    }
    assert found["revoked"].message.endswith("by a key that was revoked")
    changed = tampered(world.repository, by_bea, b"change the policy", b"change the police")
    assert world.verdict(changed, keys=gpg.public(bea)).reason == "BadSignature"


def test_each_kind_of_key_is_good_beside_the_other_and_not_without_being_named(
    world: World, gpg: GpgHome, bea: GpgKey
) -> None:
    """A team signs with both; a server that names ssh signers only takes no gpg key."""
    applied = sign(world.repository, FILES, None)
    sign(world.repository, {"a": "1"}, bea)
    commit = sign(world.repository, {"a": "2"}, world.ana)
    verdict = world.verdict(commit, Signatures.STRICT, applied=applied, keys=gpg.public(bea))
    assert (verdict.reason, len(verdict.by)) == ("", 2)
    ssh_only = world.verdict(commit, Signatures.STRICT, applied=applied)
    assert ssh_only.reason == "UntrustedKey"


@pytest.mark.parametrize("keys", [b"", b"not a key", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"])
def test_what_gpg_does_not_read_is_no_trust(world: World, keys: bytes) -> None:
    """Not even in the keys beside it."""
    commit = sign(world.repository, FILES, world.ana)
    assert world.verdict(commit, keys=keys).reason == "TrustUnreadable"


def test_keys_that_the_repository_brings_are_not_trusted(world: World) -> None:
    """Row G23: a commit adds its own key in every place that git or a person could look for one."""
    applied = sign(world.repository, FILES, world.ana)
    eve = world.eve.signer("eve@example.com")
    brought = {
        "allowed_signers": eve,
        ".ssh/allowed_signers": eve,
        ".gitsigners": eve,
        ".gitattributes": "* filter=x diff=x\n",
        ".gitconfig": '[gpg "ssh"]\n\tallowedSignersFile = allowed_signers\n',
        ".mailmap": "Ana <ana@example.com> <eve@example.com>\n",
    }
    commit = sign(world.repository, brought, world.eve, GIT_COMMITTER_EMAIL="eve@example.com")
    for mode in (Signatures.HEAD, Signatures.STRICT):
        assert world.verdict(commit, mode, applied=applied).reason == "UntrustedKey"
    mapped = world.verdict(commit, Signatures.OFF, committers=(ANA,))
    assert mapped.reason == "CommitterNotAllowed"


def test_a_commit_that_is_not_there_is_no_verdict(world: World) -> None:
    """What git could not look at is not called good, nor unsigned."""
    sign(world.repository, FILES, world.ana)
    with pytest.raises(GitFailed):
        world.verdict("f" * 40)
