"""From a hard image to new ones: caption, rewrite, draw."""
