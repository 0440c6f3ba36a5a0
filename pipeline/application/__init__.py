"""The Hydra application behind `train` and `sweep`."""
