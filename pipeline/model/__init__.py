"""The winner as a model: chosen, logged to MLflow's registry, read back."""
