"""Runs in stacks, trained by someone: this process, others here, machines elsewhere."""
