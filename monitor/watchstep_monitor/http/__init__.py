"""The HTTP surface: bodies read strictly, every error a problem+json, every call checked."""
