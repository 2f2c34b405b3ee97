"""Web: the Flask application, its API and pages, security and limits."""
