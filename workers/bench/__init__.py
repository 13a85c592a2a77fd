"""`vedette bench`: the parts alone and the pipeline whole, in turn, in one run on one machine.

The *efficiency* of a pipeline is its rate divided by what the machine could do if nothing but
decoding, resizing and the network cost anything (`results.ideal`), with the network run in the
best of several ways, not in ours.

    bench.py       the command: what is measured, in which order
    yardstick.py   a part alone, in a process of its own
    pipelines.py   the whole, with its processes and its Redis
    usage.py       processor time and memory of processes
    slo.py         how many live cameras a machine holds
    results.py     what was found, and what follows from it
    report.py      the same as tables, as JSON, as a picture
"""
