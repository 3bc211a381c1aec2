import os
from urllib.parse import urlsplit

_database = urlsplit(os.environ["ORCHESTRATOR_DATABASE_URL"])

SECRET_KEY = "for this example only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "bookstore.urls"
INSTALLED_APPS = ["orders"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.path.lstrip("/"),
        "HOST": _database.hostname or "",
        "PORT": _database.port or "",
        "USER": _database.username or "",
        "PASSWORD": _database.password or "",
    }
}

CELERY_BROKER_URL = os.environ["ORCHESTRATOR_BROKER_URL"]
CELERY_TASK_DEFAULT_QUEUE = "bookstore"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
