"""The kind `api`: JSON over HTTP, page by page."""
