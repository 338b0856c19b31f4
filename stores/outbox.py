"""The transactional outbox, as its two sides know it: the API, which writes rows, and the relay, which tells of them.

Who writes a row puts its change event into the table `outbox` in the same transaction: both are committed, or neither.
The relay publishes what it finds there and takes it out once the broker has confirmed it. A follower needs the last
state of a key only, so a key has one entry at most, the newest; its version says which change it tells of.
"""

CHANNEL = "headrace_outbox"
"""The NOTIFY channel on which a commit wakes the relay."""
