"""Full-text search: Elasticsearch first, Postgres where it does not answer."""
