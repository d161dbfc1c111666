"""The verbs: extract, train, retrieve. The only place where features on disk meet adapters.

Each verb is a function from a frozen spec to a report; none of them prints or exits.
`commands` holds the commands that call them, for `cli.py` alone.
"""
