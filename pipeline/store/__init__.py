"""MLflow: how anything gets into it, whole or not at all, and how runs are found again."""
