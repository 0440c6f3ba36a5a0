"""What a sweep leaves behind for people: the report, and what is to be seen in MLflow's UI."""
