"""Everything that can run without a process around it.

    picture -> slot -> ticket -> batch -> detections -> message -> Redis

`pipeline` takes plain arguments and knows neither `workers` (the processes) nor `config` (the
YAML file), so every part of it is usable, and tested, on its own. `docs/architecture.md` has
the picture.
"""
