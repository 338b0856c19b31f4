"""The kind `jsonl`: a JSON object per line, and keys to delete."""
