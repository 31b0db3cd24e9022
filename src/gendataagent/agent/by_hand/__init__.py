"""What a person decides about single candidates: kept or dropped, whatever the filter said.

`gendataagent review` writes the decisions, a run and every export honour them. Nothing here imports
torch.
"""
