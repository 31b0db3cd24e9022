"""The bundled generator: 32 px, trained by this project, with captions read off the pixels."""
