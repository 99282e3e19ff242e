"""Settings of the service. Every value that may differ between installations comes from the environment.

Outside of debug mode no secret has a default. An impossible value stops the start with one sentence. `baskets/docs/operations.md`
documents all variables.
"""

from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from basket_project.databases import complete_database
from basket_project.logs import logging_config
from baskets import tracing

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Process -----------------------------------------------------------------

DEBUG = env.bool("DJANGO_DEBUG", default=False)
SECRET_KEY = env.str("DJANGO_SECRET_KEY", default="debug-only-" + "0" * 50 if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured("DJANGO_SECRET_KEY is not set: give the service a long random secret, or set DJANGO_DEBUG=1 to try it out.")
MIN_SECRET_LENGTH = 50
if not DEBUG and len(SECRET_KEY) < MIN_SECRET_LENGTH:
    raise ImproperlyConfigured(
        f"DJANGO_SECRET_KEY has {len(SECRET_KEY)} characters and needs {MIN_SECRET_LENGTH}: everything the service signs and encrypts "
        "depends on it. `python3 -c 'import secrets; print(secrets.token_urlsafe(48))'` makes one."
    )
SECRET_KEY_FALLBACKS = env.list("DJANGO_SECRET_KEY_FALLBACKS", default=[])
ALLOWED_HOSTS = env.list("DJANGO_ALLOWED_HOSTS", default=["127.0.0.1", "localhost"])
# The service is served at the root.
FORCE_SCRIPT_NAME = ""
WSGI_APPLICATION = "basket_project.wsgi.application"
ROOT_URLCONF = "basket_project.urls"
USE_TZ = True
TIME_ZONE = "UTC"
# The admin is translated; everything else answers, records and logs in the language of the sources. See ADR 52.
USE_I18N = True
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "German")]

