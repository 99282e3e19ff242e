"""The floor: the least that a finish can cost on this machine, to measure ours against in the same run.

One stored function for each request behind a bare WSGI callable, committed durably. It knows no rule beyond its one
operation, keeps no timeline and checks no key. It is a lower bound, not a design.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import psycopg

SCHEMA = """
DROP SCHEMA IF EXISTS floor CASCADE;
CREATE SCHEMA floor;
CREATE TABLE floor.basket (user_id text PRIMARY KEY, in_checkout boolean NOT NULL, changed_at timestamptz NOT NULL) WITH (fillfactor = 75);
CREATE TABLE floor.item (user_id text, product_id int, cart int NOT NULL, checkout int NOT NULL, PRIMARY KEY (user_id, product_id));
CREATE TABLE floor.sale (user_id text NOT NULL, sold_at timestamptz NOT NULL, products int[] NOT NULL, pieces int[] NOT NULL);
CREATE FUNCTION floor.finish(buyer text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    open boolean;
    left_in_cart json;
BEGIN
    SELECT in_checkout INTO open FROM floor.basket WHERE user_id = buyer FOR NO KEY UPDATE;
    IF open IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    UPDATE floor.basket SET in_checkout = false, changed_at = clock_timestamp() WHERE user_id = buyer;
    WITH bought AS (DELETE FROM floor.item WHERE user_id = buyer AND checkout > 0 RETURNING product_id, checkout)
    INSERT INTO floor.sale SELECT buyer, clock_timestamp(), array_agg(product_id), array_agg(checkout) FROM bought;
    SELECT coalesce(json_agg(json_build_object('productId', product_id, 'count', cart)), '[]') INTO left_in_cart
    FROM floor.item WHERE user_id = buyer AND cart > 0;
    RETURN json_build_object('data', json_build_object('cart', left_in_cart, 'saved', '[]'::json, 'checkout', '[]'::json));
END $$;
"""
BASKETS = "INSERT INTO floor.basket SELECT 'u' || n, true, now() FROM generate_series(1, %s) AS n"
ITEMS = """
INSERT INTO floor.item SELECT 'u' || n, (n * 13 + place * 331) %% 1000, 0, 1
FROM generate_series(1, %s) AS n, generate_series(1, %s) AS place
"""

_here = threading.local()


def load(database_url: str, *, baskets: int, items: int) -> None:
    """Recreate the tables, with baskets `u1` and up in an active checkout; each can be finished once."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute(BASKETS, [baskets])
        connection.execute(ITEMS, [baskets, items])
        connection.execute("VACUUM ANALYZE floor.basket, floor.item")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Finish the basket that the address names."""
    json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    if not hasattr(_here, "connection"):
        _here.connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, prepare_threshold=1)
    (answer,) = _here.connection.execute("SELECT floor.finish(%s)", [environ["PATH_INFO"].rpartition("/")[2]]).fetchone()
    body = (answer or "{}").encode()
    start_response("200 OK" if answer else "422 Unprocessable Entity", [("Content-Length", str(len(body)))])
    return [body]
