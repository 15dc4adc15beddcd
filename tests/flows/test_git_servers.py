"""Git over real servers: openssh-server, and nginx before ``git http-backend``."""

from __future__ import annotations

from pathlib import Path

from mergescale.gitops.git.source import Source
from support.aio import aio
from support.authority import Authority
from support.git_servers import new_ssh_key, ssh_server, web_server
from support.journal import MemoryJournal
from support.remote_looks import looking
from support.repositories import Repository
from support.vault import MemoryVault

FIRST = {"policy.hujson": '{"acls": []}'}
SECOND = {"policy.hujson": '{"acls": [], "groups": {}}'}
TOKEN = "canary-token-of-nginx"


@aio
async def test_git_over_ssh_with_a_deploy_key_and_a_pinned_host_key(tmp_path: Path) -> None:
    """Only the right key behind the right host key brings a commit into force, and none is left."""
    repository = Repository(tmp_path / "policy.git")
    first = repository.commit(FIRST)
    with ssh_server(tmp_path / "sshd", repository.path) as server:
        source = Source.parse(server.url)
        async with looking(source, tmp_path / "odd 'state' $HOME %d") as here:
            about = await here.keeper.generate(server.known_hosts, by="a test")
            assert (await here.look(), here.applied) == ("Denied", None)
            server.lets_in(about["publicKey"])
            assert (await here.look(), here.applied) == ("", first)

            private, public = new_ssh_key()
            server.lets_in(public)
            second = repository.commit(SECOND)
            assert (await here.look(), here.applied) == ("Denied", first)
            # Rotation: taken by the next look of the same process.
            words = {"kind": "ssh", "privateKey": private, "knownHosts": server.known_hosts}
            await here.keeper.put(words, by="a test")
            assert (await here.look(), here.applied) == ("", second)

            elsewhere = server.known_by(new_ssh_key()[1])
            await here.keeper.put({**words, "knownHosts": elsewhere}, by="a test")
            repository.commit(FIRST)
            assert (await here.look(), here.applied) == ("HostKey", second)
            [stalled] = [
                c for c in here.reconciler.status.as_json()["conditions"] if c["name"] == "Stalled"
            ]
            assert (stalled["state"], stalled["reason"]) == (True, "HostKey")
            assert here.left == []


@aio
async def test_git_over_https_with_a_token_and_an_authority_of_its_own(tmp_path: Path) -> None:
    """Only the right token, at a server that the configured authority vouches for."""
    repository = Repository(tmp_path / "served" / "policy.git")
    first = repository.commit(FIRST)
    authority = Authority.made(tmp_path / "authority")
    with web_server(tmp_path / "nginx", repository.path, authority) as server:
        source = Source.parse(server.url)
        vault, journal = MemoryVault(), MemoryJournal()
        async with looking(source, tmp_path, vault=vault, journal=journal) as here:
            assert (await here.look(), here.applied) == ("Certificate", None)
        async with looking(
            source, tmp_path, vault=vault, journal=journal, ca_file=authority.ca
        ) as here:
            assert (await here.look(), here.applied) == ("Denied", None)
            server.lets_in("deploy", TOKEN)
            for user, token, outcome in (
                ("deploy", "wrong", ("Denied", None)),
                ("other", TOKEN, ("Denied", None)),
                ("deploy", TOKEN, ("", first)),
            ):
                words = {"kind": "token", "user": user, "token": token}
                await here.keeper.put(words, by="a test")
                assert (await here.look(), here.applied) == outcome
            server.lets_in("deploy", "rotated")
            second = repository.commit(SECOND)
            assert (await here.look(), here.applied) == ("Denied", first)
            words = {"kind": "token", "user": "deploy", "token": "rotated"}
            await here.keeper.put(words, by="a test")
            assert (await here.look(), here.applied) == ("", second)
            assert here.left == []
