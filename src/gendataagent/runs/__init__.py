"""One complete run: data, training, rounds, evaluation.

Not named `run`: `gendataagent.run` is the exported function, which a subpackage of that name would
shadow.
"""
