"""The only place that knows Postgres: connections, migrations, and one small repository module per aggregate."""
