"""Align frozen encoders: cache features once, train a light adapter, evaluate from the cache."""

__version__ = "0.1.0"
