"""The WSGI application that a process server loads."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")

application = get_wsgi_application()
