"""The bundled 32 px generator, trained by this project, and captions measured on the pixels."""
