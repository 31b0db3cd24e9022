"""From an image file to 8-bit RGB pixels, and what tells that a file is damaged."""
