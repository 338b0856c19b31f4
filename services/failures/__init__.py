"""Failures: records that the pipeline rejected (dead letters), and all that people can do about them.

Read in this order: `selection` (which ones), `listing` (look at them), `actions` (who did what; discard), `settling`
(outcomes of those that were sent again), `raw_records` (their original bytes), `editing`, `candidates` (may it be sent
again? dry runs), `replay_jobs` and `replay` (send them again), `release` (records that are held).
"""
