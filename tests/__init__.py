"""Tests of Seedbed."""
