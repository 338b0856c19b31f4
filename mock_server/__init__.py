"""The customer API and the posts that the default sources read: real HTTP, data from disk, changes in memory only."""
