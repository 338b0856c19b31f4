"""Runs, failures, audits: each calls the stages; the API and the commands call it. Importing opens nothing."""
