"""The processes: what runs where, how they are joined, started, watched and ended.

`topology.py` shows what is connected to what; `supervisor.py` starts and ends it; `ingest.py`,
`infer.py` and `publish.py` are the three loops.
"""
