"""Tailscale SSH: the sections ``ssh`` and ``sshTests`` of a policy.

    Value --rules.read_ssh--> SshEntry --compile.compile_ssh--> CompiledSsh
    --resolve.SshAccess--> domain.access.SshRule

``durations`` reads Go's durations, ``testcases`` and ``selftest`` are the policy's own tests of
it, ``reachability`` warns of entries that never decide anything.

What must hold:

* Rules that check come before those that accept, whatever their order in the file.
* A rule names no node that its viewer does not see, and no address that is not a node's.
* A session that must be recorded is refused where no recorder is in reach.

Does not know the wire, and does not say who passed a check.
"""
