"""What is measured, one module for each kind of figure.

Each function takes the server and clients in the state it says, leaves them in that state, and returns
figures. Nothing here knows of the table they end up in.
"""
