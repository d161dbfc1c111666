"""The commands, a family a file: each turns options into a spec, calls its verb and prints.

Heavy imports stand inside the command that needs them, so that a help text needs none. Nothing but
`cli.py` imports this folder.
"""
