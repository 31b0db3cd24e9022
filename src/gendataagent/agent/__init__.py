"""The method: which images are hard, what is made from them, what is kept."""