INSTALLED_APPS = [
    # Before `django.contrib.auth`, whose commands for accounts it records.
    "baskets",
    "basket_project.admin.DeskConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "corsheaders",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

# The first one guarantees the envelope, inside of the span of the call where there are traces.
# Middleware that only pages need is restricted to their paths.
MIDDLEWARE = [
    *(["baskets.api.request_spans.RequestSpans"] if tracing.is_requested() else []),
    "baskets.api.middleware.EnvelopeMiddleware",
    "baskets.api.cors.PartnerCorsMiddleware",
    # Calls of the API end here.
    "basket_project.middleware.CallDispatch",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "basket_project.middleware.PagesCompression",
    "basket_project.middleware.PagesPolicy",
    "basket_project.middleware.AdminDatabase",
    "basket_project.middleware.AdminCaching",
    "basket_project.middleware.AdminLanguage",
    "basket_project.middleware.AdminBodies",
    "basket_project.middleware.AdminTimeZone",
    "basket_project.middleware.AdminSession",
    "django.middleware.csrf.CsrfViewMiddleware",
    "basket_project.middleware.AdminAuthentication",
    "basket_project.middleware.AdminMessages",
    "baskets.admin.core.error_pages.ErrorPages",
    "baskets.admin.core.cells.PublishedElsewhere",
    "baskets.admin.auth.gate.StaffGate",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # An installed package carries them inside.
        "DIRS": [Path(__file__).parent / "templates", BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- Database ----------------------------------------------------------------

# Passed as connection options, so that the server sets them for every connection.
DATABASE_SESSION = {
    "lock_timeout": "3s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
    "client_connection_check_interval": "2s",
    "default_transaction_isolation": r"read\ committed",
    # Data is in memory or on an SSD. With the server's default of 4, the planner scans small or fresh tables for each basket
    # instead of using an index.
    "random_page_cost": "1.1",
}
# In lower case, so that it is not a setting: a page of errors shows settings, and this one contains a password.
database_url = env.str("DATABASE_URL", default="postgres:///baskets" if DEBUG else "")
if not database_url:
    raise ImproperlyConfigured("DATABASE_URL is not set: name the PostgreSQL database of the service.")
DATABASES = {"default": complete_database("DATABASE_URL", environ.Env.db_url_config(database_url), session=DATABASE_SESSION)}
# The databases of all cells, in the order of their numbers, for the commands that see several. No call uses them.
CELL_DATABASES = env.str("BASKETS_CELL_DATABASES", default="").split()
BASKETS_CELL_DATABASES = [f"cell_{number}" for number in range(1, len(CELL_DATABASES) + 1)]
for alias, url in zip(BASKETS_CELL_DATABASES, CELL_DATABASES, strict=True):
    DATABASES[alias] = complete_database("BASKETS_CELL_DATABASES", environ.Env.db_url_config(url), session=DATABASE_SESSION)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Baskets: read through baskets/conf.py; baskets/checks.py checks them ----------------------

BASKETS_HOLD_SECONDS = env.int("BASKETS_HOLD_SECONDS", default=30 * 60)
BASKETS_HOLD_EXTENSION_SECONDS = env.int("BASKETS_HOLD_EXTENSION_SECONDS", default=15 * 60)
BASKETS_HOLD_EXTENSIONS = env.int("BASKETS_HOLD_EXTENSIONS", default=2)


def _reasons(name: str, default: str) -> list[str]:
    return [reason.strip() for reason in env.str(name, default=default).split(";") if reason.strip()]


BASKETS_REPAIR_REASONS = _reasons(
    "BASKETS_REPAIR_REASONS", "The payment was found;The customer wants it;The partner reported it by mistake"
)
BASKETS_BASKET_REASONS = _reasons("BASKETS_BASKET_REASONS", "The customer wants it;The partner requested it")
BASKETS_STOCK_REASONS = _reasons("BASKETS_STOCK_REASONS", "Counted in the store;A delivery arrived;Pieces are damaged or lost")
BASKETS_ACCESS_REASONS = _reasons("BASKETS_ACCESS_REASONS", "The partner requested it;The contract says so;It may be in wrong hands")
BASKETS_GRACE_SECONDS = env.int("BASKETS_GRACE_SECONDS", default=24 * 60 * 60)
BASKETS_LIFETIME_SECONDS = env.int("BASKETS_LIFETIME_SECONDS", default=30 * 24 * 60 * 60)
BASKETS_GUEST_TOKEN_SECONDS = env.int("BASKETS_GUEST_TOKEN_SECONDS", default=30 * 24 * 60 * 60)
# Longer than verifiers may cache the published keys: `KEYS_CACHE_CONTROL` lets them do so for a minute.
BASKETS_GUEST_KEY_PUBLICATION_SECONDS = env.int("BASKETS_GUEST_KEY_PUBLICATION_SECONDS", default=15 * 60)
BASKETS_TRANSFERRED_GUESTS_MAY_TRANSFER = env.bool("BASKETS_TRANSFERRED_GUESTS_MAY_TRANSFER", default=True)
BASKETS_CART_LIMIT = env.int("BASKETS_CART_LIMIT", default=20)
BASKETS_SAVED_LIMIT = env.int("BASKETS_SAVED_LIMIT", default=200)
BASKETS_PIECE_LIMIT = env.int("BASKETS_PIECE_LIMIT", default=999)
BASKETS_DETAILS_LIMIT = env.int("BASKETS_DETAILS_LIMIT", default=100)
BASKETS_BODY_LIMIT_BYTES = env.int("BASKETS_BODY_LIMIT_BYTES", default=256 * 1024)
BASKETS_IDEMPOTENCY_SECONDS = env.int("BASKETS_IDEMPOTENCY_SECONDS", default=24 * 60 * 60)
# Limits that are off at 0.
BASKETS_CALLS_PER_MINUTE = env.int("BASKETS_CALLS_PER_MINUTE", default=0)
BASKETS_FAILURES_PER_MINUTE = env.int("BASKETS_FAILURES_PER_MINUTE", default=1000)
BASKETS_STARTS_PER_HOUR = env.int("BASKETS_STARTS_PER_HOUR", default=0)
BASKETS_PIECES_PER_CHECKOUT = env.int("BASKETS_PIECES_PER_CHECKOUT", default=0)
BASKETS_PARTNER_SHARE_PERCENT = env.int("BASKETS_PARTNER_SHARE_PERCENT", default=0)
# Limits of client keys within a window; ADR 35 explains the numbers.
BASKETS_CLIENT_LIMIT_SECONDS = env.int("BASKETS_CLIENT_LIMIT_SECONDS", default=10 * 60)
BASKETS_GUESTS_PER_KEY = env.int("BASKETS_GUESTS_PER_KEY", default=300_000)
BASKETS_STARTS_PER_KEY = env.int("BASKETS_STARTS_PER_KEY", default=300_000)
BASKETS_PIECES_PER_KEY = env.int("BASKETS_PIECES_PER_KEY", default=600_000)
BASKETS_GUESTS_PER_SOURCE = env.int("BASKETS_GUESTS_PER_SOURCE", default=10_000)
BASKETS_STARTS_PER_SOURCE = env.int("BASKETS_STARTS_PER_SOURCE", default=10_000)
BASKETS_PIECES_PER_SOURCE = env.int("BASKETS_PIECES_PER_SOURCE", default=20_000)
BASKETS_NEW_GUEST_SECONDS = env.int("BASKETS_NEW_GUEST_SECONDS", default=10 * 60)
BASKETS_NEW_GUEST_PIECES = env.int("BASKETS_NEW_GUEST_PIECES", default=20)
BASKETS_LOGIN_FAILURES = env.int("BASKETS_LOGIN_FAILURES", default=10)
BASKETS_LOGIN_WINDOW_SECONDS = env.int("BASKETS_LOGIN_WINDOW_SECONDS", default=5 * 60)
BASKETS_CLIENT_ADDRESS_HEADER = env.str("BASKETS_CLIENT_ADDRESS_HEADER", default="")
BASKETS_TRUSTED_PROXIES = env.int("BASKETS_TRUSTED_PROXIES", default=1)

# --- Cells: several installations behind one proxy, see ADR 56 ------------------

# The number of this cell; 0: the installation is whole.
BASKETS_CELL = env.int("BASKETS_CELL", default=0)
# The file that names the cell of each slot. The proxy reads the same file.
BASKETS_SLOT_MAP = env.str("BASKETS_SLOT_MAP", default="")

# --- Stored secrets ----------------------------------------------------------

BASKETS_PUBLIC_URL = env.str("BASKETS_PUBLIC_URL", default="")
BASKETS_ENCRYPTION_KEYS = env.list("BASKETS_ENCRYPTION_KEYS", default=[])

# --- Calls to partners -------------------------------------------------------

BASKETS_WEBHOOK_TIMEOUT_SECONDS = env.int("BASKETS_WEBHOOK_TIMEOUT_SECONDS", default=10)
BASKETS_WEBHOOK_PATIENCE_SECONDS = env.int("BASKETS_WEBHOOK_PATIENCE_SECONDS", default=3 * 24 * 60 * 60)
BASKETS_WEBHOOKS_PER_PARTNER = env.int("BASKETS_WEBHOOKS_PER_PARTNER", default=16)
BASKETS_INTERNAL_ADDRESSES = env.bool("BASKETS_INTERNAL_ADDRESSES", default=False)
BASKETS_OUTGOING_PORTS = env.list("BASKETS_OUTGOING_PORTS", cast=int, default=[])

# --- Monitoring ---------------------------------------------------------------

BASKETS_METRICS_TOKEN = env.str("BASKETS_METRICS_TOKEN", default="")
BASKETS_METRICS_PRODUCTS = env.list("BASKETS_METRICS_PRODUCTS", default=[])

# --- Process server: per worker ----------------------------------------------

BASKETS_MAX_CONNECTIONS = env.int("BASKETS_MAX_CONNECTIONS", default=8192)
BASKETS_IDLE_SECONDS = env.int("BASKETS_IDLE_SECONDS", default=75)
BASKETS_HEAD_SECONDS = env.int("BASKETS_HEAD_SECONDS", default=5)
BASKETS_BODY_SECONDS = env.int("BASKETS_BODY_SECONDS", default=5)
BASKETS_MIN_BYTES_PER_SECOND = env.int("BASKETS_MIN_BYTES_PER_SECOND", default=4 * 1024)
BASKETS_HELD_BYTES = env.int("BASKETS_HELD_BYTES", default=64 * 1024 * 1024)
BASKETS_TARGET_LIMIT_BYTES = env.int("BASKETS_TARGET_LIMIT_BYTES", default=64 * 1024)
BASKETS_HEAD_LIMIT_BYTES = env.int("BASKETS_HEAD_LIMIT_BYTES", default=32 * 1024)
BASKETS_HEADER_LIMIT_BYTES = env.int("BASKETS_HEADER_LIMIT_BYTES", default=4 * 1024)
BASKETS_TOKEN_LIMIT_BYTES = env.int("BASKETS_TOKEN_LIMIT_BYTES", default=8 * 1024)
BASKETS_TRACKING_LIMIT_BYTES = env.int("BASKETS_TRACKING_LIMIT_BYTES", default=8 * 1024)
BASKETS_QUEUE_LENGTH = env.int("BASKETS_QUEUE_LENGTH", default=256)
BASKETS_FEED_WAITERS = env.int("BASKETS_FEED_WAITERS", default=100)
BASKETS_QUEUE_SECONDS = env.int("BASKETS_QUEUE_SECONDS", default=1)
BASKETS_DRAIN_SECONDS = env.int("BASKETS_DRAIN_SECONDS", default=1)

# --- REST --------------------------------------------------------------------

APPEND_SLASH = False
# For the forms of the admin. The body of an API call has its own, lower limit, with a response in the envelope.
DATA_UPLOAD_MAX_MEMORY_SIZE = max(BASKETS_BODY_LIMIT_BYTES, 1024 * 1024)
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["baskets.api.auth.api_keys.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_PARSER_CLASSES": ["baskets.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "baskets.api.exceptions.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.1",
    "TITLE": "Baskets",
    "DESCRIPTION": """
Shopping baskets of a platform's users: three lists, checkouts, and the stock they hold.

**To try it**, press *Authorize* and enter your API key, then open a call and press *Try it out*. A server key may act
for any user; a client key also needs that user's token.

**A purchase** is four calls: put products into the cart, start a checkout, let the customer pay, and report the outcome
with `finish-active`. After a lost answer, send the call again: naming the checkout by `orderNo`, or the call by an
`Idempotency-Key`, makes sure that it is done once.

**Answers** are `{"data": ...}`, errors `{"error": {"code", "message", "details"}}`. Programs go by `details.reason`, a
stable slug. A refusal because of the basket's state brings the unchanged basket along.

**Numbers**: a whole number may be written as JSON allows, `2`, `2.0` and `2e0` alike. Prices are minor units of their currency.

**Events** are a promise, like the calls: a version of the API only adds members to their `data`, and kinds. Ignore what you do not know.
""",
    "VERSION": "2025-09-15",
    "CONTACT": {"name": "The operator of this service, who issued your API key"},
    "LICENSE": {"name": "By agreement with the operator of this service", "identifier": "LicenseRef-Agreement-With-The-Operator"},
    "SERVERS": [{"url": "/"}, {"url": "/v2", "description": "The same calls, as the guides print them."}],
    "TAGS": [
        {"name": "basket", "description": "The basket of one user."},
        {"name": "items", "description": "The products in cart and saved list."},
        {"name": "checkout", "description": "Start a checkout, finish it, and look up what became of it."},
        {"name": "guests", "description": "Users whom the platform does not know, and the transfer of a basket to another device."},
        {"name": "comfort", "description": "Settings for one-click purchases, stored with the consent of the user."},
        {"name": "products", "description": "The catalog, with the stock that is available now."},
        {"name": "back end", "description": "For server keys only: lists, the feed of events, and devices of guests."},
        {"name": "webhooks", "description": "For server keys only: the webhooks of the partner, their secrets and their deliveries."},
        {"name": "events", "description": "What a webhook receives. The feed has the same events."},
        {"name": "headers only", "description": "HEAD: every address that serves GET serves it too."},
    ],
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_SPLIT_PATCH": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "PREPROCESSING_HOOKS": ["baskets.api.schema.document.exclude_v2_paths"],
    "POSTPROCESSING_HOOKS": ["baskets.api.schema.document.finish_schema"],
    "SORT_OPERATIONS": False,
}

# --- Browsers: which origins may call, beside those of the partners ------------

CORS_ALLOWED_ORIGINS = env.list("BASKETS_ALLOWED_ORIGINS", default=[])
CORS_ALLOW_CREDENTIALS = False  # Keys and tokens are headers; there is no cookie that a page could make a browser send.
CORS_ALLOW_METHODS = ["GET", "POST", "PATCH", "DELETE"]
CORS_ALLOW_HEADERS = [
    *("accept", "authorization", "content-type", "idempotency-key", "x-api-key", "x-api-version"),
    *("x-jay-api-version", "x-jay-tracking", "x-request-id", "traceparent", "tracestate"),
]
CORS_EXPOSE_HEADERS = ["X-Request-ID", "X-API-Version", "Idempotency-Replayed", "Retry-After", "WWW-Authenticate"]
CORS_PREFLIGHT_MAX_AGE = 600

# --- Admin and pages ---------------------------------------------------------

# Staff cookies require TLS. The demo, on plain HTTP and loopback, switches this off.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = env.bool("DJANGO_SECURE_COOKIES", default=True)
# Behind a proxy that ends TLS, a browser posts from https:// to what Django sees as http://.
CSRF_TRUSTED_ORIGINS = env.list("DJANGO_TRUSTED_ORIGINS", default=[])
# The database holds digests of the session keys. A session ends after a shift, or when idle.
SESSION_ENGINE = "baskets.domain.staff.sessions"
SESSION_COOKIE_AGE = BASKETS_STAFF_SESSION_SECONDS = env.int("BASKETS_STAFF_SESSION_SECONDS", default=12 * 60 * 60)
BASKETS_STAFF_IDLE_SECONDS = env.int("BASKETS_STAFF_IDLE_SECONDS", default=30 * 60)
# The roles that must have a second factor: names of groups, and the word `superusers`.
BASKETS_SECOND_FACTOR_ROLES = env.list("BASKETS_SECOND_FACTOR_ROLES", default=[])
CSRF_FAILURE_VIEW = "baskets.admin.core.error_pages.csrf_failure"
AUTHENTICATION_BACKENDS = ["baskets.admin.auth.backends.StaffBackend"]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = LANGUAGE_COOKIE_PATH = "/admin/"
LANGUAGE_COOKIE_AGE = 365 * 24 * 60 * 60
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True  # Forms carry the token; no script reads the cookie.
SILENCED_SYSTEM_CHECKS = [
    "security.W004",  # TLS ends at the proxy in front, and HSTS is announced where TLS ends.
    "security.W008",  # As does the redirect; the API never redirects.
]
STATIC_URL = "static/"
# The launcher collects the static files and names their folder: hashed names that never change, compressed. Without it, as in
# tests, they come from where they are, uncompressed and under their plain names.
STATIC_ROOT = env.str("DJANGO_STATIC_ROOT", default="") or None
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
# What is compressed already, and what no page uses.
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = ("br", "gz", "png", "woff", "woff2", "html", "map", "txt")
WHITENOISE_ALLOW_ALL_ORIGINS = False
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if STATIC_ROOT
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
# No inline script and nothing from elsewhere. `data:` is for the small pictures in the style sheets of Swagger UI.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "baskets.passwords.BreachedPasswordValidator"},
]

LOGGING_CONFIG = None
logging_config(debug=DEBUG)
