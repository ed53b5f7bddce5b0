"""The schema, one file a step; run when the service starts or by `watchstep db upgrade`."""
