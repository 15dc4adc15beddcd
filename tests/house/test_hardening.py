"""What keeps a server that was broken into from doing harm stays in the unit and in the image."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "app" / "mergescale" / "server" / "mergescale.service"
#: systemd.exec(5): each of these takes something away from the process.
HARDENED = {
    "AmbientCapabilities": "CAP_NET_BIND_SERVICE",
    "CapabilityBoundingSet": "CAP_NET_BIND_SERVICE",
    "DynamicUser": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProcSubset": "pid",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RemoveIPC": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "StateDirectoryMode": "0700",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
}


def test_the_unit_takes_away_what_the_server_does_not_need() -> None:
    """Every restriction is there, once, and nothing gives any of it back."""
    lines = [line for line in UNIT.read_text("utf-8").splitlines() if re.match(r"\w+=", line)]
    found = [line.partition("=")[::2] for line in lines if line.partition("=")[0] in HARDENED]
    assert sorted(found) == sorted(HARDENED.items())
    filters = [line for line in lines if line.startswith("SystemCallFilter=")]
    assert filters == ["SystemCallFilter=@system-service", "SystemCallFilter=~@privileged"]
    assert not [line for line in lines if line.startswith(("User=root", "ReadWritePaths="))]


def test_the_image_is_not_roots_and_writes_to_its_volume_only() -> None:
    """A user by number, no shell, one volume, and advice to take the rest away."""
    text = (ROOT / "Containerfile").read_text("utf-8")
    final = text[text.rindex("\nFROM ") :].splitlines()
    assert "USER 10001:10001" in final
    assert final.index("USER 10001:10001") < next(
        number for number, line in enumerate(final) if line.startswith("ENTRYPOINT")
    )
    assert [line for line in final if line.startswith("VOLUME")] == ["VOLUME /var/lib/mergescale"]
    assert "/usr/sbin/nologin" in text
    assert "--require-hashes" in text
    for advice in ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"):
        assert advice in text[: text.index("FROM")]
