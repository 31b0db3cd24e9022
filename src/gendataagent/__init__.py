"""GenDataAgent: while your image classifier trains, an agent makes the images it lacks.

from gendataagent import Agent    # in a training loop of your own
from gendataagent import run      # a complete run
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gendataagent.agent.agent import Agent
    from gendataagent.agent.real_and_synthetic import RealAndSynthetic
    from gendataagent.config import RunConfig
    from gendataagent.data import load_data
    from gendataagent.generation.backends import Backends
    from gendataagent.report import write_report
    from gendataagent.report.review import review
    from gendataagent.runs.reload import load_classifier
    from gendataagent.runs.results import read_result
    from gendataagent.runs.run import resume, run
    from gendataagent.training.classifier import Classifier

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Backends",
    "Classifier",
    "RealAndSynthetic",
    "RunConfig",
    "load_classifier",
    "load_data",
    "read_result",
    "resume",
    "review",
    "run",
    "write_report",
]

# Imported when first used: the import of this package must stay quick, and torch is not.
_HOME = {
    "Agent": "agent.agent",
    "Backends": "generation.backends",
    "Classifier": "training.classifier",
    "RealAndSynthetic": "agent.real_and_synthetic",
    "RunConfig": "config",
    "load_classifier": "runs.reload",
    "load_data": "data",
    "read_result": "runs.results",
    "resume": "runs.run",
    "review": "report.review",
    "run": "runs.run",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
