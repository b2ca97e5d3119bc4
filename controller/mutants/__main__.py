"""`python <folder> plan.json`: see `serve`. Run as a folder it is no package yet, so it is made one here."""

from __future__ import annotations

import importlib
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path[0] = os.path.dirname(folder)
importlib.import_module(os.path.basename(folder) + ".serve").main(sys.argv[1])
