"""Language models that answer a question from what is said of an image.

`question_prompt` makes the messages, `open_language_model` opens what answers them, behind an
address (`chat_endpoint`) or on this machine (`local_model`), and `ask_all` asks many, keeps what
was replied in `kept_replies`, and counts what failed. Captions are read in `captions` or written
by a model in `caption_model`.
"""
