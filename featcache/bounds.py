"""Largest numbers that options may be."""

MOST = 2**31 - 1  # of any count that is an option: beyond it are mistakes, and overflows in C
MOST_THREADS = 1024  # that a command may be told to begin
MOST_SEED = 2**63 - 1  # that random generators and TOML take
