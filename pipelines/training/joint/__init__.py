"""Training of joint adapters, which read an item of each side together.

`batches` draws pairs and wrong partners for them, `answers` makes targets of the answers to
questions, `step` takes the steps, and `validation` measures pairs that are not trained on. What the
training loop asks for is `tasks/_open_joint`.
"""
