"""The durable runner: accept, claim, walk, record, recover."""
