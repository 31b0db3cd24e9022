"""Ways to store labelled images, each read where it lies: folders, tables, archives, boxes."""
