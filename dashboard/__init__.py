"""The dashboard: pages that read and act over the API's HTTP, and nothing else."""
