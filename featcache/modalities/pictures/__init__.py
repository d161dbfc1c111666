"""Drawn scenes of coloured shapes with true captions, and where patches lie in a picture.

Sources draw datasets of these scenes, and every encoder is tried on a few of them.
"""
