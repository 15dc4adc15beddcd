"""What a change of a repository will do, said before it is merged.

    two declarations + one inventory --build--> Plan --text, markdown, json--> a pull request

* ``flows``: a node's compiled filter as who may send what to which of its addresses.
* ``difference``: flows that two policies do not have in common.
* ``rights``: logins, capabilities and attributes that differ; ``identity``: roles, names, settings.
* ``absent``: people and tags without a device; what rules say of them.
* ``causes``: the rules that a row comes from.
* ``wording``: sets of nodes back in the words of the policy, the coarsest that fit.
* ``model``: the versioned JSON; ``build`` fills it; ``text`` and ``markdown`` render it.

What must hold:

* It is a difference of sets with all names resolved, taken from the very filters that nodes would
  be sent. A comment, an order or a renamed alias has no effect; a redefined group has one.
* The same two trees, inventory and compiler give the same plan and the same hash.

Reads no file, knows no forge.
"""
