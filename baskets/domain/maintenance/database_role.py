"""The PostgreSQL role that the service connects as: it reads and writes rows, and cannot change tables."""

from django.db import connection, transaction
from psycopg import sql

from baskets.domain.errors import Refusal

# The import of products makes a temporary table. Tables and sequences that later migrations make are granted as they are made.
GRANTS = """
GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role};
GRANT USAGE ON SCHEMA public TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {role};
"""


class RoleTooPowerful(Refusal):
    """The role could change tables whatever it is granted, and the grants would take rights from it that migrations need."""

    reason = "role_too_powerful"
    message = "The role is a superuser, or owns the tables: name another one for the service."


@transaction.atomic
def grant_service_role(*, role: str, password: str) -> bool:
    """Create a role that may log in, or take it as it is, and grant it what the service needs. Safe to repeat.

    Must run as the owner of the tables; creating a role needs CREATEROLE.

    :param role: its name, quoted here.
    :param password: set where it is not empty.
    :returns: whether the role was created.
    :raises RoleTooPowerful: it is a superuser, or the role that runs this, which owns the tables.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper OR rolname = current_user FROM pg_roles WHERE rolname = %s", [role])
        found = cursor.fetchall()
        if found == [(True,)]:
            raise RoleTooPowerful
        exists = bool(found)
        names = {"role": sql.Identifier(role), "database": sql.Identifier(connection.settings_dict["NAME"])}
        if not exists:
            cursor.execute(sql.SQL("CREATE ROLE {role} LOGIN").format(**names))
        if password:
            cursor.execute(sql.SQL("ALTER ROLE {role} PASSWORD {password}").format(password=sql.Literal(password), **names))
        for statement in GRANTS.strip().split("\n"):
            cursor.execute(sql.SQL(statement).format(**names))
    return not exists
