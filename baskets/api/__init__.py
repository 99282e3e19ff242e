"""The REST side: translates a request, makes one domain call, translates the answer back."""
