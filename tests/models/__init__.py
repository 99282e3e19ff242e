"""The rules that the database itself keeps."""
