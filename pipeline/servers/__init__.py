"""Other programs that are started: MLflow's UI, PostgreSQL, an MLflow server on it."""
