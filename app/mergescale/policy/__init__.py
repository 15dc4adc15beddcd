"""From the text of a policy to who may reach whom.

    text --hujson.parse--> Value --check.check--> PolicyDocument --compile.compile_policy-->
    CompiledPolicy --selftest.run_tests--> its own tests hold --resolve(snapshot)--> Access

``load.load`` goes from Value to a tested policy; ``repository`` reads all files of a commit.

What must hold:

* What a user wrote never raises; all that is wrong is told at once, with its place.
* Nothing is ignored: what this version does not have is refused by name, because leaving a part
  of a policy out would change what it means. No policy means nothing at all is admitted.
* A document compiles to the same value everywhere. Nodes come in only at `resolve`.
* Who sees whom is symmetric, and `Access.refreshed` equals resolving from scratch.

Does not know the wire, reads no file, and decides nothing about what a node is sent besides its
filter and its peers.
"""
