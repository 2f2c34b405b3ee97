"""The Flask application: JSON API, pages, security, admission control."""
