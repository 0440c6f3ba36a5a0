"""From Python: fit, sweep, and scikit-learn's estimators."""
