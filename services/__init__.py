"""What people ask of the whole: runs, failures, audits. Each calls the stages; the API and the commands call it.

Importing opens nothing.
"""
