"""ETL runs: one run of a source at a time, recorded, and a success only when Postgres has every record."""
