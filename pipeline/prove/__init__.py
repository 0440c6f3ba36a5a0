"""Proof instead of hope: kept runs trained again and compared bit for bit, and what two runs differ in."""
