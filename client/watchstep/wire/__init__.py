"""How an update travels: as JSON to the service, packed in the trainer's spool.

Standard library only: both the trainer and the service speak through this package.
"""
