"""gorax-engine: an event-driven, multi-tenant workflow execution engine that needs only Postgres."""

__version__ = "0.1.0"
