"""What only PostgreSQL needs: replicas, partitions, notification."""
