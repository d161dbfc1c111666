"""Readers that dataset families share, from their published files to a `Source`.

There are four kinds: images with captions, with classes, with questions, and graded pairs of texts.
Each has a file that finds and reads what is published, and one that serves it with its splits.
"""
