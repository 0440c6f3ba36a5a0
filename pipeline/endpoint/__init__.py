"""What runs inside an MLflow server: a route that takes whole runs, many a request."""
