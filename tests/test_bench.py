"""The benchmark compares like with like, drops who does not, and judges as it should."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import commands, plot, show, training, verdict
from benchmarks.__main__ import Settings, main
from benchmarks.contenders import CONTENDERS, FAST, JAX, LOOP, PORTABLE
from benchmarks.processes import CrashError, environment, run
from benchmarks.sweeps import Sweep
from benchmarks.tasks import NETS, task
from benchmarks.training import TOLERANCE, Timing, Training, relative_difference
from benchmarks.verdict import Results, judge
from pipeline.data import Dataset
from tests.factory import make_run

ROOT = Path(__file__).parents[1]
AT_HAND = [PORTABLE, FAST, LOOP, "matmul", *(name for name in ["c"] if not CONTENDERS[name].missing)]
DATA = {"4-1-1": "happiness", "2-3-1": "exam", "3-4-1": "cat_shop", "3-4-5-1": "first_column"}
