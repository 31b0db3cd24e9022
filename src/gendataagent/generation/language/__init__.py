"""Captions rewritten by a language model, here or behind an OpenAI-compatible server."""
