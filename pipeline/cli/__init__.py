"""The verbs: their words, options and help. What they do is elsewhere, and is imported when a verb is called."""

from pipeline.cli import proof, results, stores, training
from pipeline.cli.group import cli

__all__ = ["cli", "proof", "results", "stores", "training"]
