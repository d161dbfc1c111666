"""Readers that dataset families share, from their published files to a `Source`.

There are three kinds: images with captions, images with classes, and graded pairs of texts.
Each has a file that finds and reads what is published, and one that serves it with its splits.
"""
