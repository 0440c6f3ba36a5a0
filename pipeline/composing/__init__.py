"""Hydra's files and a command's words become the configs of runs."""
