"""The verbs: extract, train, retrieve. The only place where features on disk meet adapters.

Each verb is a function from a frozen spec to a report; none of them prints or exits. A room below
is the subject of some verbs, or what several of them share; `commands` calls them, for `cli.py`
alone.
"""
