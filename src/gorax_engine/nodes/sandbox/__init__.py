"""JavaScript in child processes that can do nothing but compute. Kept empty: the children import this package."""
