"""Visual question answering: train on questions about images, measure, and ask.

`vqa` trains an adapter beside the controls that it is compared with, several encoders if asked, and
writes one table; `ask` answers a question about a photo. What the answers of a run to a split are
is in `predictions`, and which trainings a table is of in `trainings`.
"""
