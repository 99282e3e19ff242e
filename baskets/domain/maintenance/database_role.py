"""The PostgreSQL role of the service: it reads and writes rows, and cannot change tables."""

from django.db import connection, transaction
from psycopg import sql

from baskets.domain import audit_log
from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal
from baskets.models import DeskEntry

# The import of products needs a temporary table. The default privileges cover tables and sequences of later migrations.
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
    """The role is a superuser or owns the tables: it can change tables, and the grants would take rights that migrations need."""

    reason = "role_too_powerful"
    message = "The role is a superuser, or owns the tables: name another one for the service."


@transaction.atomic
def grant_service_role(*, role: str, password: str, actor: Actor) -> bool:
    """Create a login role if it does not exist, and grant it what the service needs. Safe to repeat.

    Must run as the owner of the tables; creating a role needs CREATEROLE.

    :param role: the name, unquoted.
    :param password: empty leaves the password unchanged.
    :returns: whether the role was created.
    :raises RoleTooPowerful: the role is a superuser, or the current role, which owns the tables.
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
    data = {"created": not exists, "password_set": bool(password)}
    audit_log.record(kind=DeskEntry.Kind.MAINTAINED, about="database role", subject=role, data=data, actor=actor)
    return not exists
