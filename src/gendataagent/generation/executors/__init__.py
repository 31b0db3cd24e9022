"""Where images are made: in this process, in worker processes, or on a Ray cluster.

Every executor yields results in task order and gives the same images, because each request has its
own seed. `choosing.executor_of` returns the one that the settings want.
"""

from gendataagent.generation.executors.process import ProcessExecutor
from gendataagent.generation.executors.serial import SerialExecutor

__all__ = ["ProcessExecutor", "SerialExecutor"]
