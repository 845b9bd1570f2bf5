"""People: human tasks, what becomes of them, and how their assignees are told."""
