"""Faults of Redis, of the network, of disks and of processes, against the real command.

proxy      between a run and its server: what it does to the bytes may change at any time
server     a real server with the options that a fault needs
schedule   when a fault strikes, from a seed
stage      a run of a file and of a live camera behind the proxy, and how long it takes to recover
checker    what the streams hold; knows the clips, reads with plain redis-py, nothing of ours
table      one line for each fault
"""
