"""The viewsets and views of the REST API."""
