"""The HTTP face: routes, authentication and the status page."""
