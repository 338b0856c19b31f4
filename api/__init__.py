"""The read side and its front door: what the stores hold, over HTTP."""
