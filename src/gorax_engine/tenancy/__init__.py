"""Who acts, for which tenant, and with which permissions."""
