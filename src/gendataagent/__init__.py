"""GenDataAgent: while your image classifier trains, an agent makes the images it lacks."""

__version__ = "0.1.0"
