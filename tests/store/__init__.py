"""The store on a real Postgres: migrations and the schema they lead to."""
