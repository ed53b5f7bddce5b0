"""What the service does, free of HTTP, SQL and sockets: it speaks to them through ports."""
