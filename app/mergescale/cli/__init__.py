"""The command line: nouns, then verbs, over the API of a server; policy commands work offline.

    app.run(arguments)            the tree of commands, errors as one line and an exit code
      options                     what every command takes: -o, --server, --token, --tailnet
      target, client              where the server is, and asking it (HTTP, also by a unix socket)
      screen, tables              answers as text for people, as plain text for a pipe, as JSON
      problems                    diagnostics of policy files, as text and as JSON
      nodes users authkeys apikeys oauth_clients auth gitops policy health serve    one module per noun

What must hold:

* Starting takes well under 0.3 s: a module imports at its top only what nearly every command
  needs. The server and its libraries are imported inside ``serve`` and nowhere else.
* What a user can cause ends in one ``error:`` line, a ``help:`` line and an exit code
  (`errors.ExitCode`), never in a traceback.
* Answers go to standard output and nothing else does: hints, questions and errors do not spoil
  what a script captures.
* Text that devices or servers chose is printed without control characters.

Not here: rules about what is allowed (the server answers), knowledge of the database.
"""
