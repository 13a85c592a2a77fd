"""Where results go.

redis.py       the protocol: who may write, what Redis has, what goes next
window.py      one camera's records until Redis has them, and for a while after
drafts.py      what waits without an id, in memory; spooled.py: the same on disk
spool.py       journal.py, segment.py: the disk
fence.py       transactions under a lease (lease.py), over one connection (connection.py)
jobs.py        where a file's stream goes on
budget.py      how much memory all windows take
lanes.py       what a refusal means
address.py     what of a Redis URL is accepted and may be shown
"""
