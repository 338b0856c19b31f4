"""The pipeline in one look: a sentence of diagnosis, the flow with rate, lag and state, and what needs somebody."""
