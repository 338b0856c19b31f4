"""The data that ships, the data that is made (`generate`), and an ETL over a file without the pipeline (`etl`)."""
