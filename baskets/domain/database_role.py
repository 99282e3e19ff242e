"""The PostgreSQL role that the service connects as: it reads and writes rows, and cannot change tables."""

from django.db import connection, transaction
from psycopg import sql

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


@transaction.atomic
def grant_service_role(*, role: str, password: str) -> bool:
    """Create a role that may log in, or take it as it is, and grant it what the service needs. Safe to repeat.

    Must run as the owner of the tables; creating a role needs CREATEROLE.

    :param role: its name, quoted here.
    :param password: set where it is not empty.
    :returns: whether the role was created.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
        exists = cursor.rowcount == 1
        names = {"role": sql.Identifier(role), "database": sql.Identifier(connection.settings_dict["NAME"])}
        if not exists:
            cursor.execute(sql.SQL("CREATE ROLE {role} LOGIN").format(**names))
        if password:
            cursor.execute(sql.SQL("ALTER ROLE {role} PASSWORD {password}").format(password=sql.Literal(password), **names))
        for statement in GRANTS.strip().split("\n"):
            cursor.execute(sql.SQL(statement).format(**names))
    return not exists
