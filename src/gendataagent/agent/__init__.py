"""The method: select hard images, make new ones from them, keep the useful ones."""
