"""The repairs of the admin: their forms, pages and bulk runs."""
