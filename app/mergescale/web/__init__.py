"""Pages for people: how to join, and the page behind a device's AuthURL.

Rendered on the server from templates that escape everything. What must hold:

* GET changes nothing: opening a link that somebody sent approves no device of theirs.
* Nothing comes from elsewhere: no external address in a page, scripts and styles from here only,
  and the content security policy says so.
* What a device says of itself is shown as text, with what could reorder or hide text taken out.

Not here: signing in; whoever approves uses the command line or the API.
"""
