"""The processes: what runs where, how they are joined, started, watched and ended.

`topology.py` shows what is connected to what, `lifecycle.py` what happens from the first process to
the last, `supervisor.py` starts and ends them; `ingest.py`, `infer.py` and `publish.py` are the
three loops.
"""
