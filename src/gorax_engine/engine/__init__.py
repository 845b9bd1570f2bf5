"""The durable runner: accept, claim, walk, record, recover.

Where to find what: `operations.py` the verbs; `worker.py` registration, heartbeat, claims, sweep; `execution.py` one
run from its rows to its end; `recorder.py` its records; `journal.py` the group commit; `lease.py` the right to act.
The claim query, the fence and the sweep are SQL: `store/sql/functions/gorax_claim.sql`, `gorax_flush.sql`,
`gorax_sweep.sql`. What a graph does next, skipped nodes included, is decided in `core/walk/advance.py`.
"""
