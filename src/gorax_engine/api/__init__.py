"""The HTTP edge: authentication, a module of routes per aggregate, and problem+json for what goes wrong."""
