"""The import and every call of the API have the same rule for product ids."""

import io
import json
from urllib.parse import quote

import pytest

from baskets.domain.stock import catalog, catalog_file
from tests.api.conftest import Api, Sells, Stored
from tests.domain.stock.test_product_ids import INVALID, VALID
from tests.factories import TESTER

INVALID_ANSWER = (422, 3002, "validation_failed")


def json_line(product_id: str) -> catalog_file.CatalogFile:
    line = json.dumps({"product_id": product_id, "name": "Name", "main_product_id": product_id, "stock": 5})
    return catalog_file.read_catalog(io.BytesIO(line.encode()), name="file.jsonl")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("product_id", VALID)
def test_imported_product_works_in_every_call(api: Api, product_id: str) -> None:
    found = json_line(product_id)
    assert found.problems == []
    catalog.import_products(rows=found.rows, as_of=None, reason="import", actor=TESTER)
    item = {"productId": product_id, "count": 2, "mainProductIdentifier": product_id}
    path = quote(product_id, safe="")
    assert api.place(path, 2).data["cart"] == [item]
    assert [basket["userId"] for basket in api.get(f"/baskets?productId={path}").data] == ["ada"]
    assert api.patch(f"/baskets/users/ada/products/{path}", {"count": 3}).data["cart"] == [item | {"count": 3}]
    assert api.delete(f"/baskets/users/ada/products/{path}").data["cart"] == []
    assert api.post("/baskets/products/details", [product_id]).data["products"][0]["productId"] == product_id
    guest = api.post("/baskets/guests", {"products": [{"productId": product_id, "count": 2}]}).data
    assert guest["basket"]["cart"] == [item]


@pytest.mark.django_db
@pytest.mark.parametrize("product_id", INVALID)
def test_invalid_product_id_is_refused_by_every_call(api: Api, sells: Sells, product_id: str, stored_rows: Stored) -> None:
    sells("p1")
    before = stored_rows()
    path = quote(product_id, safe="")
    in_path = [api.request(method, f"/baskets/users/ada/products/{path}") for method in ("POST", "PATCH", "DELETE")]
    if "/" in product_id or not product_id:
        assert {answer.refusal for answer in in_path} == {(404, 404, "not_found")}
    else:
        assert [(answer.refusal, answer.fields) for answer in in_path] == [(INVALID_ANSWER, {"productId"})] * 3
    details = api.post("/baskets/products/details", ["p1", product_id])
    guest = api.post("/baskets/guests", {"products": [{"productId": "p1"}, {"productId": product_id}]})
    assert (details.refusal, guest.refusal) == (INVALID_ANSWER, INVALID_ANSWER)
    assert (details.fields, guest.fields) == ({"body[1]"}, {"products[1].productId"})
    if product_id:
        listed = api.get(f"/baskets?productId={path}")
        assert (listed.refusal, listed.fields) == (INVALID_ANSWER, {"productId"})
    problem = INVALID[product_id]
    main = [(1, f"main_product_id {problem}")] if product_id else []
    assert json_line(product_id).problems == [(1, f"product_id {problem}"), *main]
    assert stored_rows() == before
