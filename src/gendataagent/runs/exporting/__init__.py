"""A finished run as a model or a data set that other software reads.

`models` and `datasets` write one folder each, by the tables of `model_formats` and `data_formats`:
one file a format. A folder has a card (README.md), and `export.json` with the SHA-256 of its files.
"""
